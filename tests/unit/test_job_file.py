"""The job file: the dialect, precedence, and every error at once with its place."""

import pytest

from mpirun_infer.errors import ConfigError
from mpirun_infer.launch.foreign import FOREIGN
from mpirun_infer.launch.job_file import Override, draft_job, set_override
from mpirun_infer.launch.yaml_text import read_document, read_value

NEEDED = "entry_script: s.py\ninputs: in\noutput: out\n"


def parse_job(text, *, file_name, overrides=()):
    """As the launcher does it, without a look at the file system."""
    draft = draft_job(
        text, file_name=file_name, file_folder="", current_folder="", overrides=overrides
    )
    draft.check()
    return draft.job


def problems(text, *overrides):
    with pytest.raises(ConfigError) as caught:
        parse_job(text, file_name="job.yaml", overrides=overrides)
    return list(caught.value.lines)


def test_yaml_is_1_2():
    values = read_document("a: off\nb: 1:00:00\nc: 0o17\nd: true\ne: ~\nf: 2020-01-01\n").values
    assert values == {"a": "off", "b": "1:00:00", "c": 15, "d": True, "e": None, "f": "2020-01-01"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("-0x10", -16),
        ("010", 10),
        ("1_0", "1_0"),
        (".5", 0.5),
        ("-.inf", float("-inf")),
        ('"1"', "1"),
        ("[1, a]", [1, "a"]),
        ("", None),
    ],
)
def test_scalars(text, value):
    assert value == read_value(text, "key")


def test_numbers_for_the_script_keep_their_spelling():
    job = parse_job(
        NEEDED + "arguments: [0.10, 007, -1e3, 'x y']\nparameters: {p: 1.50}\n"
        "environment_variables: {V: 0x1F}\n",
        file_name="job.yaml",
    )
    assert job.arguments == ("0.10", "007", "-1e3", "x y")
    assert job.parameters == {"p": "1.50"}
    assert job.environment_variables == {"V": "0x1F"}


def test_all_errors_come_at_once_in_the_order_of_the_file():
    text = (
        "entry_script: score.py\n"
        "mini_batch_sise: 5\n"
        "error_threshold: -5\n"
        "inputs: {images: 5}\n"
        "strict_rows: off\n"
        "environment: {conda: x}\n"
        "run_max_try: 1\n"
        "run_max_try: 3\n"
    )
    expected = [
        "job.yaml:2: mini_batch_sise: unknown key; did you mean mini_batch_size?",
        (
            "job.yaml:3: error_threshold: -5 is out of range; an integer >= -1 is wanted "
            "(-1 ignores failures)"
        ),
        (
            "job.yaml:4: inputs.images: 5 is not accepted; a path, a list of paths or a map "
            "of names to paths is wanted"
        ),
        "job.yaml:5: strict_rows: off is not accepted; true or false is wanted",
        "job.yaml:6: environment.conda: is not offered by this version yet; give {python: PATH}",
        "job.yaml:8: run_max_try: given twice, first on line 7; keep one",
        "job.yaml: output: missing; a folder is wanted (--output)",
        "--set crash_limit: 0 is out of range; an integer >= 1 is wanted",
        "--workers: 0 is out of range; an integer >= 1 and at most 100000 is wanted",
    ]
    overrides = [set_override("crash_limit=0"), Override("--workers", ("workers",), "0")]
    found = problems(text, *overrides)
    assert expected[:6] == found[:6]
    assert sorted(expected[6:]) == sorted(found[6:])


