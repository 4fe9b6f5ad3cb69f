"""The choice from made-up measurements on made-up machines. test_run measures real ones."""

from contextlib import contextmanager
from dataclasses import replace

import pytest

from sweep.autotune.choose import cached_choice, compare_candidates
from sweep.autotune.measurement import BenchmarkTask, Measurement
from sweep.cluster.machine import Machine
from sweep.presets import preset
from trainables.cell import Cell
from trainables.engine import PLAIN, Engine

LAPTOP = Machine(id="n", name="here", processor="some", cores=4, memory=100)
GPU = replace(LAPTOP, accelerator="H200", cores=16, gpus=1)
LONG = 10**9


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def task(engine=None, machine=LAPTOP, cells=0):
    recipe = preset("vts-smoke").recipe
    return BenchmarkTask(
        cell=Cell(objective="moco"),
        recipe=recipe,
        source=None,
        engine=engine or Engine(),
        cells=cells,
        machine=machine,
    )


class Asked(list):
    """A fake benchmark, and the list of the candidates that it has measured."""

    def __init__(self, rate, *, fault=lambda engine, cells: "", loss=lambda engine, cells: 4.0, memory=1, room=100):
        """The rate, fault and loss of each candidate, and the memory of one process and of all together."""
        super().__init__()
        self.rate, self.fault, self.loss, self.memory, self.room = rate, fault, loss, memory, room

    def measure(self, engine, cells):
        self.append((engine, cells))
        if problem := self.fault(engine, cells):
            return Measurement(engine=engine, cells=cells, fault=problem)
        problem = "too large" if cells > 1 and cells * self.memory > self.room else ""
        figures = {
            "rate": self.rate(engine, cells),
            "loss": self.loss(engine, cells),
            "memory": self.memory,
            "room": self.room,
        }
        return Measurement(engine=engine, cells=cells, fault=problem, **figures)

    @contextmanager
    def processes(self, what, count):
        self.clear()
        yield self.measure


def test_the_fastest_of_all_that_is_open_is_chosen():
    asked = Asked(lambda engine, cells: (2 if engine.precision == "bf16" else 1) * (1.5 if cells == 2 else 1))
    choice = compare_candidates(task(), 1, asked.processes)
    assert choice.best.engine == Engine(precision="bf16", layout="channels_last", compile="no", threads=2)
    assert choice.best.cells == 2
    assert choice.plain.rate == 1
    assert {(engine.precision, engine.layout) for engine, _ in asked} == {
        (p, layout) for p in ("fp32", "bf16") for layout in ("channels_last", "contiguous")
    }
    assert {(cells, engine.threads) for engine, cells in asked} == {(4, 1), (2, 2), (1, 4)}
    assert "bf16, channels-last, 2 threads per cell, 2 at a time: 3 images/s, 3.00 times" in str(choice)


def test_what_is_hardly_faster_does_not_replace_what_is_simpler():
    asked = Asked(lambda engine, cells: 1.04 if engine.precision == "bf16" or engine.layout == "contiguous" else 1.0)
    assert compare_candidates(task(), 1, asked.processes).best.engine == replace(PLAIN, threads=1)


def test_a_machine_that_was_busy_for_a_while_gets_no_other_engine():
    """Another program halved the rates of all engines except the compiled ones."""

    def rate(engine, cells):
        if engine.compile != "no":
            return 1.4
        return 1.0 if len(asked) <= 5 else 2.0

    asked = Asked(rate)
    choice = compare_candidates(task(cells=4), LONG, asked.processes)
    assert [engine.compile for engine, _ in asked][3:6] == ["no", "default", "no"]
    assert choice.best.engine == choice.plain.engine == replace(PLAIN, threads=1)
    assert choice.best.rate == choice.plain.rate == 2.0
    assert [one.rate for one in choice.tried if one.engine == PLAIN] == [2.0]


