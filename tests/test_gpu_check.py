"""`python -m benchmarks.gpu`: a part that fails costs only itself, and every part runs on a CPU at small sizes."""

import inspect
import json
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from pkgutil import resolve_name

import pandas as pd
import pytest
import torch

from benchmarks.gpu import __main__, ceilings, cells, commands, large, recipes, same_bits, sharing, steps, waits
from benchmarks.gpu.apart import Part
from benchmarks.gpu.parts import PARTS
from benchmarks.gpu.recipes import ENGINE, MOCO_VIEWS, PAPER, SMALL, XBD, XBD_HOST
from benchmarks.gpu.report import Report, Setting, fault_of, read_rows
from datasets.tiles import sides
from tests.helpers.command import ROOT
from trainables.models.encoders import make_encoder
from trainables.run_cell import run_cell

FAKES = "tests.helpers.fake_gpu_parts"


def setting_in(folder: Path, **changed) -> Setting:
    values = {"part": "some", "folder": str(folder), "tiny": True, "begun": time.time(), "seconds": 60.0}
    return Setting(**(values | changed))


@pytest.fixture
def setting(tmp_path):
    return setting_in(tmp_path)


@pytest.fixture
def rows(setting):
    """The rows of a part that runs in this process."""

    def of(run):
        run(setting, Report(setting))
        return read_rows(setting.rows)

    return of


@pytest.fixture
def torch_as_before():
    """Parts prepare torch for an engine, in processes of their own."""
    threads, cudnn = torch.get_num_threads(), torch.backends.cudnn.benchmark
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = cudnn


@pytest.fixture
def with_fakes(monkeypatch):
    """The parts are fakes, on a pretended GPU."""

    def pretend(*names, machine="machine", **parts):
        parts = {name: Part(function=f"{FAKES}:{name}", seconds=60) for name in names} | parts
        monkeypatch.setattr(__main__, "PARTS", parts)
        monkeypatch.setattr(__main__, "MACHINE", Part(function=f"{FAKES}:{machine}", seconds=60))

    return pretend


def test_a_part_that_fails_costs_only_itself(with_fakes, tmp_path, capfd):
    with_fakes("raises", "raises_outside_of_a_case", "checks", "crashes", "silent", "lacks_memory", "skips", "sound")
    assert __main__.main(["--out", str(tmp_path / "found.json")]) == 1
    written = json.loads((tmp_path / "found.json").read_text())
    assert written["machine"] == {"gpu": "a pretended one"}
    assert written["passed"] is False
    found = {part["part"]: part for part in written["parts"]}
    assert {name: part["state"] for name, part in found.items()} == {
        "raises": "failed",
        "raises_outside_of_a_case": "failed",
        "checks": "failed",
        "crashes": "failed",
        "silent": "failed",
        "lacks_memory": "done",
        "skips": "skipped",
        "sound": "done",
    }
    assert found["raises"]["why"].startswith(f"first: RuntimeError: of two lines ({Path(*FAKES.split('.'))}.py:")
    assert found["raises"]["rows"][1] == {"case": "second", "value": 1}
    assert "the part itself: KeyError" in found["raises_outside_of_a_case"]["why"]
    assert found["checks"]["why"] == "a law: check failed (differing ['loss'])"
    assert found["crashes"]["why"] == "its process was killed by SIGKILL"
    assert found["crashes"]["rows"] == [{"case": "before", "value": 1}]
    assert found["crashes"]["stderr"] == ["the last words"]
    assert found["silent"]["why"] == "it reported nothing"
    assert found["lacks_memory"]["rows"][0]["skipped"].startswith("not enough memory")
    assert (found["skips"]["why"], found["sound"]["why"]) == ("no Ray", "")
    assert found["sound"]["rows"][0] == {"case": "a figure", "value": 0.5, "missing": "nan"}
    said = capfd.readouterr().out
    assert said.count("\nFAILED") == 5
    for name, part in found.items():
        assert any(name in line and part["why"] in line for line in said.splitlines())
    assert "a figure" in said  # printed as it came, by the process of the part


def test_a_part_that_hangs_is_cut_off_and_says_where(with_fakes, tmp_path):
    with_fakes(hangs=Part(function=f"{FAKES}:hangs", seconds=3), sound=Part(function=f"{FAKES}:sound", seconds=60))
    begun = time.monotonic()
    assert __main__.main(["--out", str(tmp_path / "found.json")]) == 1
    assert time.monotonic() - begun < 60
    hung, sound = json.loads((tmp_path / "found.json").read_text())["parts"]
    assert (hung["state"], hung["why"], sound["state"]) == ("cut off", "not done after 3 s", "done")
    assert hung["rows"] == [{"case": "before", "value": 1}]
    assert any("fake_gpu_parts.py" in line and "in hangs" in line for line in hung["stderr"])


