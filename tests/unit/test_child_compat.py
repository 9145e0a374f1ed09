"""The stand-ins: served only where an import would fail, honest about what they cannot do."""

import importlib
import importlib.util
import json
import logging
import os
import pickle
import sys
from pathlib import Path

import pytest

from mpirun_infer.child import compat


@pytest.fixture
def facts(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, compat.NAME, compat)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("MPIRUN_INFER_MODELS", "AML_APP_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(compat.VARIABLE, "")
    facts = {
        "agent_name": "process007",
        "logging_level": "INFO",
        "process": 7,
        "start_folder": str(tmp_path),
        "folders": {
            "output_dir": str(tmp_path / "output"),
            "log_dir": str(tmp_path / "logs"),
            "working_dir": str(tmp_path / "work"),
            "metrics": str(tmp_path / "metrics" / "7.jsonl"),
            "entry_log": str(tmp_path / "entry" / "7.log.txt"),
        },
    }
    compat.install(facts)
    yield facts
    logger = logging.getLogger("azureml_user.parallel_run")
    for handler in tuple(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    for name in tuple(sys.modules):
        if name.partition(".")[0] in ("azureml", "azureml_user", "mltable"):
            del sys.modules[name]


def model_class():
    return importlib.import_module("azureml.core.model").Model


@pytest.mark.parametrize("name", sorted(compat.FILES))
def test_every_stand_in_can_be_imported_first(facts, name):
    assert importlib.import_module(name).__name__ == name


def test_names_can_be_imported_in_the_ways_that_scripts_use(facts):
    from azureml.core import Dataset, Experiment, Model, Run, Workspace
    from azureml.core.dataset import Dataset as SameDataset
    from azureml.core.experiment import Experiment as SameExperiment
    from azureml.core.model import Model as SameModel
    from azureml.core.run import Run as SameRun
    from azureml.core.workspace import Workspace as SameWorkspace

    same = (SameDataset, SameExperiment, SameModel, SameRun, SameWorkspace)
    assert (Dataset, Experiment, Model, Run, Workspace) == same


def test_a_real_azureml_is_left_alone_and_completed(facts, tmp_path):
    (tmp_path / "site" / "azureml" / "mlflow").mkdir(parents=True)
    (tmp_path / "site" / "azureml" / "__init__.py").write_text("real = True")
    (tmp_path / "site" / "azureml" / "mlflow" / "__init__.py").write_text("real = True")
    sys.path.insert(0, str(tmp_path / "site"))
    import azureml
    import azureml.core.run
    import azureml.mlflow

    assert (azureml.real, azureml.mlflow.real) == (True, True)
    assert azureml.core.run.Run.get_context().parent is not None
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("azureml.telemetry")


def test_nothing_else_is_served(facts):
    assert importlib.util.find_spec("azure") is None
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("azureml_other")


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("from azureml.core import Environment", "azureml.core.Environment"),
        ("from azureml.core.run import _OfflineRun", "azureml.core.run._OfflineRun"),
        ("import azureml.data", "azureml.data"),
        ("import azureml.workspace", "azureml.workspace"),
        ("from azureml.core.authentication import X", "azureml.core.authentication"),
        ("import azureml.core; azureml.core.Datastore", "azureml.core.Datastore"),
        ("from azureml.core import Dataset; Dataset.get_by_name(1)", "Dataset.get_by_name"),
        ("from azureml.core import Workspace; Workspace()", "Workspace"),
        ("from azureml.core import Model; Model.register", "Model.register"),
        ("from azureml.core import Run; Run.get_context().experiment", "Run.experiment"),
        ("import mltable; mltable.load('x')", "mltable.load"),
    ],
)
def test_what_needs_azure_says_so_by_its_name(facts, statement, name):
    with pytest.raises((ImportError, AttributeError), match=f"{name}.* needs Azure"):
        exec(statement, {})


def test_asking_whether_something_is_there_is_no_error(facts):
    from azureml.core import Dataset, Run

    assert not hasattr(Dataset, "get_by_name")
    assert not hasattr(Run.get_context(), "experiment")
    assert not hasattr(importlib.import_module("azureml"), "__version__")


