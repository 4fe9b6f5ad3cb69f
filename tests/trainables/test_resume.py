"""Resuming is exact: a cell interrupted anywhere gives bitwise the same results as without interruption."""

import errno
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import timm
import torch

from trainables import checkpoints as module
from trainables.cell import Cell
from trainables.cell_job import CellJob
from trainables.checkpoints import Checkpoints, StoppedError
from trainables.recipe import Dense, Encoder, Pretrain, Probe
from trainables.registry import losses_for
from trainables.run_cell import run_cell

TIMES = {"seconds", "pretrain_seconds", "probe_seconds", "images_per_second"}
CPU = torch.device("cpu")


class Crash(BaseException):
    """A sudden crash."""


class Beat:
    """Counts its calls; the `last` one stops or crashes the cell."""

    def __init__(self, last=None, crash=False):
        self.count, self.last, self.crash = 0, last, crash

    def __call__(self):
        self.count += 1
        if self.count == self.last and self.crash:
            raise Crash
        return self.count == self.last


class Run:
    """Attempts to run one cell in one folder."""

    def __init__(self, cell, recipe, bank, folder, imagenet=None):
        self.cell, self.recipe, self.bank, self.folder, self.imagenet = cell, recipe, bank, folder, imagenet
        self.said = []

    def __call__(self, beat=module.never, *, every=1e9, identity="this"):
        """Metrics without times, learning curves and predictions, as text for bitwise comparison, also of NaN."""
        points, shown = [], []
        metrics = run_cell(
            self.cell,
            CellJob(recipe=self.recipe, source=self.bank, imagenet=self.imagenet),
            CPU,
            report=lambda *point: points.append(point),
            take_examples=shown.extend,
            checkpoints=Checkpoints(self.folder, identity, every=every, heartbeat=beat, notify=self.said.append),
        )
        pictures = [(one.number, one.predicted.tobytes()) for one in shown]
        return repr(({name: value for name, value in metrics.items() if name not in TIMES}, points, pictures))

    def cut(self, last, *, every=1e9):
        with pytest.raises(StoppedError):
            self(Beat(last), every=every)

    def crash(self, last, *, every=0.0):
        with pytest.raises(Crash):
            self(Beat(last, crash=True), every=every)


@pytest.fixture(scope="module")
def make(recipe, bank, tmp_path_factory):
    """Attempts in a new folder, and their expected result."""
    known = {}

    def made(cell, recipe=recipe, imagenet=None):
        if (cell, recipe) not in known:
            beat = Beat()
            whole = Run(cell, recipe, bank, tmp_path_factory.mktemp("whole"), imagenet)(beat)
            known[cell, recipe] = whole, beat.count
        return Run(cell, recipe, bank, tmp_path_factory.mktemp("cut"), imagenet), *known[cell, recipe]

    return made


MOCO = Cell(objective="moco", rho=0.5, nu=0.5, seed=1)


def cut_everywhere(make, objective, thinned=1):
    cell = Cell(objective=objective, rho=0.5, nu=0.5, seed=1)
    beats = make(cell)[2]
    assert beats >= 9 + 4 * (objective != "random")  # every step, and more in evaluations
    for last in range(1, beats + 1, thinned):
        run, whole, _ = make(cell)
        run.cut(last)
        assert run() == whole
        assert run.said == []


@pytest.mark.parametrize(("objective", "thinned"), [("moco", 1), ("cross_image", 3), ("supervised", 3), ("random", 2)])
def test_a_cell_that_is_cut_off_anywhere_ends_as_if_it_had_not_been(make, objective, thinned):
    cut_everywhere(make, objective, thinned)


@pytest.mark.slow
@pytest.mark.parametrize("objective", [*losses_for("segmentation"), "supervised", "random"])
def test_a_cell_of_any_loss_that_is_cut_off_anywhere_ends_as_if_it_had_not_been(make, objective):
    cut_everywhere(make, objective)


