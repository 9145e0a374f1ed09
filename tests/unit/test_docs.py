"""The papers: they are generated where they can be, their links resolve, they leave nothing out."""

import importlib.util
import re
from pathlib import Path

import click
import pytest

from mpirun_infer.cli.main import program
from mpirun_infer.errors import ExitCode
from mpirun_infer.parameters import PARAMETERS

ROOT = Path(__file__).parents[2]
PAPERS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md", "slurm/**/*.md")
    for path in ROOT.glob(pattern)
)
NAMES = [str(path.relative_to(ROOT)) for path in PAPERS]

FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)
SECRET_WORDS = {
    "a number of the tracker": r"(?<![\w&])#\d+\b|\b[Ii]ssues? \d|\bPR \d",
    "a folder of the workshop": r"\bshared/|(?<![\w.])/(?:work|tmp/[dw])/",
    "the host of a registry": r"pypi\.org|pythonhosted|anaconda|docker\.io|ghcr\.io|npmjs|"
    r"crates\.io|proxy\.golang|\d+\.\d+\.\d+\.\d+",
}


def text_of(path):
    return path.read_text(encoding="utf-8")


def anchors(path):
    """The names that a heading of this page can be linked by."""
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        for heading in HEADING.findall(FENCED.sub("", text_of(path)))
    }


def names_in(text, name):
    """Whether this very option stands there, and not only a longer one that begins like it."""
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text) is not None


@pytest.fixture(scope="module")
def make_job_file():
    path = ROOT / "docs" / "make_job_file.py"
    spec = importlib.util.spec_from_file_location("make_job_file", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def papers():
    """All that a user is told, as one text."""
    docs = (path for path in PAPERS if path.name == "README.md" or path.parent.name == "docs")
    return "\n".join(map(text_of, docs))


def options():
    """(command, spelling) of every option, hidden ones too."""
    context = click.Context(program, info_name="mpirun-infer")
    yield from (("", name) for option in program.params for name in option.opts)
    for name in program.list_commands(context):
        command = program.get_command(context, name)
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                spellings = (*parameter.opts, *parameter.secondary_opts)
                yield from ((name, text) for text in spellings if text.startswith("--"))


def test_the_papers_are_there():
    wanted = {"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"}
    assert wanted <= set(NAMES)


def test_the_page_of_the_job_file_says_what_the_table_says(make_job_file):
    """If this fails: `python docs/make_job_file.py`."""
    assert text_of(make_job_file.PAGE) == make_job_file.page()


def test_the_page_of_the_job_file_has_a_line_for_every_key(make_job_file):
    rows = re.findall(r"^\| `(\w+)`", make_job_file.page(), re.MULTILINE)
    assert sorted(rows) == sorted(PARAMETERS)


@pytest.mark.parametrize("path", PAPERS, ids=NAMES)
def test_every_relative_link_resolves(path):
    dead = []
    for target in LINK.findall(FENCED.sub("", text_of(path))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        page = (path.parent / name).resolve() if name else path
        if not page.exists() or (anchor and anchor not in anchors(page)):
            dead.append(target)
    assert dead == []


@pytest.mark.parametrize(("command", "option"), sorted(set(options())))
def test_every_option_is_told(papers, command, option):
    assert names_in(papers, option), f"mpirun-infer {command} {option} stands in no paper"


def test_every_command_is_told(papers):
    commands = program.list_commands(click.Context(program))
    missing = [name for name in commands if f"mpirun-infer {name}" not in papers]
    assert missing == []


def test_the_table_of_exit_codes_is_whole():
    section = text_of(ROOT / "README.md").partition("## Exit codes")[2].partition("\n## ")[0]
    told = [int(code) for code in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)]
    assert told == sorted(ExitCode)


def test_every_key_that_comes_later_is_owned_up_to():
    section = text_of(ROOT / "README.md").partition("does not offer yet")[2].partition("\n## ")[0]
    later = [row.name for row in PARAMETERS.values() if row.later]
    missing = [name for name in later if f"`{name}" not in section]
    assert missing == []


@pytest.mark.parametrize("path", PAPERS, ids=NAMES)
@pytest.mark.parametrize("what", SECRET_WORDS)
def test_no_paper_speaks_of_the_workshop(path, what):
    found = re.search(SECRET_WORDS[what], text_of(path))
    assert found is None, f"{path.name} holds {what}: {found[0]}"


def test_figures_to_be_filled_in_stand_in_one_place():
    for path in PAPERS:
        before, _, rest = text_of(path).partition("\n## Figures")
        _, _, after = rest.partition("\n## ")
        assert "FIGURE" not in before + after, path.name