def test_what_was_asked_for_stays():
    asked = Asked(lambda engine, cells: 1.0)
    choice = compare_candidates(task(Engine(precision="bf16", threads=4)), 1, asked.processes)
    assert choice.best.engine.precision == "bf16"
    assert {engine.precision for engine, _ in asked[1:]} == {"bf16"}  # the first is the plain engine, to compare with
    assert {(engine.threads, cells) for engine, cells in asked} == {(4, 1)}
    asked = Asked(lambda engine, cells: 1.0)
    compare_candidates(task(cells=3), 1, asked.processes)
    assert {(cells, engine.threads) for engine, cells in asked} == {(3, 1), (2, 2), (1, 4)}  # three at most


def test_no_core_is_left_idle_by_a_split():
    asked = Asked(lambda engine, cells: 1.0)
    compare_candidates(task(machine=replace(LAPTOP, cores=6)), 1, asked.processes)
    assert {(cells, engine.threads) for engine, cells in asked} == {(6, 1), (3, 2), (1, 6)}
    compare_candidates(task(machine=replace(LAPTOP, cores=64)), 1, asked.processes)
    assert {(cells, engine.threads) for engine, cells in asked} == {(16, 4), (8, 8), (4, 16), (2, 32), (1, 64)}


def test_on_a_small_host_fewer_cells_are_tried_where_many_do_not_fit():
    asked = Asked(lambda engine, cells: float(cells), memory=40)
    choice = compare_candidates(task(), 1, asked.processes)
    assert choice.best.cells == 2
    assert any(one.fault == "too large" for one in choice.tried)


def test_a_candidate_that_fails_or_computes_something_else_is_out():
    fast = {"rate": lambda engine, cells: 9.0 if engine != replace(PLAIN, threads=1) else 1.0}
    asked = Asked(**fast, fault=lambda engine, cells: "no such instruction" if engine.precision == "bf16" else "")
    assert compare_candidates(task(), 1, asked.processes).best.engine.precision == "fp32"
    asked = Asked(**fast, loss=lambda engine, cells: 5.0 if engine.precision == "bf16" else 4.0)
    choice = compare_candidates(task(), 1, asked.processes)
    assert choice.best.engine.precision == "fp32"
    assert any("its loss is 5.0000, the first engine's 4.0000" in one.fault for one in choice.tried)


def test_where_everything_fails_the_sweep_itself_shall_say_why():
    asked = Asked(lambda engine, cells: 1.0, fault=lambda engine, cells: "broken")
    choice = compare_candidates(task(Engine(precision="bf16")), 1, asked.processes)
    assert choice.best.engine == Engine(precision="bf16", layout="channels_last", compile="no", threads=4)
    assert choice.best.cells == 1
    assert "the measurements failed" in str(choice)


def test_nothing_is_remembered_of_a_machine_that_could_do_nothing(tmp_path):
    asked = Asked(lambda engine, cells: 1.0, fault=lambda engine, cells: "the GPU is full")
    cached_choice(task(), 1, asked.processes)
    assert not (tmp_path / "noisy-pairs").exists()


def test_compilation_that_is_given_is_remembered_too():
    asked = Asked(lambda engine, cells: 1.0)
    cached_choice(task(Engine(compile="no")), LONG, asked.processes)
    asked.clear()
    cached_choice(task(Engine(compile="no")), LONG, asked.processes)
    assert not asked


def test_compiling_is_tried_only_where_it_can_be_earned_back():
    asked = Asked(lambda engine, cells: 1.0 if engine.compile == "no" else 2.0)
    assert compare_candidates(task(), 1, asked.processes).best.engine.compile == "no"
    assert {engine.compile for engine, _ in asked} == {"no"}
    assert compare_candidates(task(), LONG, asked.processes).best.engine.compile == "default"
    compare_candidates(task(machine=GPU), LONG, asked.processes)
    assert {engine.compile for engine, _ in asked} == {"no", "graph", "default", "reduce-overhead"}


def test_recorded_steps_are_tried_on_gpus_alone_however_short_the_sweep():
    fast = {"rate": lambda engine, cells: 2.0 if engine.compile == "graph" else 1.0}
    asked = Asked(**fast)
    assert compare_candidates(task(), 1, asked.processes).best.engine.compile == "no"
    assert {engine.compile for engine, _ in asked} == {"no"}
    assert compare_candidates(task(machine=GPU), 1, asked.processes).best.engine.compile == "graph"
    asked = Asked(**fast, loss=lambda engine, cells: 5.0 if engine.compile == "graph" else 4.0)
    assert compare_candidates(task(machine=GPU), 1, asked.processes).best.engine.compile == "no"
    asked = Asked(**fast)
    compare_candidates(task(Engine(compile="no"), machine=GPU), 1, asked.processes)
    assert {engine.compile for engine, _ in asked} == {"no"}


