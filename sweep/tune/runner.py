"""Run the missing cells of a sweep with Ray Tune."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune import Callback
from ray.tune.search import Searcher

from datasets.source import Source
from sweep.cluster.machine import Machine
from sweep.cluster.nodes import list_machines
from sweep.config.grid import cheapest_last
from sweep.config.sweep import Sweep
from sweep.prepare import Weights
from sweep.provenance import commit, project_version
from sweep.signals import Stop
from sweep.storage.run_dir import Folder
from sweep.tracking.background import Logbook
from sweep.tune.console import Terminal
from sweep.tune.grid_searcher import GridSearcher
from sweep.tune.outcome import Outcome
from sweep.tune.progress_writer import Chronicle
from sweep.tune.recorder import Recorder
from sweep.tune.trainable import train_cell
from sweep.tune.watchdog import Watch
from trainables.cell import Cell

LOST_WORKERS = 10
"""How often a cell goes on in another worker because its own was lost, before it is given up."""
WAITING = 64
"""Cells that Ray's autoscaler sees waiting at most, on a cluster."""


@dataclass(frozen=True, kw_only=True)
class Room:
    """What a cell asks of Ray, and how many run at the same time."""

    share: dict[str, float]
    slots: int
    """Workers that are started at once."""
    at_once: int
    """Cells that fit, on all machines that there are."""
    a_machine: int
    """Of these on the machine that cells go to first."""
    gpus: int
    """GPUs of all machines."""


def room(sweep: Sweep, machine: Machine) -> Room:
    """How Ray's machines are shared among cells of a sweep whose engine is settled.

    Args:
        sweep: what is run.
        machine: the one that cells go to first.
    """
    threads, there = sweep.engine.threads, [one for one in list_machines() if one.runs_cells]
    # No cell asks for more memory than there is, or it would wait for ever: it runs alone.
    memory = min(sweep.cell_memory * 1e9, machine.memory)
    share = {"cpu": float(threads), "gpu": sweep.gpu_share if machine.gpus else 0.0, "memory": memory}
    fitting = sum(_fitting(one, share) for one in there)
    return Room(
        share=share,
        slots=sweep.workers or max(1, sum(one.cores // threads for one in there)),
        at_once=max(1, min(sweep.workers or fitting, fitting)),
        a_machine=max(1, min(sweep.workers or fitting, _fitting(machine, share))),
        gpus=sum(one.gpus for one in there),
    )


def _fitting(machine: Machine, share: Mapping[str, float]) -> int:
    """Cells that fit on one machine at the same time."""
    has = {"cpu": machine.cores, "gpu": machine.gpus, "memory": machine.memory}
    # A tenth of a GPU fits ten times, whatever floats say.
    return min(int(has[name] / needed + 1e-6) for name, needed in share.items() if needed)


def launch(
    sweep: Sweep,
    cells: Sequence[Cell],
    source: Source,
    imagenet: Path | None,
    machine: Machine,
    recorder: Recorder,
    watch: Watch,
    chronicle: Chronicle,
    stop: Stop,
    logs: Path,
    *,
    grows: bool,
) -> None:
    """Run `cells` where Ray runs; what they give goes to the recorder.

    Workers are processes that run cell after cell. Each holds the engine's threads and, where there are GPUs,
    `sweep.gpu_share` of one. The source is put into Ray's object store once and shared by all of them.
    Machines that join later get cells too.
    Cells that failed run once more at the end, those that did not fit beside others one at a time.
    """
    trainable = tune.with_parameters(
        train_cell,
        recipe=sweep.recipe,
        source=source,
        engine=sweep.engine,
        imagenet=imagenet,
        keeping=sweep.keeping,
    )

    def handing_out(some: Sequence[Cell]) -> Searcher:
        return GridSearcher(some, closed=lambda: stop.asked)

    first = handing_out(cheapest_last(cells, 2 * room(sweep, machine).slots))
    run_rounds(sweep, trainable, first, handing_out, machine, recorder, watch, chronicle, stop, logs, grows=grows)


def run_rounds(
    sweep: Sweep,
    trainable: Any,
    first: Searcher,
    handing_out: Callable[[Sequence[Cell]], Searcher],
    machine: Machine,
    recorder: Recorder,
    watch: Watch,
    chronicle: Chronicle | None,
    stop: Stop,
    logs: Path,
    *,
    grows: bool,
) -> None:
    """Run what `first` hands out, then what has to run again, `handing_out` that; the rest as in `launch`.

    Without a chronicle there is no `progress.json`.
    """
    fit = room(sweep, machine)
    # Else Tune starts one worker after the other, and each takes seconds to import torch. Where machines may
    # join, cells that wait are what they are started for.
    waiting = max(fit.slots, WAITING) if grows and not sweep.workers else fit.slots
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(waiting)
    callbacks = [recorder, watch, *([chronicle.follow(recorder)] if chronicle else [])]
    rounds = _Rounds(recorder, callbacks, logs)
    rounds.run(tune.with_resources(trainable, fit.share), first, "ray", sweep.workers or None)
    if again := recorder.take_again():
        rounds.run(tune.with_resources(trainable, fit.share), handing_out(again), "ray-again", sweep.workers or None)
    if last := recorder.take_postponed():
        alone = {"cpu": float(sweep.engine.threads), "gpu": 1.0 if machine.gpus else 0.0}
        rounds.run(tune.with_resources(trainable, alone), handing_out(last), "ray-alone", 1)


@dataclass(frozen=True)
class _Rounds:
    """Tune's runs of one command."""

    recorder: Recorder
    callbacks: list[Callback]
    logs: Path

    def run(self, trainable: Any, searcher: Searcher, name: str, at_once: int | None) -> None:
        """Let Tune run the cells that are handed out, `at_once` at a time at most; `name` is the folder of its logs."""
        tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=-1,
                max_concurrent_trials=at_once,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: trial.config["cell"]["objective"] + "-" + trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name=name,
                storage_path=str(self.logs.resolve()),
                callbacks=self.callbacks,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=LOST_WORKERS),
                stop=_Over(self.recorder),
            ),
        ).fit()


