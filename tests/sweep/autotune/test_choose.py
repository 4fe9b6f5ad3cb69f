"""The choice from made-up measurements on made-up machines, in a made-up time. test_run measures real ones."""

import json
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace

import pytest

from datasets.files import cache_write
from sweep.autotune.choose import cached_choice
from sweep.autotune.comparison import MOST_SECONDS, compare_candidates
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

    def __init__(
        self, rate, *, fault=lambda engine, cells: "", loss=lambda engine, cells: 4.0, memory=1, room=100, **disturbed
    ):
        """The rate, fault and loss of each candidate, and the memory of one process and of all together."""
        super().__init__()
        self.rate, self.fault, self.loss, self.memory, self.room = rate, fault, loss, memory, room
        self.disturbed = disturbed

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
            **self.disturbed,
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
    """Another program halved the rates of the plain engine until the next one was measured."""
    asked = Asked(lambda engine, cells: 1.4 if engine.precision == "bf16" else 1.0 if len(asked) <= 1 else 2.0)
    choice = compare_candidates(task(Engine(layout="channels_last"), cells=4), LONG, asked.processes)
    assert [engine.precision for engine, _ in asked][:3] == ["fp32", "bf16", "fp32"]
    assert choice.best.engine == choice.plain.engine == replace(PLAIN, threads=1)
    assert choice.best.rate == choice.plain.rate == 2.0
    assert [one.rate for one in choice.tried if one.engine == PLAIN] == [2.0]


BUSY = {"delayed": 0.5}


@pytest.mark.parametrize("how", [BUSY, {"spread": 0.5}])
def test_what_other_programs_have_disturbed_is_measured_again_in_turn_with_the_best(how):
    """The best engine seemed slow at first, and nothing was faster than the plain one."""
    measured = []

    def measure(engine, cells):
        measured.append(engine.precision)
        first = measured.count("bf16") == 1 and engine.precision == "bf16"
        rate = 0.5 if first else 2.0 if engine.precision == "bf16" else 1.0
        return Measurement(engine=engine, cells=cells, rate=rate, room=9, loss=4.0, **(how if first else {}))

    asked = Engine(layout="channels_last", threads=4)
    choice = compare_candidates(task(asked), LONG, lambda what, count: nullcontext(measure))
    assert measured == ["fp32", "bf16", "fp32", "bf16"]
    assert choice.best.engine.precision == "bf16"
    assert choice.doubt == ""


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (BUSY, "other programs had its cores for 50 % of the time"),
        ({"spread": 0.5}, "most of its steps took 50 % longer than the fastest"),
    ],
)
def test_what_was_measured_at_a_load_is_used_once_and_not_kept(how, words, capsys):
    asked = Asked(lambda engine, cells: 2.0 if engine.precision == "bf16" else 1.0, **how)
    assert cached_choice(task(), LONG, asked.processes).best.engine.precision == "bf16"
    said = capsys.readouterr().out.splitlines()
    assert said[1:] == [
        f"this choice is not kept for later sweeps: {words}; the next new folder measures again, and so does "
        "--measure-again"
    ]
    calm = Asked(lambda engine, cells: 1.0)
    cached_choice(task(), LONG, calm.processes)
    assert calm
    assert "is kept for later sweeps" in capsys.readouterr().out
    calm.clear()
    cached_choice(task(), LONG, calm.processes)
    assert not calm


def test_a_choice_that_cannot_be_kept_says_why(tmp_path, capsys):
    (tmp_path / "noisy-pairs").write_text("no folder")
    cached_choice(task(), LONG, Asked(lambda engine, cells: 1.0).processes)
    assert "this choice is not kept for later sweeps: [Errno 17] File exists" in capsys.readouterr().out


def test_after_the_plain_engine_comes_what_the_processor_does_well():
    for bf16, precision in ((True, "bf16"), (False, "fp32")):
        asked = Asked(lambda engine, cells: 1.0)
        choice = compare_candidates(task(machine=replace(LAPTOP, bf16=bf16)), LONG, asked.processes)
        assert asked[:2] == [(PLAIN, 4), (replace(PLAIN, precision="bf16"), 4)]
        assert choice.best.engine == replace(PLAIN, precision=precision)  # at equal speed


