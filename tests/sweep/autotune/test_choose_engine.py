"""Settings of the command line come before those of the folder, and these before measured ones."""

from dataclasses import replace

import pytest

from datasets.errors import InputError
from sweep.autotune import choose as module
from sweep.autotune.choose import DEFAULT_GPU_SHARE, Choice
from sweep.autotune.measurement import Measurement
from sweep.cluster.machine import Machine
from sweep.presets import preset
from trainables.engine import PLAIN, Engine

LAPTOP = Machine(id="n", name="here", processor="some", cores=4, memory=10**10)
GPU = replace(LAPTOP, accelerator="H200", gpus=1)
FAST = Engine(precision="bf16", layout="contiguous", compile="no", threads=2)


def choose_engine(sweep, missing, machine):
    """With data and processes that no fake looks at."""
    return module.choose_engine(sweep, missing, machine, {sweep.recipe.data: None}, None)


def asked(**changes):
    return replace(preset("vts-smoke"), **{"engine": Engine(), **changes})


@pytest.fixture
def measured(monkeypatch):
    """A fake `cached_choice`, and the tasks that it received."""
    tasks = []

    def choose(task, images, processes):
        tasks.append((task, images))
        best = Measurement(engine=FAST, cells=2, rate=3.0, memory=2 * 10**9, room=10 * 10**9)
        return Choice(best=best, plain=replace(best, engine=PLAIN, rate=1.5), compiling=False, tried=())

    monkeypatch.setattr(module, "cached_choice", choose)
    return tasks


def test_what_is_open_is_measured_for_the_images_that_are_missing(measured):
    sweep, words = choose_engine(asked(), asked().cells(), LAPTOP)
    assert sweep.engine == FAST
    assert sweep.cell_memory == 2.0
    assert "2.00 times the plain engine" in words
    ((task, images),) = measured
    assert task.cell.objective == "within_image"  # the first of those that take most
    assert images == 6 * 4 * 8  # six cells with a loss, four steps of eight pairs


def test_a_gpu_is_shared_by_as_many_cells_as_measured_and_fit(measured):
    assert choose_engine(asked(), asked().cells(), GPU)[0].gpu_share == 0.5
    assert choose_engine(asked(engine=PLAIN, gpu_share=0.0), asked().cells(), GPU)[0].gpu_share == 0.5
    assert choose_engine(asked(gpu_share=1.0), asked().cells(), GPU)[0].gpu_share == 1.0
    four = replace(GPU, gpus=4)
    for sweep, machine in ((asked(), GPU), (asked(workers=6), four), (asked(workers=6, gpu_share=0.4), GPU)):
        choose_engine(sweep, sweep.cells(), machine)
    assert [task.cells for task, _ in measured[-3:]] == [0, 2, 2]


def test_where_nothing_could_be_measured_a_cell_has_the_gpu_alone(monkeypatch):
    nothing = Measurement(engine=FAST, cells=1)
    choice = Choice(best=nothing, plain=nothing, compiling=False, tried=())
    monkeypatch.setattr(module, "cached_choice", lambda task, images, processes: choice)
    assert choose_engine(asked(), asked().cells(), GPU)[0].gpu_share == 1.0


def test_nothing_is_measured_where_nothing_is_open(measured):
    for sweep, engine in (
        (asked(engine=PLAIN), PLAIN),
        (asked(engine=Engine(deterministic=True)), replace(PLAIN, deterministic=True)),
    ):
        settled, _ = choose_engine(sweep, sweep.cells(), LAPTOP)
        assert settled.engine == engine
        assert settled.gpu_share == DEFAULT_GPU_SHARE
    assert not measured


@pytest.mark.parametrize(("name", "loss"), [("vts-smoke", "within_image"), ("cifar-quick", "moco")])
def test_baselines_alone_are_measured_too_for_losses_of_these_data_may_follow(measured, name, loss):
    sweep = replace(preset(name), engine=Engine(), objectives=("random",))
    assert choose_engine(sweep, sweep.cells(), LAPTOP)[0].engine == FAST
    ((task, images),) = measured
    assert (task.cell.objective, images) == (loss, 0)


def test_a_folder_goes_on_as_it_began_unless_told_otherwise(measured):
    before = asked(engine=FAST, cell_memory=1.5, gpu_share=0.5)
    assert asked().continuing(None) == asked()
    assert asked().continuing(before) == before
    told = asked(engine=Engine(threads=1), gpu_share=1.0).continuing(before)
    assert told == replace(before, engine=replace(FAST, threads=1), gpu_share=1.0)
    assert choose_engine(told, told.cells(), LAPTOP)[0] == told
    assert not measured


def test_measure_again_leaves_a_folder_its_precision_and_opens_everything_else(measured):
    before = asked(engine=FAST, cell_memory=1.5, gpu_share=0.5)
    again = asked(measure_again=True).continuing(before)
    assert again == asked(measure_again=True, engine=Engine(precision="bf16"))
    chosen, _ = choose_engine(again, again.cells(), LAPTOP)
    assert measured[0][0].again
    assert not chosen.measure_again  # what `sweep.yaml` says of the folder


def test_more_threads_than_cores_are_refused_with_what_there_is():
    with pytest.raises(InputError, match=r"--threads 9: a cell cannot use more than the 4 cores of "):
        choose_engine(asked(engine=replace(PLAIN, threads=9)), asked().cells(), LAPTOP)


def test_an_arithmetic_that_only_gpus_have_is_refused_on_a_cpu(measured):
    sweep = asked(engine=replace(PLAIN, precision="tf32"), gpu_share=1.0)
    with pytest.raises(InputError, match=r"\A--precision tf32: here has no GPU, [^\n]*; use fp32\Z"):
        choose_engine(sweep, sweep.cells(), LAPTOP)
    assert choose_engine(sweep, sweep.cells(), GPU)[0].engine.precision == "tf32"


def test_steps_are_recorded_on_gpus_alone(measured):
    sweep = asked(engine=replace(PLAIN, compile="graph"), gpu_share=1.0)
    with pytest.raises(InputError, match=r"\A--engine.compile graph: here has no GPU, [^\n]*; use no\Z"):
        choose_engine(sweep, sweep.cells(), LAPTOP)
    assert choose_engine(sweep, sweep.cells(), GPU)[0].engine.compile == "graph"


def test_a_sweep_that_no_engine_fits_or_that_finds_no_gpu_is_refused_before_a_cell_runs(monkeypatch):
    full = Measurement(engine=FAST, cells=1, fault="not enough memory: CUDA out of memory. Tried to allocate 8 GiB")
    choice = Choice(best=full, plain=full, compiling=False, tried=(full, full))
    monkeypatch.setattr(module, "cached_choice", lambda task, images, processes: choice)
    words = r"\A[^\n]* fits with no engine on here \(H200\), [^\n]*Tried to allocate 8 GiB; use [^\n]*\Z"
    with pytest.raises(InputError, match=words):
        choose_engine(asked(), asked().cells(), GPU)
    blind = replace(full, fault="no GPU that torch can use: no driver")
    monkeypatch.setattr(module, "cached_choice", lambda task, images, processes: replace(choice, tried=(blind, blind)))
    with pytest.raises(InputError, match=r"\Ahere: no GPU that torch can use: no driver; [^\n]*sweep.doctor[^\n]*\Z"):
        choose_engine(asked(), asked().cells(), GPU)
    other = replace(choice, tried=(full, replace(full, fault="no such instruction")))
    monkeypatch.setattr(module, "cached_choice", lambda task, images, processes: other)
    assert choose_engine(asked(), asked().cells(), GPU)[0].engine == FAST  # the cells report why they fail
