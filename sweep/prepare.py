"""What a command does before it runs or plans anything: it locks the folder, sees what is missing, loads data."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from analysis.records.io import read_records, recorded_keys
from analysis.records.remote import fetch
from datasets.errors import InputError
from datasets.files import write_text_atomically
from datasets.registry import load
from datasets.source import Source
from sweep.cluster.machine import Machine
from sweep.config.sweep import Sweep
from sweep.config.yaml_io import from_yaml, recipe_differences, to_yaml
from sweep.storage.lease import leased
from sweep.storage.lock import locked
from sweep.storage.object_store import ObjectStore
from sweep.storage.run_dir import RunDir, cannot_write
from trainables.cell import Cell
from trainables.engine import Engine
from trainables.recipe import KNOWN, Recipe


@contextmanager
def exclusive_run_dir(sweep: Sweep) -> Iterator[tuple[RunDir, str | None]]:
    """Inside, this process is the only driver of the sweep, and its folder is up to date with its address, if any.

    Yields:
        The folder, and the previous driver where it was killed.

    Raises:
        InputError: another driver runs the sweep, or the folder cannot be written.
        RecordsError, StoreError: the sweep's address cannot be read or written.
    """
    run_dir = sweep.run_dir
    with locked(run_dir) as killed_here, _leased_copy(run_dir.store) as killed_there:
        yield run_dir, killed_there if run_dir.uri else killed_here


@contextmanager
def _leased_copy(store: ObjectStore) -> Iterator[str | None]:
    """At an address: hold the lease, with the folder up to date. Yields the previous driver where it was killed."""
    if store.uri is None:
        yield None
        return
    fetch(store.uri, store.root)  # an address that cannot be reached is refused at once
    with leased(store) as killed:
        fetch(store.uri, store.root)  # nobody else writes there from now on
        yield killed


# --- a folder belongs to one recipe, one data fingerprint and one precision


def previous_sweep(run_dir: RunDir, sweep: Sweep) -> Sweep | None:
    """Make sure, before anything is started, that the folder is new or holds records of this recipe.

    Returns:
        The sweep that the folder was last used for, by `sweep.yaml` or, without that, by its records; None for a new
        folder.

    Raises:
        InputError: it holds records of another recipe or precision (says what differs), or is damaged.
    """
    before = _from_config(run_dir) if run_dir.config.exists() else _from_records(run_dir, sweep)
    if before is None:
        return None
    if changed := recipe_differences(before, sweep):
        raise InputError(
            f"--out {run_dir.name} holds the records of another recipe: {'; '.join(changed)}; choose another "
            f"--out, or repeat its recipe with --config {run_dir.config}"
        )
    for name, flag in (("precision", "--precision"), ("deterministic", "--engine.deterministic")):
        there, here = getattr(before.engine, name), getattr(sweep.engine, name)
        if "auto" not in (there, here) and there != here:
            raise InputError(
                f"--out {run_dir.name} holds records made with {name} {there}, not {here}: choose another --out, or "
                f"change {flag}"
            )
    return before


def _from_config(run_dir: RunDir) -> Sweep:
    try:
        return from_yaml(run_dir.config)
    except InputError as error:
        reason = str(error).removeprefix(f"--config {run_dir.config}: ")
        raise InputError(
            f"--out {run_dir.name}: its sweep.yaml is damaged or of another version ({reason}): choose another "
            "--out, or delete that file if the records are this recipe's"
        ) from error


def _from_records(run_dir: RunDir, sweep: Sweep) -> Sweep | None:
    if not recorded_keys(run_dir.root).status:
        return None
    records = read_records(run_dir.root)
    if set(records.recipe) != {sweep.recipe.fingerprint}:
        raise InputError(
            f"--out {run_dir.name} holds records of another recipe and no sweep.yaml: choose another --out"
        )
    row = records.iloc[-1]
    engine = Engine(precision=row.precision, layout=row.layout, compile=row.compile, threads=int(row.threads))
    return replace(sweep, engine=replace(engine, deterministic=sweep.engine.deterministic))


def claim(run_dir: RunDir, sweep: Sweep, data: str, weights: str | None = None) -> None:
    """Create the folder, or make sure that it holds results on these data (and weights); write `sweep.yaml`.

    Args:
        run_dir: the folder.
        sweep: what will be run there.
        data: fingerprint of the data.
        weights: fingerprint of the weights of the baseline imagenet, where it is run.

    Raises:
        InputError: as `previous_sweep`, or it holds results on other data, or cannot be written.
        StoreError: it cannot be written at the sweep's address.
    """
    previous_sweep(run_dir, sweep)
    fingerprints = {run_dir.data: (data, "on other data"), run_dir.weights: (weights, "with other ImageNet weights")}
    for path, (here, how) in fingerprints.items():
        if here and path.exists() and (there := path.read_text().strip()) != here:
            raise InputError(
                f"--out {run_dir.name} holds records made {how} (fingerprint {there} there, {here} here): choose "
                "another --out"
            )
    try:
        run_dir.logs.mkdir(parents=True, exist_ok=True)
        for path, (here, _) in fingerprints.items():
            if here:
                write_text_atomically(path, here + "\n")
        write_text_atomically(run_dir.config, to_yaml(sweep))
    except OSError as error:
        raise cannot_write(run_dir.root, error) from error
    run_dir.send(*fingerprints, run_dir.config)


# --- which cells are missing


def recorded_status(run_dir: RunDir) -> dict[str, str]:
    """Key -> status of the recorded cells; a record that cannot be read is reported on the terminal."""
    recorded = recorded_keys(run_dir.root)
    for path in recorded.unreadable:
        print(f"{path} cannot be read and is not counted as recorded: its cell is run again")
    return dict(recorded.status)


def missing_cells(sweep: Sweep, recorded: Mapping[str, str]) -> list[Cell]:
    """The cells that have no record; with --retry-failed just those that are recorded as failed."""
    wanted = "failed" if sweep.retry_failed else None
    return [cell for cell in sweep.cells() if recorded.get(cell.key) == wanted]


# --- what cells read, and where they run


@dataclass(frozen=True)
class Weights:
    """A file of weights, and 16 hex digits of its content."""

    path: Path
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What cells read."""

    source: Source
    weights: Weights | None
    """Of the baseline imagenet, where it is run."""

    @property
    def files(self) -> list[Path]:
        """The files that workers open."""
        return [path.resolve() for path in (*self.source.files, *([self.weights.path] if self.weights else ()))]

    @property
    def fingerprints(self) -> tuple[str, str | None]:
        """Those of the data and of the weights."""
        return self.source.fingerprint, self.weights.fingerprint if self.weights else None


