"""Writes to MLflow in order, in one thread, so that no cell waits for it."""

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode

from analysis.records.io import read_curves, read_records, recorded_keys
from analysis.text import describe_error
from sweep.config.sweep import Sweep
from sweep.storage.run_dir import RunDir
from sweep.tracking.connection import connect
from sweep.tracking.parent_metrics import Metrics
from trainables.cell import Cell

if TYPE_CHECKING:
    from sweep.tracking.client import Tracking

log = logging.getLogger(__name__)

PATIENCE = 60.0
"""Seconds without calls to MLflow after an error, so that a missing server does not delay the end of a sweep."""


class BackgroundTracking:
    """The sweep's runs in MLflow. An error stops nothing: the next command fills in what MLflow lacks."""

    def __init__(
        self,
        sweep: Sweep,
        run_dir: RunDir,
        *,
        kind: str = "sweep",
        cells: Sequence[Cell] | None = None,
        rates: Mapping[str, float] | None = None,
    ) -> None:
        """Connect to the server that MLFLOW_TRACKING_URI names, or to the database in the folder.

        A new database is created at the first write, because that takes seconds.

        Args:
            sweep: the sweep that runs.
            run_dir: its folder.
            kind: value of the parent run's tag `kind`.
            cells: all cells, if they are not those of the sweep; the sequence may grow.
            rates: key -> learning rate, for cells with rates of their own; the rate becomes a metric.

        Raises:
            InputError: the MLflow server or database cannot be used.
        """
        elsewhere = os.environ.get("MLFLOW_TRACKING_URI")
        self.uri = elsewhere or run_dir.mlflow_uri
        self._root, self._cells = run_dir.root, sweep.cells() if cells is None else cells
        self._rates: Mapping[str, float] = {} if rates is None else rates
        self.fault: str | None = None
        """The last error; None once MLflow has everything."""
        self._quiet_until = 0.0
        self._thread = ThreadPoolExecutor(1, "mlflow")
        self._connect = partial(connect, self.uri, sweep, own=not elsewhere, kind=kind)
        self._tracking: Tracking | None = None
        if elsewhere or run_dir.mlflow.exists():
            self._tracking = self._thread.submit(self._connect).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Wait until everything is written."""
        self._thread.shutdown()

    @property
    def runs(self) -> str:
        """The part of MLflow's address that shows the sweep's cells, best first, with their curves.

        MLflow's own first page is about language models, and its list of runs shows neither cells nor scores.
        """
        if not self._tracking:
            return "#/experiments?workflowType=machine_learning"
        query = {
            "workflowType": "machine_learning",
            "searchFilter": f"tags.`mlflow.parentRunId`='{self._tracking.parent}'",
            "orderByKey": "metrics.`test_f1_macro`",
            "orderByAsc": "false",
            "compareRunsMode": "CHART",
        }
        return f"#/experiments/{self._tracking.experiment}/runs?{urlencode(query)}"

    def start(self, cell: Cell) -> None:
        """A cell starts. Nothing is written until MLflow is connected, so that the cell starts sooner."""
        if self._tracking:
            self._write(lambda tracking: tracking.start(cell))

    def curves(self, cell: Cell, points: Iterable[tuple[str, int, str, float]]) -> None:
        """A worker has reported points of a cell's learning curves."""
        self._write(lambda tracking: tracking.curves(cell, points))

    def finish(self, cell: Cell, row: Mapping[str, Any], curves: Iterable[tuple[str, int, str, float]]) -> None:
        """A cell is recorded. `curves` holds all its points, in case earlier ones could not be written."""

        def write(tracking: "Tracking") -> None:
            tracking.curves(cell, curves)
            tracking.finish(cell, {**row, **_rate(self._rates, cell)})

        self._write(write)

    def abandon(self, cell: Cell) -> None:
        """A cell has ended without a record."""
        self._write(lambda tracking: tracking.abandon(cell))

    def expect(self, cells: Sequence[Cell]) -> None:
        """Use these cells from now on: --until has added some."""
        self._cells = tuple(cells)

    def fill(self, folder: Path, cells: Sequence[Cell]) -> None:
        """Add the runs of recorded cells that are missing or unfinished in MLflow."""
        self._write(lambda tracking: fill(tracking, folder, cells, self._rates))

    def fill_again(self) -> None:
        """If MLflow lacks something, try once more at once, because the sweep ends."""
        self._thread.submit(self._catch_up)

    def end(self, complete: bool, metrics: Metrics, artifacts: Sequence[Path]) -> None:
        """The sweep has ended; wait until everything is written."""
        self._write(lambda tracking: tracking.end(complete, metrics, artifacts))
        self.flush()

    def flush(self) -> None:
        """Wait until everything is written."""
        self._thread.submit(lambda: None).result()

    def _write(self, write: Callable[["Tracking"], object]) -> None:
        self._thread.submit(self._try, write)

    def _try(self, write: Callable[["Tracking"], object]) -> None:
        """In the thread: write, unless MLflow has just failed. After an outage, fill in what MLflow lacks."""
        if time.monotonic() < self._quiet_until:
            return
        try:
            self._tracking = self._tracking or self._connect()
            write(self._tracking)
            if self.fault:  # the records hold everything that was missed
                fill(self._tracking, self._root, self._cells, self._rates)
                self.fault = None
        except Exception as error:  # any error: in this thread nothing else would report it
            self.fault = describe_error(error)
            self._quiet_until = time.monotonic() + PATIENCE
            log.exception("MLflow could not be written")

    def _catch_up(self) -> None:
        if self.fault:
            self._quiet_until = 0.0
            self._try(lambda tracking: None)


def _rate(rates: Mapping[str, float], cell: Cell) -> dict[str, float]:
    return {"lr": rates[cell.key]} if cell.key in rates else {}


def fill(tracking: "Tracking", folder: Path, cells: Sequence[Cell], rates: Mapping[str, float] | None = None) -> int:
    """Add the runs of recorded cells that are missing or unfinished in MLflow; returns how many."""
    recorded = recorded_keys(folder).status
    wanted = {cell.key: cell for cell in cells if cell.key in recorded}
    ended = tracking.ended() if wanted else {}
    lacking = {key: cell for key, cell in wanted.items() if ended.get(key) != recorded[key]}
    if not lacking:
        return 0
    curves = dict(_curves(folder))
    for row in read_records(folder).to_dict("records"):
        if cell := lacking.get(str(row["key"])):
            tracking.curves(cell, curves.get(cell.key, []))
            tracking.finish(cell, {**{str(name): value for name, value in row.items()}, **_rate(rates or {}, cell)})
    return len(lacking)


def _curves(folder: Path) -> Iterator[tuple[str, list[tuple[str, int, str, float]]]]:
    if (folder / "curves").is_dir():
        for key, part in read_curves(folder).groupby("key")[["stage", "step", "name", "value"]]:
            yield str(key), list(part.itertuples(index=False, name=None))