class _Over(tune.Stopper):
    """Ends everything when nothing that runs is worth waiting for."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._recorder.over

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, as of the recorder."""
        return {}


def run_cells(
    sweep: Sweep,
    missing: Sequence[Cell],
    source: Source,
    imagenet: Weights | None,
    machine: Machine,
    folder: Folder,
    logbook: Logbook,
    chronicle: "Chronicle",
    *,
    grows: bool,
) -> Outcome:
    """Run the missing cells; `grows` tells whether machines may join meanwhile."""
    from sweep.tune.recorder import Recorder
    from sweep.tune.watchdog import Watch

    total = len(sweep.cells())
    terminal = Terminal(total, total - len(missing))
    stop = Stop(sweep.keeping.stop, folder.store)
    recorder = Recorder(sweep, source.classes, origin(sweep, source), logbook, terminal, stop, folder.store)
    watch = Watch(sweep.patience, terminal)
    with followed(terminal, stop), stop.listening():
        weights_file = imagenet.path if imagenet else None
        launch(
            sweep,
            missing,
            source,
            weights_file,
            machine,
            recorder,
            watch,
            chronicle,
            stop,
            folder.logs,
            grows=grows,
        )
    return came_to(recorder, stop)


def origin(sweep: Sweep, source: Source) -> dict[str, str]:
    """The provenance that all cells of a command share."""
    return {
        "commit": commit(),
        "version": project_version(),
        "data": source.fingerprint,
        "source": source.title,
        "task": sweep.recipe.data.task,
    }


@contextmanager
def followed(terminal: Terminal, stop: Stop) -> Iterator[None]:
    """Cells run inside; a second signal, after one that asked them to stop, ends that and no more."""
    try:
        yield
    except KeyboardInterrupt:
        if not stop.asked:
            raise
    finally:
        terminal.close()


def came_to(recorder: "Recorder", stop: Stop) -> Outcome:
    """What the cells came to, by what was recorded."""
    return Outcome(
        failures=recorder.failures,
        counts=recorder.retries.counts,
        unwritable=recorder.stopped,
        stop=stop if stop.asked else None,
    )