class Slow(Asked):
    """Each measurement takes some seconds."""

    def __init__(self, seconds, rate=lambda engine, cells: 1.0):
        super().__init__(rate)
        self.seconds, self.now = seconds, 0.0

    def measure(self, engine, cells):
        self.now += self.seconds
        return super().measure(engine, cells)

    def clock(self):
        return self.now


KNOWN = replace(LAPTOP, bf16=True)


@pytest.mark.parametrize("seconds", [0.1, 3.0, 7.0, 19.0, 29.0])
def test_measuring_takes_a_minute_at_most(seconds):
    asked = Slow(seconds, lambda engine, cells: 2.0 if engine.layout == "contiguous" else 1.0)
    compare_candidates(task(machine=KNOWN), LONG, asked.processes, asked.clock)
    assert len(asked) >= 2
    assert asked.now <= MOST_SECONDS


def test_for_a_short_sweep_only_what_the_processor_does_well_is_compared_with_the_plain_engine():
    asked = Slow(1.0)
    choice = compare_candidates(task(machine=KNOWN), 10, asked.processes, asked.clock)  # trains for ten seconds
    assert [engine.precision for engine, _ in asked] == ["fp32", "bf16"]
    assert choice.seconds == 1.0
    asked = Slow(1.0)
    compare_candidates(task(machine=KNOWN), 45, asked.processes, asked.clock)
    assert len(asked) == 4


def test_where_one_measurement_takes_all_the_time_the_processor_decides(capsys):
    asked = Slow(40.0)
    choice = compare_candidates(task(machine=KNOWN), LONG, asked.processes, asked.clock)
    assert asked == [(PLAIN, 4)]
    assert choice.best.engine == replace(PLAIN, precision="bf16")
    assert (choice.best.cells, choice.best.memory) == (4, choice.plain.memory)
    assert choice.doubt == "the first measurement took 40 s, so there was no second one"


def test_what_a_short_sweep_has_chosen_does_not_decide_for_a_long_one():
    asked = Asked(lambda engine, cells: 1.0)
    slow = Slow(1.0)
    short = compare_candidates(task(machine=KNOWN), 10, slow.processes, slow.clock)
    cache_write(f"engine-{task(machine=KNOWN).key}.json", json.dumps(asdict(short)).encode())
    assert cached_choice(task(machine=KNOWN), 9, asked.processes) == short
    assert not asked
    cached_choice(task(machine=KNOWN), 1000, asked.processes)
    assert asked
    asked.clear()
    cached_choice(task(machine=KNOWN), LONG, asked.processes)
    assert not asked


def test_measure_again_measures_again():
    asked = Asked(lambda engine, cells: 1.0)
    cached_choice(task(), 1, asked.processes)
    asked.clear()
    cached_choice(replace(task(), again=True), 1, asked.processes)
    assert asked
    assert replace(task(), again=True).key == task().key


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
    asked = Asked(lambda engine, cells: 1.0 if engine.compile in ("no", "graph") else 2.0)
    assert compare_candidates(task(machine=LAPTOP), LONG, asked.processes).best.engine.compile == "no"  # on a CPU never
    assert {engine.compile for engine, _ in asked} == {"no"}
    compare_candidates(task(machine=GPU), 1, asked.processes)
    assert {engine.compile for engine, _ in asked} == {"no", "graph"}
    assert compare_candidates(task(machine=GPU), LONG, asked.processes).best.engine.compile == "default"
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
    first = cached_choice(task(machine=GPU), 1, asked.processes)
    asked.clear()
    assert cached_choice(task(machine=GPU), 1, asked.processes) == first
    more = replace(task().recipe, pretrain=replace(task().recipe.pretrain, steps=9))
    assert cached_choice(replace(task(machine=GPU), recipe=more), 1, asked.processes) == first
    assert cached_choice(task(machine=replace(GPU, memory=99)), 1, asked.processes) == first
    assert not asked
    assert cached_choice(task(machine=GPU), LONG, asked.processes).compiling
    assert asked
    asked.clear()
    cached_choice(task(machine=GPU), 1, asked.processes)
    assert not asked
    cached_choice(task(Engine(precision="bf16"), GPU), 1, asked.processes)
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