@pytest.mark.parametrize("views", [0, 2])
def test_with_fresh_views_weights_of_classes_and_warm_up(make, recipe, views):
    changed = replace(
        recipe,
        pretrain=Pretrain(steps=5, batch=8, evaluations=2, warmup=2),
        probe=replace(recipe.probe, cached_views=views, class_weights=True),
    )
    beats = make(MOCO, changed)[2]
    for last in range(1, beats + 1, 4):
        run, whole, _ = make(MOCO, changed)
        run.cut(last)
        assert run() == whole


@pytest.mark.parametrize(
    ("objective", "settings"),
    [
        ("random", {"finetune": True, "labels": 0.5}),
        ("random", {"head": "linear"}),
        pytest.param("moco", {"head": "knn", "every": 3}, marks=pytest.mark.slow),
    ],
)
def test_with_other_probes_and_a_probe_along_pretraining(make, recipe, objective, settings):
    changed = replace(recipe, probe=replace(recipe.probe, **settings))
    cell = Cell(objective=objective, rho=0.5, nu=0.5)
    beats = make(cell, changed)[2]
    for last in range(1, beats + 1, 3):
        run, whole, _ = make(cell, changed)
        run.cut(last)
        assert run() == whole


@pytest.mark.parametrize("optimizer", ["adamw", "lars"])
def test_with_other_optimizers_an_average_and_fewer_stages(make, recipe, optimizer):
    changed = replace(
        recipe,
        encoder=replace(recipe.encoder, stages=3),
        dense=Dense(denominator="public", norm=True),
        pretrain=replace(recipe.pretrain, optimizer=optimizer, schedule="constant", average=0.9),
    )
    cell = Cell(objective="within_image", rho=0.5, nu=0.5)
    beats = make(cell, changed)[2]
    for last in range(1, beats + 1, 4):
        run, whole, _ = make(cell, changed)
        run.cut(last)
        assert run() == whole


def test_an_imagenet_cell_too(make, recipe, tmp_path):
    torch.manual_seed(3)
    torch.save(timm.create_model("resnet18", num_classes=1000).state_dict(), tmp_path / "weights.pth")
    full = replace(recipe, encoder=Encoder(output_stride=8))
    for last in (3, 10):
        run, whole, beats = make(Cell(objective="imagenet"), full, tmp_path / "weights.pth")
        assert beats == 10
        run.cut(last)
        assert run() == whole


def test_a_cell_that_is_cut_off_again_and_again_gets_on(make):
    run, whole, beats = make(MOCO)
    for _ in range(beats):  # each attempt completes a step, however many features it recomputes
        try:
            assert run(Beat(6)) == whole
            break
        except StoppedError:
            pass
    else:
        pytest.fail("it never ended")


def test_a_crash_between_checkpoints_goes_back_to_the_last(make):
    beats = make(MOCO)[2]
    for last in range(1, beats + 1, 4):
        run, whole, _ = make(MOCO)
        run.crash(last)
        again = Beat()
        assert run(again) == whole
        assert again.count < beats or last < 4  # progress was kept


def test_the_checkpoints_of_a_finished_cell_hold_its_result(make):
    run, whole, _ = make(MOCO)
    assert run(every=0.0) == whole
    assert len(list(run.folder.iterdir())) == 2
    again = Beat()
    assert run(again) == whole
    assert again.count < 4  # only the test images


def newest(run):
    return module.newest_first(run.folder)


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def test_a_damaged_checkpoint_is_said_and_the_one_before_is_taken(make):
    for harm in (damage, lambda path: os.truncate(path, path.stat().st_size - 100), lambda path: os.truncate(path, 0)):
        run, whole, _ = make(MOCO)
        run.cut(1)
        run.cut(2)  # after the validation batch of step 2
        assert [path.name for path in newest(run)] == ["pretrain-2.ckpt", "pretrain-1.ckpt"]
        harm(newest(run)[0])
        assert run() == whole
        assert len(run.said) == 2
        assert "pretrain-2.ckpt is not used" in run.said[0]
        assert "resumes from the previous checkpoint, pretrain-1.ckpt" in run.said[1]
        assert not any("\n" in line for line in run.said)


