"""The cells of one command, or of one of its rounds, run."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from datasets.source import Source
from sweep.config import Sweep
from sweep.folder import Folder
from sweep.imagenet import Weights
from sweep.logbook import Logbook
from sweep.machine import Machine
from sweep.provenance import commit, project_version
from sweep.show import Outcome
from sweep.stopping import Stop
from sweep.terminal import Terminal
from trainables.cell import Cell

if TYPE_CHECKING:
    from sweep.chronicle import Chronicle
    from sweep.recorder import Recorder


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
    from sweep.launch import launch
    from sweep.recorder import Recorder
    from sweep.watch import Watch

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
