"""What a command does before it runs or plans cells: lock the folder, find the missing cells, load the data."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from analysis.records.io import has_summary_alone, read_records, recorded_keys
from analysis.records.remote import fetch
from datasets.allocation import allocation
from datasets.errors import InputError
from datasets.files import write_text_atomically
from datasets.registry import load, open_data, survey
from datasets.source import Settings, Source, aimed
from datasets.types import Target
from sweep.cluster.machine import Machine, check_threads
from sweep.cluster.ray_folder import ray_folder
from sweep.config.kept import kept_encoders, without_encoder
from sweep.config.sweep import Sweep
from sweep.config.yaml_io import from_yaml, recipe_differences, to_yaml
from sweep.monitor.progress import add_shared_progress
from sweep.storage.cleanup import remove_leftovers
from sweep.storage.lease import leased
from sweep.storage.lock import locked, shared
from sweep.storage.object_store import ObjectStore
from sweep.storage.run_dir import RunDir, cannot_write
from trainables.cell import Cell, digest
from trainables.cell_job import KeptEncoders
from trainables.engine import Engine
from trainables.recipe import KNOWN
from trainables.weights_file import checked_path, file_digest, weights_path


@contextmanager
def exclusive_run_dir(sweep: Sweep) -> Iterator[tuple[RunDir, str | None]]:
    """Lock the sweep for this process, and bring its folder up to date with its address, if it has one.

    Yields:
        The folder, and the previous driver if it was killed.

    Raises:
        InputError: another command runs the sweep, or the folder cannot be written.
        RecordsError, StoreError: the sweep's address cannot be read or written.
    """
    run_dir = sweep.run_dir
    with locked(run_dir) as killed_here, _leased_copy(run_dir.store) as killed_there:
        yield run_dir, killed_there if run_dir.uri else killed_here


@contextmanager
def opened_run_dir(sweep: Sweep, *, shard: bool, before: float) -> Iterator[tuple[RunDir, dict[str, str]]]:
    """Lock the sweep for this process, or share it with others; remove what an interrupted command has left.

    Args:
        sweep: the sweep of the command line.
        shard: whether to share the folder with other commands, each of which takes cells that nobody has.
        before: seconds since the epoch; unfinished files that are older are removed.

    Yields:
        The folder, and key -> status of the recorded cells.

    Raises:
        InputError: another command runs the sweep, the folder cannot be written, or it cannot be shared.
        RecordsError, StoreError: the sweep's address cannot be read or written.
    """
    if not shard:
        with exclusive_run_dir(sweep) as (run_dir, killed):
            yield run_dir, take_over(run_dir, killed, before=before)
        return
    recorded: dict[str, str] = {}

    def clean(killed: str | None) -> None:
        recorded.update(take_over(sweep.run_dir, killed, before=before))

    with shared(sweep.run_dir, digest(sorted(cell.key for cell in sweep.cells())), clean) as run_dir:
        yield run_dir, recorded or recorded_status(run_dir)


@contextmanager
def _leased_copy(store: ObjectStore) -> Iterator[str | None]:
    """At an address: hold the lease, with an up-to-date folder. Yields the previous driver if it was killed."""
    if store.uri is None:
        yield None
        return
    fetch(store.uri, store.root)  # fails at once if the address cannot be reached
    with leased(store) as killed:
        fetch(store.uri, store.root)  # from now on no other driver writes there
        yield killed


# --- a folder belongs to one recipe, one data fingerprint and one precision


def previous_sweep(run_dir: RunDir, sweep: Sweep) -> Sweep | None:
    """Check that the folder is new or holds records of this recipe.

    Returns:
        The sweep for which the folder was used last, from `sweep.yaml` or otherwise from its records; None for a new
        folder.

    Raises:
        InputError: it holds records of another recipe or precision (the message says what differs), a summary that the
            sweep would replace, or is damaged.
    """
    if has_summary_alone(run_dir.root):
        raise InputError(
            f"--out {run_dir.name} has a summary.parquet without its records, which a sweep would replace: choose "
            "another --out, or move that file"
        )
    before = _from_config(run_dir) if run_dir.config.exists() else _from_records(run_dir, sweep)
    if before is None:
        return None
    if changed := recipe_differences(before, sweep):
        raise InputError(
            f"--out {run_dir.name} holds records of another recipe: {'; '.join(changed)}; choose another --out, or use "
            f"that recipe with --config {run_dir.config}"
        )
    if sweep.vary or before.vary:
        names = [[name for name, *_ in sorted(one.vary)] for one in (before, sweep)]
        if names[0] != names[1] and recorded_keys(run_dir.root).status:
            there, here = (", ".join(some) or "no setting" for some in names)
            raise InputError(
                f"--out {run_dir.name} holds records of a sweep that varies {there}; this one varies {here}: choose "
                "another --out, or vary the same settings (their values may differ)"
            )
    for name, flag in (("precision", "--precision"), ("deterministic", "--engine.deterministic")):
        recorded, wanted = getattr(before.engine, name), getattr(sweep.engine, name)
        if "auto" not in (recorded, wanted) and recorded != wanted:
            raise InputError(
                f"--out {run_dir.name} holds records made with {name} {recorded}, not {wanted}: choose another --out, "
                f"or change {flag}"
            )
    return before


def _from_config(run_dir: RunDir) -> Sweep:
    try:
        return from_yaml(run_dir.config)
    except InputError as error:
        reason = str(error).removeprefix(f"--config {run_dir.config}: ")
        raise InputError(
            f"--out {run_dir.name}: its sweep.yaml is damaged or of another version ({reason}): choose another "
            "--out, or delete that file if the records belong to this recipe"
        ) from error


def _from_records(run_dir: RunDir, sweep: Sweep) -> Sweep | None:
    if not recorded_keys(run_dir.root).status:
        return None
    records = read_records(run_dir.root)
    if not set(records.recipe) <= set(sweep.recipes):
        raise InputError(
            f"--out {run_dir.name} holds records of another recipe and no sweep.yaml: choose another --out"
        )
    row = records.iloc[-1]
    engine = Engine(precision=row.precision, layout=row.layout, compile=row.compile, threads=int(row.threads))
    return replace(sweep, engine=replace(engine, deterministic=sweep.engine.deterministic))


def claim(run_dir: RunDir, sweep: Sweep, data: Sequence[str], weights: Sequence[str] = ()) -> None:
    """Create the folder, or check that it holds results on the same data and weights; write `sweep.yaml`.

    Args:
        run_dir: the folder.
        sweep: the sweep that runs there.
        data: fingerprints of the data; several if --vary changes the data.
        weights: fingerprint of the weights of the baseline imagenet, if it is run.

    Raises:
        InputError: as for `previous_sweep`, or the folder holds results on other data or cannot be written.
        StoreError: it cannot be written at the sweep's address.
    """
    previous_sweep(run_dir, sweep)
    check_fingerprints(run_dir, data, weights)
    fingerprints = {run_dir.data: data, run_dir.weights: weights}
    try:
        run_dir.logs.mkdir(parents=True, exist_ok=True)
        for path, current in fingerprints.items():
            if current:
                every = dict.fromkeys((*_recorded(path), *current))
                write_text_atomically(path, "".join(f"{one}\n" for one in every))
        write_text_atomically(run_dir.config, to_yaml(sweep))
    except OSError as error:
        raise cannot_write(run_dir.root, error) from error
    run_dir.send(*fingerprints, run_dir.config)


def check_fingerprints(run_dir: RunDir, data: Sequence[str], weights: Sequence[str] = ()) -> None:
    """Check that the folder's results, if any, are on the same data and weights.

    Raises:
        InputError: they are not.
    """
    for path, current, how in (
        (run_dir.data, data, "on other data"),
        (run_dir.weights, weights, "with other ImageNet weights"),
    ):
        recorded = _recorded(path)
        # Values of --vary may be added to a folder, or left out.
        if current and recorded and not (set(current) <= set(recorded) or set(recorded) <= set(current)):
            raise InputError(
                f"--out {run_dir.name} holds records made {how} (fingerprint {', '.join(recorded)}, not "
                f"{', '.join(current)}): choose another --out"
            )


def _recorded(path: Path) -> list[str]:
    """The fingerprints in a file of the folder."""
    return path.read_text().split() if path.exists() else []


# --- which cells are missing


def take_over(run_dir: RunDir, killed: str | None, *, before: float) -> dict[str, str]:
    """Remove what an interrupted command has left in the folder, with printed messages.

    Args:
        run_dir: the folder, locked by this process.
        killed: the previous driver, if it was killed.
        before: seconds since the epoch; unfinished files that are older are removed.

    Returns:
        Key -> status of the recorded cells.
    """
    if killed:
        print(f"the previous command in this folder ({killed}) was interrupted: its records and checkpoints are used")
    add_shared_progress(run_dir)
    recorded = recorded_status(run_dir)
    if count := remove_leftovers(run_dir, recorded, before=before):
        print(f"removed {count} unfinished files of an interrupted command")
    return recorded


def recorded_status(run_dir: RunDir) -> dict[str, str]:
    """Key -> status of the recorded cells. Unreadable records are printed."""
    recorded = recorded_keys(run_dir.root)
    for path in recorded.unreadable:
        print(f"{path} cannot be read: its cell runs again")
    return dict(recorded.status)


def missing_cells(sweep: Sweep, recorded: Mapping[str, str]) -> list[Cell]:
    """The cells without a record; with --retry-failed only those that are recorded as failed."""
    wanted = "failed" if sweep.retry_failed else None
    return [cell for cell in sweep.cells() if recorded.get(cell.key) == wanted]


# --- the files that cells read, and the machine that runs them


@dataclass(frozen=True)
class Weights:
    """A file of weights, and a fingerprint of 16 hex digits of its content."""

    path: Path
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The data and weights that cells read."""

    sources: Mapping[Settings, Source]
    """Settings of the data -> the data; several if --vary changes the data."""
    weights: Weights | None
    """Weights of the baseline imagenet, if it is run."""
    first_weights: tuple[Path, ...] = ()
    """The files of `--encoder.weights`."""
    kept: Mapping[str, KeptEncoders] = field(default_factory=dict)
    """Fingerprint of a recipe -> the encoders that its cells probe; empty if they pretrain their own."""
    absent: Mapping[str, str] = field(default_factory=dict)
    """Key -> why a missing cell has no encoder to probe."""

    @property
    def files(self) -> list[Path]:
        """The files that workers open."""
        files = [path for source in self.sources.values() for path in source.files]
        files += [one.folder for one in self.kept.values()][:1]
        resolved = [path.resolve() for path in (*files, *([self.weights.path] if self.weights else ()))]
        return [*resolved, *self.first_weights]

    @property
    def fingerprints(self) -> tuple[list[str], list[str]]:
        """The fingerprints of the data and of the weights."""
        data = [source.fingerprint for source in self.sources.values()]
        return data, [self.weights.fingerprint] if self.weights else []