def test_nothing_runs_after_the_minutes_are_over(with_fakes, tmp_path, capsys):
    with_fakes("sound", "skips")
    assert __main__.main(["--minutes", "0.1", "--out", str(tmp_path / "found.json")]) == 1
    parts = json.loads((tmp_path / "found.json").read_text())["parts"]
    assert [(part["state"], part["why"]) for part in parts] == [("not started", "0.1 minutes have passed")] * 2
    assert "NOT STARTED" in capsys.readouterr().out


def test_after_ctrl_c_nothing_more_runs_and_what_is_known_is_written(with_fakes, tmp_path):
    with_fakes("sound", "interrupts", "skips")
    before = signal.signal(signal.SIGUSR1, signal.default_int_handler)
    try:
        assert __main__.main(["--out", str(tmp_path / "found.json")]) == 130
    finally:
        signal.signal(signal.SIGUSR1, before)
    parts = json.loads((tmp_path / "found.json").read_text())["parts"]
    assert [part["state"] for part in parts] == ["done", "stopped", "not started"]
    assert parts[1]["rows"] == [{"case": "before", "value": 1}]


def test_without_a_gpu_only_the_tiny_parts_run(with_fakes, tmp_path, capsys):
    needs = Part(function=f"{FAKES}:crashes", seconds=60, needs_gpu=True)
    with_fakes("sound", machine="machine_without_gpu", needs=needs)
    assert __main__.main([]) == 2
    assert "--tiny" in capsys.readouterr().err
    assert __main__.main(["--tiny", "--out", str(tmp_path / "found.json")]) == 0
    parts = json.loads((tmp_path / "found.json").read_text())["parts"]
    assert [(part["part"], part["state"], part["why"]) for part in parts] == [
        ("sound", "done", ""),
        ("needs", "skipped", "no GPU"),
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--part", "eager", "nonsense"], "--part nonsense: choose from tests, waits, "),
        (["--minutes", "0"], "--minutes 0: give a number above 0"),
        (["--minutes", "nan"], "--minutes nan"),
        (["--out", "no/such/folder/found.json"], "--out no/such/folder/found.json: give a file in a folder that exist"),
        (["--xbd", "no such tree"], "--xbd: no such tree does not exist"),
    ],
)
def test_a_mistake_is_refused_before_anything_runs(words, message, monkeypatch, capsys):
    monkeypatch.setattr(__main__, "run_apart", None)
    with pytest.raises(SystemExit) as exited:
        __main__.main(words)
    assert exited.value.code == 2
    assert message in capsys.readouterr().err


def test_torch_that_cannot_be_used_is_said_in_one_line(with_fakes, capsys):
    with_fakes("sound", machine="silent_crash")
    assert __main__.main([]) == 2
    assert capsys.readouterr().err == (
        "benchmarks.gpu: torch cannot be used here: its process was killed by SIGKILL the last words\n"
    )


@pytest.mark.parametrize("name", PARTS)
def test_each_part_exists_and_has_its_line_in_the_document(name):
    assert callable(resolve_name(PARTS[name].function))
    assert f"| `{name}` |" in (ROOT / "docs" / "benchmarks.md").read_text()


def test_a_last_line_that_was_cut_off_is_left_out(setting):
    Report(setting).row("whole", value=1)
    with setting.rows.open("a") as file:
        file.write('{"case": "ha')
    assert read_rows(setting.rows) == [{"case": "whole", "value": 1}]


def test_recipes_are_those_of_the_presets():
    """Without the settings that need a download, and with MoCo's views where they are asked for."""
    from sweep.presets import preset

    for name in (SMALL, XBD):
        assert recipes.recipe_of(name, tiny=False) == preset(name).recipe
    assert recipes.recipe_of(XBD_HOST, tiny=False) == preset(XBD).recipe
    paper = preset(PAPER).recipe
    procedural = replace(paper, data=replace(paper.data, textures="procedural"))
    assert recipes.recipe_of(PAPER, tiny=False) == procedural
    assert replace(recipes.recipe_of(MOCO_VIEWS, tiny=False), augment=paper.augment) == procedural
    assert recipes.recipe_of(MOCO_VIEWS, tiny=False) != procedural


