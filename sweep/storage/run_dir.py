"""A sweep's folder: it belongs to one recipe on one data set, and is where everything ends up."""

import os
import socket
from dataclasses import dataclass, replace
from pathlib import Path

from analysis.records.io import read_records, recorded_keys
from datasets.errors import InputError
from sweep.config.sweep import Sweep
from sweep.config.yaml_io import from_yaml, recipe_differences, to_yaml
from sweep.storage.object_store import Store
from trainables.engine import Engine


@dataclass(frozen=True)
class Folder:
    """Names in a sweep's folder."""

    root: Path
    store: Store | None = None
    """What sends it to the sweep's address, where it has one."""

    @property
    def name(self) -> str:
        """What the user calls it."""
        return self.store.uri if self.store and self.store.uri else str(self.root)

    def send(self, *paths: Path) -> None:
        """Send files or folders of it to the sweep's address, where it has one.

        Raises:
            StoreError: one cannot be written there.
        """
        if self.store:
            self.store.push(*paths)

    def send_soon(self, path: Path) -> None:
        """Send a file that is written again and again: in a thread, and left out where that takes long or fails."""
        if self.store:
            self.store.soon(path)

    @property
    def config(self) -> Path:
        """Everything resolved; `--config` takes it."""
        return self.root / "sweep.yaml"

    @property
    def data(self) -> Path:
        """Fingerprint of the data that the records were made on."""
        return self.root / "data.txt"

    @property
    def weights(self) -> Path:
        """Fingerprint of the weights that cells of the baseline imagenet were made with."""
        return self.root / "weights.txt"

    @property
    def logs(self) -> Path:
        """Log files."""
        return self.root / "logs"

    @property
    def log(self) -> Path:
        """What happened, and what libraries had to say about it. At an address there is one of each machine."""
        remote = self.store is not None and self.store.uri is not None
        return self.logs / (f"sweep-{socket.gethostname()}.log" if remote else "sweep.log")

    @property
    def tables(self) -> Path:
        """The tables that the end of a sweep prints."""
        return self.root / "tables.txt"

    @property
    def figures(self) -> Path:
        """What the end of a sweep draws."""
        return self.root / "figures"

    @property
    def report(self) -> Path:
        """What the sweep means, in one file."""
        return self.root / "report.html"

    @property
    def lock(self) -> Path:
        """Held by the driver that runs here."""
        return self.root / ".lock"

    @property
    def driver(self) -> Path:
        """Who that is; left behind by one that was killed."""
        return self.root / ".driver"

    @property
    def progress(self) -> Path:
        """What goes on, for `python -m sweep.status`."""
        return self.root / "progress.json"

    @property
    def plan(self) -> Path:
        """What `--plan` has foretold, and what came of it."""
        return self.root / "plan.json"

    @property
    def mlflow(self) -> Path:
        """The MLflow database, unless MLFLOW_TRACKING_URI names another."""
        return self.root / "mlflow.db"

    @property
    def mlflow_uri(self) -> str:
        """Its address."""
        return f"sqlite:///{self.mlflow.resolve()}"

    def check(self, sweep: Sweep) -> Sweep | None:
        """Make sure, before anything is started, that the folder is new or this recipe's.

        Returns:
            The sweep that it was last used for, by `sweep.yaml` or, where that is gone, by its records; None for a
            new folder.

        Raises:
            InputError: it belongs to another recipe or precision (says what differs), or is damaged.
        """
        before = self._before() if self.config.exists() else self._by_records(sweep)
        if before is None:
            return None
        if changed := recipe_differences(before, sweep):
            raise InputError(
                f"--out {self.name} holds the records of another recipe: {'; '.join(changed)}; choose another "
                f"--out, or repeat its recipe with --config {self.config}"
            )
        for name, flag in (("precision", "--precision"), ("deterministic", "--engine.deterministic")):
            there, here = getattr(before.engine, name), getattr(sweep.engine, name)
            if "auto" not in (there, here) and there != here:
                raise InputError(
                    f"--out {self.name} holds records made with {name} {there}, not {here}: choose another --out, or "
                    f"change {flag}"
                )
        return before

    def _before(self) -> Sweep:
        try:
            return from_yaml(self.config)
        except InputError as error:
            reason = str(error).removeprefix(f"--config {self.config}: ")
            raise InputError(
                f"--out {self.name}: its sweep.yaml is damaged or of another version ({reason}): choose another "
                "--out, or delete that file if the records are this recipe's"
            ) from error

    def _by_records(self, sweep: Sweep) -> Sweep | None:
        """What the records tell of a folder without `sweep.yaml`."""
        if not recorded_keys(self.root).status:
            return None
        records = read_records(self.root)
        if set(records.recipe) != {sweep.recipe.fingerprint}:
            raise InputError(
                f"--out {self.name} holds records of another recipe and no sweep.yaml: choose another --out"
            )
        row = records.iloc[-1]
        engine = Engine(precision=row.precision, layout=row.layout, compile=row.compile, threads=int(row.threads))
        return replace(sweep, engine=replace(engine, deterministic=sweep.engine.deterministic))

    def claim(self, sweep: Sweep, data: str, weights: str | None = None) -> None:
        """Make the folder, or make sure that it is this data's (and these weights'), and write `sweep.yaml`.

        Raises:
            InputError: as `check`, or it belongs to other data, or cannot be written.
            StoreError: it cannot be written at the sweep's address.
        """
        self.check(sweep)
        here = {self.data: (data, "on other data"), self.weights: (weights, "with other ImageNet weights")}
        for path, (value, how) in here.items():
            if value and path.exists() and (there := path.read_text().strip()) != value:
                raise InputError(
                    f"--out {self.name} holds records made {how} (fingerprint {there} there, {value} here): choose "
                    "another --out"
                )
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
            for path, (value, _) in here.items():
                if value:
                    replace_text(path, value + "\n")
            replace_text(self.config, to_yaml(sweep))
        except OSError as error:
            raise cannot_write(self.root, error) from error
        self.send(*here, self.config)


def cannot_write(root: Path, error: OSError) -> InputError:
    """What is said of a folder that cannot be written."""
    return InputError(
        f"--out {root} cannot be written ({error.strerror or error}): free space or choose another folder"
    )


def replace_text(path: Path, text: str) -> None:
    """Write a text file so that it is there whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    with part.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