def load_inputs(sweep: Sweep, missing: Sequence[Cell]) -> Inputs:
    """Load what cells read, after making sure that the encoder can be built.

    Call it before Ray starts: Ray forks, and a thread that is inside a matrix product then hangs for ever (OpenBLAS).

    Raises:
        InputError: the encoder, the weights or the data cannot be used.
    """
    if missing:
        check_encoder(sweep.recipe)
    weights = find_weights(sweep, sweep.cells() if missing and sweep.until else missing)
    return Inputs(source=load(sweep.recipe.data, sweep.place, sweep.demands), weights=weights)


def check_encoder(recipe: Recipe) -> None:
    """Make sure that the encoder can be built.

    Raises:
        InputError: it cannot, or gives no feature map.
    """
    if recipe.encoder.name not in KNOWN:
        from trainables.models import encoders  # here: torch and timm take seconds to import

        encoders.check_encoder(recipe.encoder, bands=recipe.data.bands)


def find_weights(sweep: Sweep, cells: Sequence[Cell]) -> Weights | None:
    """Find and try the weights of the baseline imagenet; None where none of the cells needs them.

    Raises:
        InputError: there are none, or they do not fit the recipe's encoder.
    """
    if not any(cell.objective == "imagenet" for cell in cells):
        return None
    from trainables.models.imagenet import file_digest, imagenet_encoder, weights_file  # here: torch

    recipe = sweep.recipe
    path = weights_file(recipe.encoder, sweep.imagenet_weights, download=sweep.download).resolve()
    imagenet_encoder(recipe.encoder, path, bands=recipe.data.bands)
    return Weights(path, file_digest(path))


def machine_for(sweep: Sweep, address: str | None, files: Sequence[Path]) -> Machine:
    """The machine that cells go to first, in a running Ray; warnings about a cluster's machines are printed.

    Args:
        sweep: what was asked for; its folder exists.
        address: of the cluster; None: Ray was started here.
        files: what workers open.

    Raises:
        InputError: the cluster's machines cannot run the cells.
    """
    from sweep.cluster.session import first_machine  # here: Ray takes a second to import

    first = first_machine(sweep.engine.threads, address)
    if address is not None:
        from sweep.cluster.preflight import check_machines

        for line in check_machines(sweep.run_dir.location, files):
            print(line)
    return first