def load_inputs(sweep: Sweep, missing: Sequence[Cell]) -> Inputs:
    """Load the data and weights that cells read.

    Call this before Ray starts: Ray forks, and a thread inside a matrix product of OpenBLAS can then hang forever.

    Raises:
        InputError: the weights or the data cannot be used.
    """
    weights = find_weights(sweep, sweep.cells() if missing and sweep.until else missing)
    # A probe of kept encoders starts from these, whatever they started from.
    recipes = () if sweep.encoders else sweep.recipes.values()
    first = dict.fromkeys(path for recipe in recipes if (path := weights_path(recipe.encoder.weights)))
    kept = kept_encoders(sweep)
    absent = without_encoder(missing, kept)
    inputs = Inputs(sources=load_sources(sweep), weights=weights, first_weights=tuple(first), kept=kept, absent=absent)
    _check_probes(sweep, inputs.sources, missing)
    return inputs


def _check_probes(sweep: Sweep, sources: Mapping[Settings, Source], cells: Sequence[Cell]) -> None:
    """Check that kept encoders were pretrained on these data, and that each share of labelled images shows all classes.

    Raises:
        InputError: something does not fit.
    """
    before = _recorded(RunDir(sweep.encoders).data) if sweep.encoders else []
    other = sorted({source.fingerprint for source in sources.values()} - set(before))
    if before and other:
        raise InputError(
            f"the encoders of {sweep.encoders} were pretrained on other data (fingerprint {', '.join(before)}, not "
            f"{', '.join(other)}): restore the data"
        )
    recipes = sweep.recipes
    smallest: dict[tuple[Settings, Target, int], float] = {}  # larger shares contain it
    for cell in cells:
        data, probe = recipes[cell.recipe].data, recipes[cell.recipe].probe
        if data in sources and probe.labels < smallest.get((data, probe.target, cell.seed), 1.0):
            smallest[data, probe.target, cell.seed] = probe.labels
    if not smallest:
        return
    import torch  # here, because a driver needs it for little else

    from trainables.views import check_share

    for (data, target, seed), share in smallest.items():
        check_share(open_data(data, aimed(sources[data], target), seed, torch.device("cpu")), share, seed)