def test_waits_are_counted_by_line_of_ours(monkeypatch):
    modes = []
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)
    wait = "called a synchronizing CUDA operation"
    lines = []

    def work():
        lines.append(inspect.currentframe().f_lineno)
        warnings.warn("Synchronization debug mode is a prototype feature", stacklevel=1)
        warnings.warn(wait, stacklevel=1)
        with ExitStack() as stack:  # which calls it from a line of Python's own
            stack.callback(warnings.warn, wait)
            stack.callback(warnings.warn, wait)

    found = waits.waits_of(work)
    assert modes == ["warn", "default"]
    assert found == {f"tests/test_gpu_check.py:{lines[0] + offset}": times for offset, times in ((2, 1), (3, 2))}
    with pytest.raises(RuntimeError, match="lost"):
        waits.waits_of(lambda: (_ for _ in ()).throw(RuntimeError("lost")))
    assert modes == ["warn", "default"] * 2


def test_ceilings_are_measured(rows, torch_as_before):
    found = {row["case"]: row for row in rows(ceilings.run)}
    assert found["matrix product, bf16"]["tflops"] > 0
    assert found["copy within memory"]["gbytes_s"] > 0
    assert found["launch"]["host_us"] > 0
    assert not any(map(fault_of, found.values()))


def test_steps_of_waits_run(rows, torch_as_before, monkeypatch):
    cases = ((SMALL, "supervised", ENGINE), (XBD, "cross_image", waits.RECORDED))
    monkeypatch.setattr(waits, "CASES", cases)
    assert [row["skipped"] for row in rows(waits.run)] == ["no GPU"] * 2


def test_a_wait_is_a_failure(rows, torch_as_before, monkeypatch):
    monkeypatch.setattr(waits, "CASES", ((SMALL, "moco", ENGINE),))
    monkeypatch.setattr(waits, "device", lambda: torch.device("cuda"))
    monkeypatch.setattr(waits, "open_data", lambda *_: None)
    monkeypatch.setattr(waits, "whole_step", lambda *_: lambda: None)
    monkeypatch.setattr(waits, "waits_of", lambda step: Counter({"trainables/pretrain.py:1": 2}))
    (row,) = rows(waits.run)
    assert fault_of(row) == "vts-gpu, moco: check failed (waits {'trainables/pretrain.py:1': 2})"


@pytest.mark.slow
def test_our_step_is_compared_with_the_bare_one(rows, torch_as_before, monkeypatch):
    monkeypatch.setattr(steps, "EAGER", ((MOCO_VIEWS, "moco"), (XBD_HOST, "cross_image")))
    for row in rows(steps.eager):
        assert not fault_of(row)
        assert row["of_bare"] > 0
        assert row["images_s"] == pytest.approx(1e3 * 4 / row["ours_ms"])


def test_tiles_are_kept_on_a_gpu_unless_the_case_forbids_it():
    usual = sides.KEPT
    with recipes.tiles_of(XBD):
        assert usual == sides.KEPT
    with recipes.tiles_of(XBD_HOST):
        assert sides.KEPT == 0
    assert usual == sides.KEPT


@pytest.mark.slow
def test_bits_are_the_same_again_and_after_an_interruption(rows, torch_as_before, monkeypatch):
    monkeypatch.setattr(same_bits, "LOSSES", ("cross_image",))
    found = rows(same_bits.run)
    expected = ["again", "stopped and resumed", "recorded, again", "recorded, stopped and resumed", "recorded as eager"]
    assert [row["case"].partition(", ")[2] for row in found] == expected * 2
    assert not any(map(fault_of, found))
    assert torch.are_deterministic_algorithms_enabled()


def test_bits_that_differ_are_named():
    first = {"pretrain_loss": 0.5, "pretrain_floor": float("nan"), "encoder": "ab"}
    assert same_bits.differences(first, dict(first)) == []
    assert same_bits.differences(first, first | {"encoder": "ac", "pretrain_loss": 0.5 + 2**-50}) == [
        "encoder",
        "pretrain_loss",
    ]


def test_a_cell_that_was_not_stopped_is_an_error(setting, tmp_path, torch_as_before, monkeypatch):
    monkeypatch.setattr(same_bits, "STOP", 10**6)
    job = recipes.job_of(SMALL, setting)
    with pytest.raises(RuntimeError, match="was not stopped after step 1000000"):
        same_bits.resumed(recipes.cell_of(job.recipe, "moco"), job, tmp_path)


@pytest.mark.slow
def test_a_large_batch_is_compared_with_its_halves(rows, torch_as_before):
    found = rows(large.run)
    assert [row["case"] for row in found if fault_of(row)] == []
    assert len(found) == 5
    assert all(row["features"] < 1e-3 and row["stem_elements"] > 0 for row in found[3:])


