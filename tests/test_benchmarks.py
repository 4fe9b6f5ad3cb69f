"""What the benchmarks count with; the speeds themselves are asserted nowhere."""

import time
from dataclasses import replace

import pandas as pd
import pytest
import torch

from benchmarks.speed import common
from benchmarks.speed.common import Table, Timing, in_turn, ratio, time_it
from benchmarks.speed.plain import plain_step
from benchmarks.speed.pretrain import flops, matrix_size, settings
from benchmarks.speed.sweep import gaps
from sweep.presets import preset
from trainables.engine import PLAIN
from trainables.profiling.bare_step import bare_step
from trainables.registry import losses_for

CPU = torch.device("cpu")


def test_things_timed_in_turn_are_each_called_once_a_round_after_one_that_does_not_count():
    calls = []
    first, second = in_turn([lambda: calls.append("a"), lambda: calls.append("b")], CPU, rounds=3)
    assert calls == ["a", "b"] * 4
    assert len(first.seconds) == len(second.seconds) == 3


def test_a_gpu_is_waited_for_after_blocks_of_calls(monkeypatch):
    calls, waits = [], []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: waits.append(len(calls)))
    monkeypatch.setattr(common, "WARM_UP", 0.0)
    gpu = torch.device("cuda")
    assert len(time_it(lambda: calls.append(0), gpu, warm=3, least=4, budget=0.0).seconds) == 4
    assert waits == [0, 1, 2, 3, 3, 23, 43, 63, 83]
    monkeypatch.setattr(common, "WARM_UP", 0.05)
    time_it(lambda: calls.append(time.sleep(0.01)), gpu, warm=1, least=1, budget=0.0)
    assert 2 < len(calls) - 83 - common.BLOCK <= 5  # the warm-up lasts for its seconds
    assert (matrix_size(gpu), matrix_size(CPU)) == (8192, 4096)


def test_a_ratio_is_that_of_the_rounds():
    slow, fast = Timing((2.0, 4.0, 6.0)), Timing((1.0, 2.0, 3.0))
    assert ratio(slow, fast) == 2
    assert slow.median == 4
    assert slow.spread == 1
    assert slow.rate(8) == "2.0 ±50%"
    a, b = in_turn([lambda: time.sleep(0.02), lambda: time.sleep(0.002)], CPU, rounds=3)
    assert ratio(a, b) > 2


@pytest.mark.parametrize(
    ("times", "mean"),
    [
        ([(0, 5), (5.5, 9)], 0.5),  # one slot
        ([(0, 5), (1, 4), (4.25, 9), (5.75, 9)], 0.5),  # two: the next takes the slot that became free last
        ([(0, 5), (1, 4)], 0.0),
    ],
)
def test_gaps_are_those_between_cells_of_a_slot(times, mean):
    start, end = (pd.Series([float(pair[k]) for pair in times]) for k in (0, 1))
    assert gaps(start, end) == mean


def test_a_table_shows_every_row_and_note(capsys):
    table = Table("Title", ("what", "value"), notes=["a note"])
    table.add("one", 1234.5)
    table.show()
    said = capsys.readouterr().out
    for word in ("Title", "what", "one", "1.23e+03", "a note"):
        assert word in said


@pytest.mark.parametrize("loss", losses_for("segmentation"))
def test_a_plain_transcription_of_a_loss_takes_the_same_steps(loss):
    quick = preset("vts-quick").recipe
    recipe = replace(
        quick,
        data=replace(quick.data, size=32),
        encoder=replace(quick.encoder, slim=0.125),
        moco=replace(quick.moco, queue=32),
        pretrain=replace(quick.pretrain, batch=4, warmup=0),
    )
    ours, plain = (make(loss, recipe, PLAIN, CPU) for make in (bare_step, plain_step))
    for _ in range(3):  # also what momentum networks and queues have become
        torch.testing.assert_close(ours(), plain(), rtol=1e-3, atol=1e-4)


def test_operations_of_a_step_are_those_of_three_and_one_passes():
    # A forward pass of ResNet-18 at 224 px is 1.8e9 multiply-adds (He et al. 2016, Table 1); at 64 px its convolutions
    # take (64 / 224)^2 of that. Queries: forward, and about twice that backward; keys: forward.
    expected = 2 * 1.8e9 * (64 / 224) ** 2 * 4 * 16
    assert flops("moco", settings(64, 16)) == pytest.approx(expected, rel=0.1)
