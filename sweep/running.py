"""The cells of one command, or of one of its rounds, run."""

from collections.abc import Sequence
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
    origin = {
        "commit": commit(),
        "version": project_version(),
        "data": source.fingerprint,
        "source": source.title,
        "task": sweep.recipe.data.task,
    }
    stop = Stop(sweep.keeping.stop, folder.store)
    recorder = Recorder(sweep, source.classes, origin, logbook, terminal, stop, folder.store)
    watch = Watch(sweep.patience, terminal)
    try:
        with stop.listening():
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
    except KeyboardInterrupt:
        if not stop.asked:
            raise
    finally:
        terminal.close()
    return Outcome(
        failures=recorder.failures,
        counts=recorder.retries.counts,
        unwritable=recorder.stopped,
        stop=stop if stop.asked else None,
    )
