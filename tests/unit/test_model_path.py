"""One search for models: the launcher's and the entry script's answers belong together."""

import importlib
import os
import sys

import pytest

from mpirun_infer.child import compat
from mpirun_infer.supervise.model_path import find_model


@pytest.fixture
def script_finds(tmp_path, monkeypatch):
    """What `Model.get_model_path` says in a script."""
    monkeypatch.setitem(sys.modules, compat.NAME, compat)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setenv(compat.VARIABLE, "")
    compat.install({"start_folder": str(tmp_path)})

    def find(name, version, environ):
        for variable in ("MPIRUN_INFER_MODELS", "AML_APP_ROOT"):
            monkeypatch.delenv(variable, raising=False)
        for variable, value in environ.items():
            monkeypatch.setenv(variable, value)
        return importlib.import_module("azureml.core.model").Model.get_model_path(name, version)

    yield find
    for name in tuple(sys.modules):
        if name.partition(".")[0] == "azureml":
            del sys.modules[name]


def put(root, *parts):
    path = root.joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")


@pytest.mark.parametrize("version", [None, "1", "2"])
@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"MPIRUN_INFER_MODELS": "mine"},
        {"AML_APP_ROOT": "{tmp}/app"},
        {"MPIRUN_INFER_MODELS": "{tmp}/nowhere", "AML_APP_ROOT": "{tmp}/app"},
    ],
)
def test_launcher_and_script_find_the_same(tmp_path, script_finds, version, environ):
    put(tmp_path, "mine/m/2/a.pt")
    put(tmp_path, "app/azureml-models/m/1/b.pt")
    put(tmp_path, "azureml-models/m/1/c.pt")
    put(tmp_path, "azureml-models/m/2/d.pt")
    put(tmp_path, "azureml-models/m/3")  # a file is no version
    environ = {name: value.format(tmp=tmp_path) for name, value in environ.items()}
    folder = find_model("m", version, environ, str(tmp_path))
    assert folder == os.path.dirname(script_finds("m", version, environ))


@pytest.mark.parametrize("name", ["folder", "file"])
def test_a_plain_one_is_the_same_for_both(tmp_path, script_finds, name):
    (tmp_path / "folder").mkdir()
    put(tmp_path, "file")
    expected = str(tmp_path / name)
    assert expected == find_model(name, None, {}, str(tmp_path))
    assert expected == script_finds(name, None, {})


def test_nowhere_is_told_with_the_versions_that_there_are(tmp_path, script_finds):
    for version in ("2", "10"):
        (tmp_path / "azureml-models/m" / version).mkdir(parents=True)
    with pytest.raises(LookupError) as told:
        find_model("m", "3", {}, str(tmp_path))
    assert f"{tmp_path}/azureml-models/m/3 (it has: 2, 10), {tmp_path}/m;" in str(told.value)
    with pytest.raises(FileNotFoundError) as in_script:
        script_finds("m", "3", {})
    assert str(told.value) == str(in_script.value)