def load_sources(sweep: Sweep) -> dict[Settings, Source]:
    """Settings of the data -> the data, for all recipes of a sweep.

    Raises:
        InputError: the data cannot be used.
    """
    every = dict.fromkeys(recipe.data for recipe in sweep.recipes.values())
    return {data: load(data, sweep.place, sweep.demands(data)) for data in every}


def check_settings(sweep: Sweep, address: str | None, *, inline: bool = False) -> None:
    """Check what is known before data are loaded and Ray starts: cores, threads, Ray's folder, encoders, weights.

    Prints what limits the use of this machine, if anything does.

    Args:
        sweep: the sweep.
        address: of a cluster; None: cells run on this machine.
        inline: whether they run without Ray.

    Raises:
        InputError: a cell cannot run with them.
    """
    if address is None:
        usable = allocation(sweep.cores)
        if usable.limits:
            print(f"using {usable.limits}", flush=True)
        why = usable.cores.reason
        name = f"this machine that may be used ({why})" if why else "this machine"
        check_threads(sweep.engine.threads, usable.cores.amount, name)
        if not inline:
            ray_folder(sweep.temp_dir)
    elif sweep.cores or sweep.temp_dir:
        given = f"--cores {sweep.cores}" if sweep.cores else f"--temp-dir {sweep.temp_dir}"
        flag = "num-cpus" if sweep.cores else "temp-dir"
        raise InputError(
            f"{given} is for a Ray that this command starts: with --address each machine has what its Ray was started "
            f"with (`ray start --{flag}`); leave it out"
        )
    every = ((recipe.encoder, recipe.data.bands, recipe.data.size) for recipe in sweep.recipes.values())
    for encoder, bands, size in dict.fromkeys(every):
        weights = None if sweep.encoders else checked_path(encoder.weights)  # kept encoders need no file
        if encoder.name not in KNOWN or weights:
            from trainables.models.weights import check_encoder  # here: torch and timm take seconds to import

            check_encoder(encoder, weights, sweep.engine, bands=bands, size=size)