def test_one_wrong_image_of_a_large_batch_is_found(torch_as_before, monkeypatch):
    recipe = recipes.recipe_of(XBD, tiny=True)

    def without_last(encoder, images, found):
        right = torch.arange(len(found)) < 2 * recipe.pretrain.batch - 1
        return found * right[:, None, None, None]

    def overflowing(*words, **named):
        encoder = make_encoder(*words, **named)
        whole = 2 * recipe.pretrain.batch
        encoder.register_forward_hook(
            lambda _, images, found: found * (torch.arange(len(found)) < whole - 1)[:, None, None, None]
        )
        return encoder

    monkeypatch.setattr(large, "make_encoder", overflowing)
    figures = large.against_halves(recipe, ENGINE)
    assert figures["features"] == pytest.approx(1)
    assert figures["gradient"] > large.TOLERANCE


@pytest.mark.slow
def test_cells_run_in_one_thread_and_in_new_ones(rows, torch_as_before, monkeypatch):
    names = []

    def noted(*words, **named):
        names.append(threading.get_ident())
        return run_cell(*words, **named)

    monkeypatch.setattr(cells, "run_cell", noted)
    found = {row["case"]: row for row in rows(cells.run)}
    assert not any(map(fault_of, found.values()))
    assert found["CUDA graphs"]["skipped"] == "no GPU"
    assert found["eager, in a new thread, second"]["images_per_second"] > 0
    assert len({*names[:4]}) == 1
    assert names[4] != names[0] != names[5]


def test_an_error_in_a_new_thread_is_a_note(rows, torch_as_before, monkeypatch):
    def run(cell, job, device, report):
        if threading.current_thread().name.startswith("compute"):
            return dict.fromkeys(cells.SHOWN, 1.0)
        raise AssertionError("CUDA graphs belong to another thread")

    monkeypatch.setattr(cells, "run_cell", run)
    found = {row["case"]: row for row in rows(cells.run)}
    assert found["eager, in a new thread, first"]["note"] == "CUDA graphs belong to another thread"
    assert not any(map(fault_of, found.values()))


def test_rates_of_several_cells_are_relative_to_that_of_one(rows, monkeypatch):
    monkeypatch.setattr(sharing, "together", lambda setting, count: [(100.0 / count**0.5, 2.0)] * count)
    found = rows(sharing.run)
    assert [row["case"] for row in found] == ["1 at a time", "2 at a time"]
    assert [row["times"] for row in found] == pytest.approx([1, 2**0.5])
    assert [row["gbytes"] for row in found] == [2, 4]


def test_records_that_differ_from_those_of_ray_are_a_failure(rows, setting, monkeypatch):
    (Path(setting.folder) / "ray" / "records").mkdir(parents=True)
    tables = {"inline": pd.DataFrame({"key": ["a"], "loss": [1.0]}), "ray": pd.DataFrame({"key": ["a"], "loss": [2.0]})}
    monkeypatch.setattr(commands, "sweep", lambda *words, **named: None)
    monkeypatch.setattr(commands, "results", lambda folder: tables[folder.name])
    (row,) = rows(commands.inline)
    assert fault_of(row) == "the records of Ray: check failed (differing ['loss'])"


def test_results_of_tests_are_those_of_pytest(tmp_path):
    (tmp_path / "test_made.py").write_text(
        "import pytest\n"
        "def test_good(): pass\n"
        "@pytest.mark.parametrize('x', ['a-b'])\n"
        "def test_bad(x): assert x == 1\n"
        "def test_left_out(): pytest.skip('no card')\n"
        "def test_broken(absent): pass\n"
    )
    words = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "-o", "addopts=", "test_made.py"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    found = {name: (result, why) for name, result, why in commands.results_of(done.stdout)}
    assert found["test_made.py::test_good"] == ("PASSED", "")
    assert found["test_made.py::test_bad[a-b]"][0] == "FAILED"
    assert "assert" in found["test_made.py::test_bad[a-b]"][1]
    assert found["test_made.py::test_broken"][0] == "ERROR"
    assert ("SKIPPED", "no card") in found.values()


@pytest.mark.slow
def test_every_part_runs_on_a_cpu(tmp_path):
    """As a user types it, with a real sweep by Ray and one without, whose records are equal."""
    words = [sys.executable, "-m", "benchmarks.gpu", "--tiny", "--minutes", "30", "--out", str(tmp_path / "found.json")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=1800)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    written = json.loads((tmp_path / "found.json").read_text())
    states = {part["part"]: (part["state"], part["why"]) for part in written["parts"]}
    done_here, absent = ("done", ""), ("skipped", "no GPU")
    without = {"tests", "waits", "recorded", "compiled", "graphs"}
    assert states == {name: absent if name in without else done_here for name in PARTS}
    rows = {(part["part"], row["case"]): row for part in written["parts"] for row in part["rows"]}
    assert rows["inline", "the records of Ray"]["passed"] is True
    assert rows["sharing", "2 at a time"]["images_s"] > 0
    assert written["machine"]["gpu"] == "none"
