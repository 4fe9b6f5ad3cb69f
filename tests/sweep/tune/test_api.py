"""`run_sweep`: a sweep from Python does what the command does, takes no signals, and leaves its process as it was."""

import asyncio
import logging
import os
import signal
import threading
import time
from dataclasses import replace
from functools import partial

import pytest

import sweep
from analysis.records.io import read_records
from datasets.errors import InputError
from sweep import run_sweep
from sweep.api import flags_for
from sweep.cli import parse
from sweep.presets import preset
from sweep.signals import StopRequest, _handling
from sweep.storage.run_dir import RunDir
from tests.helpers.command import call, wait_for

SMALL = {"losses": ["random", "moco"], "rho": [0.0], "report": False, "inline": True}


def test_settings_are_the_flags_of_the_command():
    settings = {
        "losses": ["moco", "simclr"],
        "rho": (0, 1),
        "seeds": range(2),
        "pretrain": {"steps": 80},
        "moco": {"lr": 0.2},
        "skip_bad": True,
        "report": False,
        "data_root": None,
        "vary": {"probe.steps": [40, 80], "probe.lr": [0.1, 0.2]},
    }
    words = (
        "--losses moco simclr --rho 0 1 --seeds 0 1 --pretrain.steps 80 --moco.lr .2 --skip-bad --no-report "
        "--vary probe.steps 40 80 --vary probe.lr .1 .2"
    )
    assert parse(flags_for(settings), preset("vts-quick")) == parse(["vts-quick", *words.split()])
    assert parse(["--dataset=cifar10"], preset("vts-quick")) == parse(["vts-quick", "--dataset", "cifar10"])


@pytest.mark.parametrize(
    ("what", "settings", "said"),
    [
        ("vts-smok", {}, "unknown preset 'vts-smok': choose from vts-smoke, "),
        ("vts-smoke", {"rho": [2]}, "--rho 2: "),
        ("vts-smoke", {"pretrain": {"step": 1}}, "unknown flag --pretrain.step=1: did you mean --pretrain.steps"),
        ("vts-smoke", {"workers": 2, "inline": True}, "--workers 2: --inline runs one cell at a time"),
        ("vts-smoke", {"plan": True}, "plan: is for the command python -m sweep.run"),
        ("vts-smoke", {"losses": ["-h"]}, "a value is -h or --help"),
        ("--help", {}, "unknown preset '--help'"),
        ("xbd-quick", {"inline": True}, "xbd: name the folder of the data with --data-root"),
    ],
)
def test_a_mistake_is_an_exception_with_one_line(what, settings, said, tmp_path):
    with pytest.raises(InputError) as refusal:
        run_sweep(what, out=tmp_path / "out", **settings)
    assert str(refusal.value).startswith(said)
    assert "\n" not in str(refusal.value)


def test_any_thread_and_a_running_loop_will_do_and_the_command_continues(fake_cells, tmp_path, capsys):
    fake_cells(lambda number, tried: None)
    folder, run = tmp_path / "out", partial(run_sweep, "vts-smoke", out=tmp_path / "out", **SMALL)
    root = logging.getLogger()
    before = (dict(os.environ), root.handlers[:], root.level, signal.getsignal(signal.SIGINT))
    in_thread = []
    thread = threading.Thread(target=lambda: in_thread.append(run()))
    thread.start()
    thread.join()
    (first,) = in_thread
    assert (first.state, first.out) == ("complete", folder)
    assert sorted(first.records.objective) == ["moco", "random"]
    capsys.readouterr()

    async def cell_of_a_notebook():
        return run(losses=["random", "moco", "simclr"])

    second = asyncio.run(cell_of_a_notebook())
    assert "2 of 3 cells are recorded; running 1" in capsys.readouterr().out
    assert len(second.records) == 3
    assert before == (dict(os.environ), root.handlers, root.level, signal.getsignal(signal.SIGINT))
    done = call("--config", folder / "sweep.yaml", "--inline")
    assert "all 3 cells are recorded already; nothing to run" in done.stdout


def test_a_cell_that_fails_is_told_by_the_state_and_the_records(fake_cells, tmp_path):
    fake_cells(
        lambda number, tried: {"error": "E: no", "traceback": "", "kind": "error in the cell"} if number else None
    )
    result = run_sweep(replace(preset("vts-smoke"), out=tmp_path / "out"), **SMALL)
    assert result.state == "cells are missing"
    assert sorted(result.records.status) == ["done", "failed"]


def interrupt_once(condition):
    """Send this process one SIGINT when the condition holds."""

    def send():
        wait_for(condition)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


def test_an_interrupt_lets_cells_stop_and_is_raised_again(fake_cells, tmp_path, capsys):
    running = threading.Event()

    def stops(number, tried):
        if number == 0:
            return None
        running.set()
        wait_for(RunDir(tmp_path / "out").stop.exists)
        return {"stopped": True}

    fake_cells(stops)
    with _handling({signal.SIGINT: signal.default_int_handler}):
        thread = interrupt_once(running.is_set)
        with pytest.raises(KeyboardInterrupt):
            run_sweep("vts-smoke", out=tmp_path / "out", **SMALL)
        thread.join()
    said = capsys.readouterr().out
    assert "stopping: running cells write their checkpoints; another interrupt stops at once" in said
    assert "1 of 2 cells are missing:" in said
    assert f" -m sweep.run --config {tmp_path / 'out' / 'sweep.yaml'}" in said
    assert len(read_records(tmp_path / "out")) == 1
    assert not RunDir(tmp_path / "out").stop.exists()


def test_a_second_interrupt_is_raised_where_cells_run(tmp_path):
    stop, asked = StopRequest(RunDir(tmp_path), by_signals=False), []

    def deaf():
        try:
            while True:
                asked.append(stop.asked)
                time.sleep(0.01)
        except KeyboardInterrupt:
            return "ended"

    with _handling({signal.SIGINT: signal.default_int_handler}):
        threads = interrupt_once(lambda: asked), interrupt_once(lambda: asked and asked[-1])
        assert stop.call(deaf) == "ended"
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    for thread in threads:
        thread.join()
    assert stop.at_once
    assert stop.code == 130


def test_the_package_offers_what_it_lists():
    assert {getattr(sweep, name).__name__ for name in sweep.__all__} == set(sweep.__all__)
    with pytest.raises(AttributeError, match="no attribute 'run_sweeps'"):
        _ = sweep.run_sweeps