def check_without_writing(sweep: Sweep, address: str | None, *, inline: bool = False) -> None:
    """Check all that a sweep would refuse, as far as it is known without writing files or starting Ray.

    Its arguments are those of `check_settings`.

    Raises:
        InputError: the folder, a setting, the data, the weights or the cluster cannot be used.
    """
    root = sweep.run_dir.root
    place = next(folder for folder in (root, *root.absolute().parents) if folder.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise cannot_write(root, PermissionError(0, f"{place} is not a folder that you can write to"))
    check_settings(sweep, address, inline=inline)
    kept_encoders(sweep)
    every = dict.fromkeys(recipe.data for recipe in sweep.recipes.values())
    surveyed = {data: survey(data, sweep.place, sweep.demands(data)) for data in every}
    _check_probes(sweep, {data: source for data, source in surveyed.items() if source}, sweep.cells())
    if sweep.imagenet_weights or not sweep.download:
        find_weights(sweep, sweep.cells())
    cluster_address(address)


def find_weights(sweep: Sweep, cells: Sequence[Cell]) -> Weights | None:
    """Find and load the weights of the baseline imagenet; returns None if no cell needs them.

    Raises:
        InputError: the weights are missing, or do not fit the recipe's encoder.
    """
    if sweep.encoders or not any(cell.objective == "imagenet" for cell in cells):
        return None
    from trainables.models.imagenet import imagenet_encoder, weights_file  # here: torch

    path = weights_file(sweep.recipe.encoder, sweep.imagenet_weights, download=sweep.download).resolve()
    for recipe in sweep.recipes.values():
        imagenet_encoder(recipe.encoder, path, bands=recipe.data.bands)
    return Weights(path, file_digest(path))


def cluster_address(address: str | None) -> str | None:
    """HOST:PORT of the cluster at --address, where Ray answers; None without --address.

    Raises:
        InputError: there is no cluster at the address.
    """
    if address is None:
        return None
    from sweep.cluster.join import resolve_address  # here: Ray takes a second to import

    return resolve_address(address)


def machine_for(sweep: Sweep, address: str | None, files: Sequence[Path]) -> Machine:
    """Find the machine that cells go to first, in a running Ray; prints warnings about a cluster's machines.

    Args:
        sweep: the sweep, whose folder exists.
        address: of the cluster; None: Ray was started on this machine.
        files: the files that workers open.

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
