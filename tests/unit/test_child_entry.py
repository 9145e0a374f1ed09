"""Importing an entry script under its own name, and how its run() is called."""

# ruff: noqa: ARG005 the parameters are what is tested

import functools
import sys

import pytest

from mpirun_infer.child import entry


@pytest.fixture(autouse=True)
def _clean_imports(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def loaded(folder, name, text, module=None):
    script = folder / name
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(text)
    entry.prepare([str(script.parent), str(folder)], [str(script), "--x=1"])
    found = entry.EntryScript(str(script), module or script.stem)
    found.load()
    return found


def test_the_folders_of_the_script_come_first_wherever_they_were(monkeypatch):
    monkeypatch.setattr(sys, "path", ["/lib", "/mine", "/site", "/root"])
    entry.prepare(["/root", "/mine"], ["s.py"])
    assert sys.path == ["/root", "/mine", "/lib", "/site"]
    entry.prepare(["/root", "/mine"], ["s.py"])
    assert sys.path == ["/root", "/mine", "/lib", "/site"]


SELF = """
import sys
me = sys.modules[__name__]
def run(mini_batch):
    return [__name__, __file__, me.run is run, sys.argv, list(mini_batch), mini_batch.task_id]
"""


@pytest.mark.parametrize("name", ["score.py", "runner.py", "wire.py", "digit-1.py", "train.py"])
def test_a_script_has_its_own_name_and_path(tmp_path, name):
    script = loaded(tmp_path, name, SELF)
    path = str(tmp_path / name)
    expected = [name[:-3], path, True, [path, "--x=1"], ["/a"], 4]
    assert expected == script.run(["/a"], 4)


@pytest.mark.parametrize("package", [True, False])
def test_a_nested_script_is_a_module_of_its_package(tmp_path, package):
    (tmp_path / "src_of_test").mkdir()
    if package:
        (tmp_path / "src_of_test" / "__init__.py").write_text("ready = True")
    (tmp_path / "src_of_test" / "helper.py").write_text("value = 5")
    text = "from src_of_test.helper import value\nfrom . import helper\n"
    text += "def run(m): return [__name__, value, helper.value]\n"
    script = loaded(tmp_path, "src_of_test/entry.py", text, "src_of_test.entry")
    assert script.run([], 0) == ["src_of_test.entry", 5, 5]
    assert sys.modules["src_of_test"].entry is sys.modules["src_of_test.entry"]


def test_dots_that_are_part_of_a_name_do_no_harm(tmp_path):
    script = loaded(tmp_path, "score.v2.py", SELF, "score.v2")
    assert script.run([], 0)[0] == "score.v2"


def test_a_package_that_fails_is_told_as_it_fails(tmp_path):
    (tmp_path / "pkg_of_test").mkdir()
    (tmp_path / "pkg_of_test" / "__init__.py").write_text("import no_such_module_here")
    with pytest.raises(ModuleNotFoundError, match="no_such_module_here"):
        loaded(tmp_path, "pkg_of_test/entry.py", SELF, "pkg_of_test.entry")


def test_siblings_can_be_imported(tmp_path):
    (tmp_path / "sibling_of_test.py").write_text("value = 6")
    text = "import sibling_of_test\ndef run(m): return [sibling_of_test.value]"
    assert loaded(tmp_path, "score.py", text).run([], 0) == [6]


def test_a_script_that_failed_leaves_no_module(tmp_path):
    with pytest.raises(ZeroDivisionError):
        loaded(tmp_path, "score_of_test.py", "1 / 0")
    assert "score_of_test" not in sys.modules


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def init(): pass", "has no run.. function"),
        ("run = 3", "run is no function but 3"),
        ("init = 3\ndef run(m): pass", "init is no function"),
        ("def run(): pass", "takes no argument"),
        ("def run(*, m): pass", "takes no argument"),
        ("def run(a, b, c): pass", "takes 3 arguments"),
    ],
)
def test_a_script_that_can_never_work_is_refused(tmp_path, text, message):
    with pytest.raises(entry.UsageError, match=message):
        loaded(tmp_path, "score.py", text)


def decorated(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


class Caller:
    def __call__(self, mini_batch, context):
        """Two arguments besides self."""


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (lambda mini_batch: 0, False),
        (lambda mini_batch, context: 0, True),
        (lambda x, whatever=None: 0, True),
        (lambda *args: 0, True),
        (lambda mini_batch, *args: 0, True),
        (lambda mini_batch, *, context=None: 0, False),
        (lambda mini_batch, **kwargs: 0, False),
        (lambda a, b, c=3: 0, True),
        (decorated(lambda mini_batch: 0), False),
        (decorated(lambda mini_batch, context: 0), True),
        (functools.partial(lambda a, m: 0, 1), False),
        (Caller(), True),
        (len, False),
        (print, True),
        (min, False),
    ],
)
def test_who_gets_a_context(run, expected):
    assert expected == entry.wants_context(run, "score.py")


def test_a_mini_batch_is_a_list_of_paths():
    mini_batch = entry.MiniBatch(["/a"])
    assert isinstance(mini_batch, list)
    assert (list, (["/a"],)) == mini_batch.__reduce__()