def test_with_no_checkpoint_whole_the_cell_is_begun_anew(make):
    run, whole, beats = make(MOCO)
    run.cut(1)
    run.cut(2)
    for path in newest(run):
        damage(path)
    again = Beat()
    assert run(again) == whole
    assert again.count == beats
    assert len(run.said) == 3
    assert "starts from the beginning" in run.said[-1]


def test_a_checkpoint_of_something_else_is_not_used(make):
    run, whole, beats = make(MOCO)
    run.cut(9)
    again = Beat()
    assert run(again, identity="other data") == whole
    assert again.count == beats
    assert "other settings, data" in run.said[0]
    assert "starts from the beginning" in run.said[1]


@pytest.mark.parametrize("call", ["replace", "fsync"])
def test_a_full_disk_is_said_once_and_changes_nothing(make, monkeypatch, call):
    def full(*rest):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    run, whole, _ = make(MOCO)
    monkeypatch.setattr(os, call, full)
    assert run(every=0.0) == whole
    assert len(run.said) == 1
    assert "No space left on device" in run.said[0]
    assert list(run.folder.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_said_once_and_changes_nothing(make, tmp_path):
    (tmp_path / "file").write_text("in the way")
    run, whole, _ = make(MOCO)
    run.folder = tmp_path / "file" / "key"
    assert run(every=0.0) == whole
    assert len(run.said) == 1


def test_times_add_up_over_attempts(make, recipe, bank):
    run, _, beats = make(MOCO)
    run.cut(beats - 1)
    began = time.perf_counter()
    found = run_cell(
        MOCO,
        CellJob(recipe=recipe, source=bank),
        CPU,
        report=lambda *point: None,
        checkpoints=Checkpoints(run.folder, "this"),
    )
    assert found["seconds"] > time.perf_counter() - began  # most of the work was done earlier
    assert found["seconds"] == found["pretrain_seconds"] + found["probe_seconds"]


KILLED = """
import sys, torch
from pathlib import Path
from datasets.vts import textures
from trainables.cell_job import CellJob
from trainables.checkpoints import Checkpoints
from trainables.run_cell import run_cell
sys.path.insert(0, ".")
from tests.trainables.test_resume import MOCO, long_recipe

torch.set_num_threads(1)
checkpoints = Checkpoints(Path(sys.argv[1]), "this", every=0.0)
job = CellJob(recipe=long_recipe(), source=textures.make_procedural(32, count=8))
run_cell(MOCO, job, torch.device("cpu"), report=lambda *point: print(*point, flush=True), checkpoints=checkpoints)
"""


def long_recipe():
    from datasets.vts.config import VtsSettings
    from trainables.recipe import Moco, Recipe

    return Recipe(
        data=VtsSettings(size=32, train=24, val=10, test=10),
        encoder=Encoder(slim=0.125, output_stride=8),
        moco=Moco(queue=20),
        pretrain=Pretrain(steps=60, batch=8, evaluations=30),
        probe=Probe(steps=60, batch=8, cached_views=2, evaluations=30),
    )


@pytest.mark.slow
def test_a_process_that_is_killed_while_it_writes_goes_on(make):
    run, whole, _ = make(MOCO, long_recipe())
    for kill in range(8):
        child = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(run.folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        with child:
            seen = [child.stdout.readline() for _ in range(3 + 5 * kill)]  # points before its checkpoint are repeated
            time.sleep(0.005 * kill)  # kill it at different moments
            child.send_signal(signal.SIGKILL)
            assert all(seen), child.stderr.read()
    again = Beat()
    assert run(again) == whole
    assert again.count < 150
    assert run.said == []
    assert not [path for path in run.folder.iterdir() if path.name.startswith(".")]
