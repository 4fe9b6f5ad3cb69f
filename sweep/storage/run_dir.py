"""A sweep's folder: names every file in it, on this machine and at the sweep's address on an object store."""

import shutil
import socket
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self
from urllib.parse import unquote

from analysis.records.remote import ENCODERS, working_copy
from datasets.errors import InputError
from sweep.storage.claims import Claims
from sweep.storage.object_store import ObjectStore

STOP = "checkpoints/stop"
"""While this file exists, in the folder or at the address, cells write a checkpoint and stop."""


@dataclass(frozen=True)
class RunDir:
    """The folder of a sweep, or of a search for learning rates."""

    root: Path
    """The folder on this machine."""
    uri: str | None = None
    """The sweep's address, if it has one. The files there count, and `root` is a copy of them."""
    claims: Claims | None = None
    """The cells of this driver, if it shares the folder with others."""
    shard: str = ""
    """The name of the driver, if it shares the folder: part of the names of files that it has for itself."""

    @classmethod
    def at(cls, out: Path | str) -> Self:
        """The folder at a path, or this machine's copy of the files at an address."""
        return cls(working_copy(out), out) if isinstance(out, str) else cls(out)

    @property
    def name(self) -> str:
        """The folder as the user names it."""
        return self.uri or str(self.root)

    @property
    def location(self) -> Path | str:
        """The address, or the absolute path of the folder, for other processes and machines."""
        return self.uri or self.root.resolve()

    def name_of(self, path: Path) -> str:
        """A file or folder in it, as the user names it."""
        return f"{self.name}/{path.relative_to(self.root).as_posix()}"

    # --- settings and data

    @property
    def config(self) -> Path:
        """All settings of the sweep; `--config` takes it."""
        return self.root / "sweep.yaml"

    @property
    def search_config(self) -> Path:
        """All settings of a search. With the name sweep.yaml the folder would look like that of a sweep."""
        return self.root / "search.yaml"

    @property
    def data(self) -> Path:
        """Fingerprint of the data behind the records."""
        return self.root / "data.txt"

    @property
    def weights(self) -> Path:
        """Fingerprint of the weights of the baseline imagenet."""
        return self.root / "weights.txt"

    # --- results; records, curves and predictions are named by `analysis.records`

    @property
    def summary(self) -> Path:
        """All records in one file."""
        return self.root / "summary.parquet"

    @property
    def tables(self) -> Path:
        """The tables that the end of a sweep prints."""
        return self.root / "tables.txt"

    @property
    def figures(self) -> Path:
        """Folder of the figures that the end of a sweep draws."""
        return self.root / "figures"

    @property
    def report(self) -> Path:
        """The report."""
        return self.root / "report.html"

    def encoder(self, key: str) -> Path:
        """A cell's pretrained encoder, with --keep encoders."""
        return self.root / ENCODERS / f"{key}.safetensors"

    # --- results of a search

    @property
    def recipes(self) -> Path:
        """Folder of the recipes that were tried, as <fingerprint>.yaml, for `sweep.run --config`."""
        return self.root / "recipes"

    @property
    def optuna(self) -> Path:
        """Optuna's database."""
        return self.root / "optuna.db"

    @property
    def chosen(self) -> Path:
        """The sweep with the chosen learning rates."""
        return self.root / "chosen.yaml"

    @property
    def rates_table(self) -> Path:
        """Each cell with its learning rate and score."""
        return self.root / "rates.parquet"

    @property
    def rates_text(self) -> Path:
        """The same table as text, with the chosen rates."""
        return self.root / "rates.txt"

    # --- while it runs

    @property
    def logs(self) -> Path:
        """Folder of log files."""
        return self.root / "logs"

    @property
    def log(self) -> Path:
        """The driver's log. At an address each machine has its own, and in a shared folder each driver."""
        whose = self.shard or (socket.gethostname() if self.uri else "")
        return self.logs / (f"sweep-{whose}.log" if whose else "sweep.log")

    @property
    def progress(self) -> Path:
        """The driver and the running cells, for `python -m sweep.status`. In a shared folder each driver has its own,
        which is added to `progress.json` when it ends."""
        return self.root / (f"progress-{self.shard}.json" if self.shard else "progress.json")

    @property
    def shared_progress(self) -> list[Path]:
        """The files of `progress` of the drivers that share the folder."""
        return sorted(self.root.glob("progress-*.json"))

    @property
    def plan(self) -> Path:
        """The forecast of `--plan`, and its comparison with the sweep."""
        return self.root / "plan.json"

    @property
    def lock(self) -> Path:
        """The lock file of the driver."""
        return self.root / ".lock"

    @property
    def driver(self) -> Path:
        """The driver's host and process. A killed driver leaves this file behind."""
        return self.root / ".driver"

    @property
    def mlflow(self) -> Path:
        """The MLflow database, unless MLFLOW_TRACKING_URI names another."""
        return self.root / "mlflow.db"

    @property
    def mlflow_uri(self) -> str:
        """The URI of that database."""
        return database_uri(self.mlflow)

    # --- checkpoints

    @property
    def checkpoints(self) -> Path:
        """Folder of all checkpoints."""
        return self.root / "checkpoints"

    @property
    def stop(self) -> Path:
        """The file of `STOP`. In a shared folder each driver has its own."""
        return self.root / (f"{STOP}-{self.shard}" if self.shard else STOP)

    def cell_checkpoints(self, key: str) -> Path:
        """Folder of one cell's checkpoints."""
        return self.checkpoints / key

    def cells_with_checkpoints(self) -> set[str]:
        """Keys of the cells that have a checkpoint.

        Raises:
            StoreError: the address did not answer.
        """
        if self.uri:
            parts = [name.split("/") for name in self.store.names("checkpoints") if name.endswith(".ckpt")]
            return {key for _, key, *file in parts if len(file) == 1}
        return {path.parent.name for path in self.checkpoints.glob("*/*.ckpt")}

    def remove_checkpoints(self, key: str) -> None:
        """Remove a recorded cell's checkpoints. `remove_leftovers` removes later what cannot be removed now."""
        shutil.rmtree(self.cell_checkpoints(key), ignore_errors=True)
        if self.uri:
            with suppress(OSError):
                self.store.remove(f"checkpoints/{key}", once=True)

    @property
    def lost(self) -> str | None:
        """Why this driver may write nothing any more, because others have taken over; None if it may."""
        if self.claims and self.claims.lost:
            return f"other commands use {self.name} now, because this one was suspended or could not renew its lease"
        return self.store.lost

    # --- the address

    @cached_property
    def store(self) -> ObjectStore:
        """Sends files to the address; without an address it sends nothing."""
        return ObjectStore(self.root, self.uri)

    def send(self, *paths: Path) -> None:
        """Send files or folders to the address, if there is one.

        Raises:
            StoreError: a file cannot be written there.
        """
        self.store.push(*paths)

    def send_soon(self, path: Path) -> None:
        """Send a file that is rewritten often, in a thread. It is skipped if the store is slow or fails."""
        self.store.push_soon(path)


def database_uri(path: Path) -> str:
    """The URI of an SQLite database, in which a question mark and a percent sign have meanings of their own."""
    return f"sqlite:///{str(path.resolve()).replace('%', '%25').replace('?', '%3F')}"


def database_path(uri: str) -> Path | None:
    """The file of an SQLite database; None for any other address."""
    name = uri.removeprefix("sqlite:///").partition("?")[0] if uri.startswith("sqlite:///") else ""
    return Path(unquote(name)) if name else None


def cannot_write(root: Path, error: OSError) -> InputError:
    """The error of a folder that cannot be written."""
    return InputError(
        f"--out {root} cannot be written ({error.strerror or error}): free space or choose another folder"
    )