def test_without_a_file_the_key_stands_alone():
    with pytest.raises(ConfigError) as caught:
        parse_job("", file_name="")
    assert list(caught.value.lines) == [
        (
            "entry_script: missing; the path of a Python file or a dotted module is wanted "
            "(--entry-script)"
        ),
        "inputs: missing; a path, a list of paths or a map of names to paths is wanted (--input)",
        "output: missing; a folder is wanted (--output)",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\n", "job.yaml:2: no valid YAML"),
        ("\tx: 1", "job.yaml:1: no valid YAML"),
        ("a: 1\n---\nb: 2\n", "job.yaml:2: no valid YAML"),
        ("- a\n- b\n", "job.yaml:1: a job file is a map"),
        ("just text", "job.yaml:1: a job file is a map"),
        ("a: !!python/object:os.system x\n", "job.yaml:1: the tag"),
        ("parameters: &x {k: 1}\nslurm:\n  <<: *x\n", "job.yaml:3: merge keys"),
        ("? [a]\n: b\n", "job.yaml:1: a key is a name"),
        ("a: &a [*a]\n", "job.yaml:1: too many or too deeply nested"),
        ("[" * 5000, "job.yaml"),
        ("a: \x07", "job.yaml"),
        ("x" * (1 << 20) + "x", "job.yaml: larger than 1 MiB"),
    ],
)
def test_text_that_is_no_job_is_one_clear_line(text, message):
    found = problems(text)
    assert found[0].startswith(message)
    assert "\n" not in found[0]


def test_aliases_work_and_cannot_multiply():
    job = parse_job(NEEDED + "arguments: [&x a, *x]\n", file_name="job.yaml")
    assert job.arguments == ("a", "a")
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
    )
    assert any("too many" in line for line in problems(bomb))


def test_precedence_is_option_then_set_then_file_then_default():
    text = NEEDED + "run_max_try: 4\ninit_max_try: 4\ncrash_limit: 4\n"
    job = parse_job(
        text,
        file_name="job.yaml",
        overrides=[
            set_override("run_max_try=5"),
            set_override("init_max_try=5"),
            Override("--run-max-try", ("run_max_try",), "6"),
        ],
    )
    assert (
        job.run_max_try,
        job.init_max_try,
        job.crash_limit,
        job.mini_batch_size,
    ) == (6, 5, 4, 10)


def test_set_reaches_into_maps_and_null_gives_the_default():
    job = parse_job(
        NEEDED + "workers: 4\nparameters: {a: x}\n",
        file_name="job.yaml",
        overrides=[set_override("parameters.b=0.10"), set_override("workers=null")],
    )
    assert job.parameters == {"a": "x", "b": "0.10"}
    assert job.workers is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("foo", "--set foo: key=value is wanted, as in --set run_max_try=2"),
        ("=5", "--set : key=value is wanted, as in --set run_max_try=2"),
        ("run_max_tri=2", "--set run_max_tri: unknown key; did you mean run_max_try?"),
        ("foo.bar=3", "--set foo.bar: unknown key; see mpirun-infer run --help"),
        ("retry_settings.x=3", "--set retry_settings.x: unknown key; see mpirun-infer run --help"),
        ("table.x=1", "--set table.x: a map is not offered by this version yet; leave it out"),
        ("inputs.x=2", "--set inputs.x: inputs is in, not a map; set it whole"),
        ("run_max_try=0", "--set run_max_try: 0 is out of range; an integer >= 1 is wanted"),
    ],
)
def test_wrong_set(text, message):
    assert [message] == problems(NEEDED, set_override(text))


def test_set_that_is_no_yaml():
    assert problems(NEEDED, set_override("arguments=[a"))[0].startswith("--set arguments: ")


@pytest.mark.parametrize("key", [key for key in FOREIGN if "." not in key])
def test_names_of_other_systems_are_errors_that_name_ours(key):
    assert [f"job.yaml:4: {key}: {FOREIGN[key]}"] == problems(NEEDED + f'"{key}": 5\n')


def test_nested_names_of_other_systems():
    text = NEEDED + "retry_settings: {timeout: 5, max_retries: 2}\ntask:\n  code: src\n"
    assert problems(text) == [
        "job.yaml:4: retry_settings.timeout: is run_invocation_timeout here",
        (
            "job.yaml:4: retry_settings.max_retries: is run_max_try here, which also counts the "
            "first try: run_max_try = max_retries + 1"
        ),
        "job.yaml:6: task.code: is source_directory here",
    ]


def test_fields_that_resolving_fills_cannot_be_given():
    assert "unknown key" in problems(NEEDED + "entry_module: x\n")[0]
