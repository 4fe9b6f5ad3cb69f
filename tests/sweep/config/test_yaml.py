"""In a sweep.yaml a word means what it means on the command line; what YAML would guess or drop is refused."""

import pytest
import yaml

from datasets.errors import InputError
from sweep.cli import parse
from sweep.config.yaml_io import _Loader, from_yaml, to_yaml


@pytest.fixture
def read(tmp_path):
    path = tmp_path / "sweep.yaml"

    def _read(text):
        path.write_text(text, encoding="utf-8")
        return from_yaml(path)

    return _read


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("engine: {compile: no}", ["--engine.compile", "no"]),
        ("seeds: [010, 1_000]", ["--seeds", "010", "1_000"]),
        ("rho: [1e-1, .5, 1]", ["--rho", "1e-1", ".5", "1"]),
        ("recipe: {moco: {lr: 1e-3}}", ["--moco.lr", "1e-3"]),
        ("out: 2026-11-30", ["--out", "2026-11-30"]),
        ("out: no", ["--out", "no"]),
        ("out: 12:30", ["--out", "12:30"]),
        ("patience: .inf\ncheckpoint_every: inf", ["--patience", "inf", "--checkpoint-every", "inf"]),
        ("skip_bad: yes\nretry_failed: on\nreport: off", ["--skip-bad", "--retry-failed", "--no-report"]),
        ("skip_bad: true\nreport: False\nstore: ~\ndata_root: null", ["--skip-bad", "--no-report"]),
    ],
)
def test_a_word_means_what_it_means_on_the_command_line(read, tmp_path, text, flags):
    (tmp_path / "empty.yaml").write_text("{}")
    assert read(text) == parse(["--config", str(tmp_path / "empty.yaml"), *flags]).sweep != read("{}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds: [1:30]", "seeds 1:30: should be a valid integer"),
        ("checkpoint_every: 1:30", "checkpoint_every 1:30: should be a valid number"),
        ("nu: [on]", "nu on: should be a valid number"),
        ("engine: {compile: off}", "engine.compile off: should be 'auto', 'no'"),
        ("out: 2026", "out 2026: should be text; in quotes, if it looks like a number"),
        ("out:", "out: should be text"),
        ("rho: 0.5", "rho 0.5: should be a list, as in [a, b]"),
        ("engine: no", "engine no: should be a mapping of settings"),
        ("seeds: [0]\nrho: [0]\nseeds: [1]", "'seeds' is given twice, in line 1 and in line 3: remove one of them"),
        ("recipe:\n  moco:\n    lr: 1\n    'lr': 2\n", "'lr' is given twice, in line 3 and in line 4"),
        ("{rho: [0], rho: [1]}", "'rho' is given twice, in line 1 and in line 1"),
        ("out: ''", "--out is empty: give a path"),
        ("data_root: ''", "data_root: is empty: give a path"),
        ("store: ${NO_SUCH_VARIABLE}/x", "store ${NO_SUCH_VARIABLE}/x: the variable ${NO_SUCH_VARIABLE} is not set"),
        ("out: $NO_SUCH_VARIABLE/x", "--out the variable $NO_SUCH_VARIABLE is not set: set it, or write the path out"),
        ("store: ~no-such-user/x", "store ~no-such-user/x: no home folder ~no-such-user is known"),
    ],
)
def test_what_yaml_would_guess_or_drop_is_refused(read, text, message):
    with pytest.raises(InputError) as error:
        read(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_merged_mapping_may_be_overridden(read):
    sweep = read("engine: &plain {precision: fp32, compile: no}\n<<: {seeds: [3], rho: [0]}\nrho: [1]")
    assert (sweep.seeds, sweep.rho, sweep.engine.precision) == ((3,), (1.0,), "fp32")


@pytest.mark.parametrize(
    "value",
    [
        "no",
        "1e-3",
        "1.5e3",
        "010",
        "0o17",
        "0x1F",
        "1:30",
        "2026-11-30",
        "~",
        "",
        "null",
        "=",
        "<<",
        ".5",
        "+1",
        "True",
    ],
)
def test_a_text_is_read_back_as_that_text(value):
    assert _Loader(yaml.safe_dump([value, {value: value}])).get_single_data() == [value, {value: value}]


def test_an_address_may_be_in_a_variable(read, monkeypatch):
    monkeypatch.setenv("RESULTS", "s3://bucket/name")
    assert read("out: $RESULTS/a").out == "s3://bucket/name/a"


def test_home_and_variables_are_found_in_every_path(read, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SCRATCH", str(tmp_path))
    sweep = read("{out: ~/a, data_root: $SCRATCH/b, store: ~/c, imagenet_weights: ~}")
    assert (sweep.out, sweep.data_root, sweep.store, sweep.imagenet_weights) == (
        tmp_path / "a",
        tmp_path / "b",
        tmp_path / "c",
        None,
    )
    (tmp_path / "own.yaml").write_text(to_yaml(sweep))
    again = parse(["--config", "~/own.yaml", "--out=~/d", "--imagenet-weights", "~/e"]).sweep
    assert (again.out, again.store, again.imagenet_weights) == (tmp_path / "d", tmp_path / "c", tmp_path / "e")