def test_a_gpu_is_shared_as_far_as_its_memory_goes_and_that_helps():
    asked = Asked(lambda engine, cells: min(cells, 4), memory=15)
    choice = compare_candidates(task(machine=GPU), 1, asked.processes)
    assert choice.best.cells == 4
    assert choice.best.engine.threads == 4
    assert {cells for _, cells in asked} == {1, 2, 4}  # eight would need 120 of 100


def test_one_of_several_gpus_is_measured_with_its_share_of_cores_and_cells():
    asked = Asked(lambda engine, cells: 1.0)
    compare_candidates(task(machine=replace(GPU, gpus=4)), 1, asked.processes)
    assert {(cells, engine.threads) for engine, cells in asked} == {(1, 4), (2, 2), (4, 1)}
    compare_candidates(task(machine=replace(GPU, gpus=4), cells=2), 1, asked.processes)
    assert {(cells, engine.threads) for engine, cells in asked} == {(2, 2)}


def test_no_more_cells_are_tried_than_the_cores_can_hold():
    asked = Asked(lambda engine, cells: float(cells))
    for cores in (1, 3, 16):
        for threads in (0, 1, 3):
            for cells in (0, 1, 5):
                compare_candidates(task(Engine(threads=threads), replace(GPU, cores=cores), cells), 1, asked.processes)
                assert asked
                assert all(engine.threads * tried <= max(cores, threads) for engine, tried in asked)


def test_a_choice_is_remembered_until_compiling_pays_or_what_was_asked_changes():
    asked = Asked(lambda engine, cells: 1.0)
    first = cached_choice(task(), 1, asked.processes)
    asked.clear()
    assert cached_choice(task(), 1, asked.processes) == first
    more = replace(task().recipe, pretrain=replace(task().recipe.pretrain, steps=9))
    assert cached_choice(replace(task(), recipe=more), 1, asked.processes) == first
    assert cached_choice(task(machine=replace(LAPTOP, memory=99)), 1, asked.processes) == first
    assert not asked
    assert cached_choice(task(), LONG, asked.processes).compiling
    assert asked
    asked.clear()
    cached_choice(task(), 1, asked.processes)
    assert not asked
    cached_choice(task(Engine(precision="bf16")), 1, asked.processes)
    assert asked


def test_a_memory_that_is_damaged_is_measured_anew(tmp_path):
    asked = Asked(lambda engine, cells: 1.0)
    cached_choice(task(), 1, asked.processes)
    (file,) = (tmp_path / "noisy-pairs").iterdir()
    file.write_bytes(b"{}")
    asked.clear()
    cached_choice(task(), 1, asked.processes)
    assert asked


def test_a_cpu_measures_with_fewer_pixels_and_a_gpu_with_all():
    large = replace(preset("vts-paper").recipe)
    assert replace(task(), recipe=large).batch == 16
    assert replace(task(machine=GPU), recipe=large).batch == 256
    assert task().batch == 8


def test_where_nothing_fits_on_a_gpu_features_are_computed_again_and_not_compiled():
    full = "not enough memory: CUDA out of memory"
    asked = Asked(lambda engine, cells: 1.0, fault=lambda engine, cells: "" if engine.recompute else full)
    choice = compare_candidates(task(machine=GPU), LONG, asked.processes)
    assert choice.best.engine.recompute
    assert not choice.compiling
    assert all(engine.compile == "no" for engine, _ in asked)
    asked = Asked(lambda engine, cells: 1.0)
    assert not compare_candidates(task(machine=GPU), 1, asked.processes).best.engine.recompute
    asked = Asked(lambda engine, cells: 1.0, fault=lambda engine, cells: full)
    assert not compare_candidates(task(machine=GPU), 1, asked.processes).best.rate
    assert {cells for _, cells in asked} == {1}
