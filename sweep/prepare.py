"""What a command does before it runs or plans anything: it enters the sweep's folder, and looks what is missing."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from analysis.records.io import recorded_keys
from analysis.records.remote import fetch
from sweep.cluster.machine import Machine
from sweep.config.sweep import Sweep
from sweep.storage.lease import leased
from sweep.storage.lock import alone
from sweep.storage.object_store import Store
from sweep.storage.run_dir import Folder
from trainables.cell import Cell
from trainables.recipe import KNOWN, Recipe


@contextmanager
def entered(sweep: Sweep) -> Iterator[tuple[Folder, str | None]]:
    """This process is the only driver of the sweep inside; its folder is as it is at its address, if it has one.

    Yields:
        The folder, and the driver before this one where that did not end by itself.

    Raises:
        InputError: another driver is there, or the folder cannot be written.
        RecordsError, StoreError: the sweep's address cannot be read, or not be written.
    """
    store = Store(sweep.root, sweep.remote)
    folder = Folder(sweep.root, store)
    with alone(folder) as here, _alone_there(store) as there:
        yield folder, there if sweep.remote else here


@contextmanager
def _alone_there(store: Store) -> Iterator[str | None]:
    """Where the sweep is at an address: this is its only driver inside, and the folder is as it is there.

    Yields:
        The driver before this one, where it did not end by itself.
    """
    if store.uri is None:
        yield None
        return
    fetch(store.uri, store.root)  # what cannot be reached is said at once
    with leased(store) as before:
        fetch(store.uri, store.root)  # and nobody writes there from now on
        yield before


def check_encoder(recipe: Recipe) -> None:
    """Make sure, before anything is run, that the encoder can be built.

    Raises:
        InputError: it cannot, or gives no feature map.
    """
    if recipe.encoder.name not in KNOWN:
        from trainables.models import encoders

        encoders.check_encoder(recipe.encoder, bands=recipe.data.bands)


def recorded_here(sweep: Sweep) -> dict[str, str]:
    """Key -> status of what is recorded; what cannot be read is said."""
    recorded = recorded_keys(sweep.root)
    for path in recorded.unreadable:
        print(f"{path} cannot be read and is not counted as recorded: its cell is run again")
    return dict(recorded.status)


def pending(sweep: Sweep, cells: Sequence[Cell], recorded: Mapping[str, str]) -> list[Cell]:
    """The cells that have no record; with --retry-failed just those that are recorded as failed."""
    wanted = "failed" if sweep.retry_failed else None
    return [cell for cell in cells if recorded.get(cell.key) == wanted]


def machine_for(sweep: Sweep, address: str | None, files: Sequence[Path]) -> Machine:
    """The machine that cells run on, in a running Ray; what is to be said of a cluster's machines is printed.

    Args:
        sweep: what was asked for; its folder exists.
        address: of the cluster; None: Ray was started here.
        files: what workers open.

    Raises:
        InputError: the cluster's machines cannot run the cells.
    """
    from sweep.cluster.session import first_machine

    there = first_machine(sweep.engine.threads, address)
    if address is not None:
        from sweep.cluster.preflight import check_machines

        for line in check_machines(sweep.remote or sweep.root.resolve(), files):
            print(line)
    return there


@dataclass(frozen=True)
class Weights:
    """A file of weights, and 16 hex digits of its content."""

    path: Path
    fingerprint: str


def weights(sweep: Sweep, cells: Sequence[Cell]) -> Weights | None:
    """The weights that the cells need; None where none of them is the baseline imagenet.

    Raises:
        InputError: there are none, or they do not fit the recipe's encoder.
    """
    if not any(cell.objective == "imagenet" for cell in cells):
        return None
    from trainables.models.imagenet import file_digest, imagenet_encoder, weights_file

    recipe = sweep.recipe
    path = weights_file(recipe.encoder, sweep.imagenet_weights, download=sweep.download).resolve()
    imagenet_encoder(recipe.encoder, path, bands=recipe.data.bands)
    return Weights(path, file_digest(path))