# --------------------------------------------------------------------------- models


def put(root, *parts):
    path = root.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    return str(path)


def test_the_highest_version_of_a_model_is_found(facts, tmp_path):
    put(tmp_path, "azureml-models", "mnist", "9", "a.pt")
    ten = put(tmp_path, "azureml-models", "mnist", "10", "b.pt")
    put(tmp_path, "azureml-models", "mnist", "latest", "c.pt")
    assert ten == model_class().get_model_path("mnist")
    nine = model_class().get_model_path("mnist", 9)
    assert nine == model_class().get_model_path("mnist", version="9")
    assert nine.endswith("/9/a.pt")


def test_models_are_searched_in_order(facts, tmp_path, monkeypatch):
    plain = put(tmp_path, "mnist")
    assert plain == model_class().get_model_path("mnist")
    third = put(tmp_path, "azureml-models", "mnist", "1", "m")
    assert third == model_class().get_model_path("mnist")
    monkeypatch.setenv("AML_APP_ROOT", str(tmp_path / "app"))
    assert third == model_class().get_model_path("mnist")
    second = put(tmp_path, "app", "azureml-models", "mnist", "1", "m")
    assert second == model_class().get_model_path("mnist")
    monkeypatch.setenv("MPIRUN_INFER_MODELS", "models")
    first = put(tmp_path, "models", "mnist", "1", "m")
    assert first == model_class().get_model_path("mnist")
    put(tmp_path, "azureml-models", "mnist", "5", "only_here")
    assert model_class().get_model_path("mnist", 5).endswith("only_here")


def test_a_model_that_is_nowhere_names_the_places(facts, tmp_path):
    with pytest.raises(FileNotFoundError) as told:
        model_class().get_model_path("mnist", 3)
    assert f"{tmp_path}/azureml-models/mnist/3, {tmp_path}/mnist" in str(told.value)
    assert "MPIRUN_INFER_MODELS" in str(told.value)


@pytest.mark.parametrize("names", [[], ["a.bin", "b.bin"]])
def test_a_version_must_hold_exactly_one_entry(facts, tmp_path, names):
    folder = tmp_path / "azureml-models" / "mnist" / "1"
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text("x")
    with pytest.raises(FileNotFoundError, match=f"it holds {len(names)}: {', '.join(names)}"):
        model_class().get_model_path("mnist")


# --------------------------------------------------------------------------- Run, EntryScript


def test_metrics_are_kept_in_the_run_folder(facts, monkeypatch):
    monkeypatch.setenv("AZUREML_RUN_ID", "run-1")
    from azureml.core import Run

    class Scalar:
        def item(self):
            return 0.25

    run = Run.get_context(allow_offline=False)
    run.log("loss", Scalar(), description="d", step=3)
    run.parent.log("name", "text")
    text = Path(facts["folders"]["metrics"]).read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    first = {"name": "loss", "value": 0.25, "description": "d", "step": 3, "process": 7}
    assert first == lines[0]
    assert lines[1]["value"] == "text"
    assert (run.id, run.parent.id) == ("run-1", "run-1")


def test_the_entry_script_helper(facts, tmp_path):
    from azureml_user.parallel_run import EntryScript

    helper = EntryScript()
    assert helper is EntryScript(logging_level="DEBUG")
    assert helper is pickle.loads(pickle.dumps(helper))
    log = tmp_path / "entry" / "7.log.txt"
    helper.config_log()
    assert not log.exists()
    helper.logger.debug("caf\u00e9 \udce9")
    assert "DEBUG caf\u00e9 \\udce9\n" in log.read_text()
    assert os.path.isdir(helper.output_dir)
    assert os.path.isdir(helper.log_dir)
    assert ("process007", str(tmp_path / "work")) == (helper.agent_name, helper.working_dir)


def test_spawned_processes_get_the_same_facts(facts):
    given = dict(compat.facts)
    compat.facts.clear()
    compat.install_inherited()
    assert given == compat.facts
    assert sum(finder is compat.Finder for finder in sys.meta_path) == 1
