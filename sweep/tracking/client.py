"""MLflow: a parent run for the sweep and a child run per cell, identified by tags. Only the driver writes them."""

import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.tracking import MlflowClient
from mlflow.utils.validation import MAX_PARAMS_TAGS_PER_BATCH

from sweep.config.sweep import Sweep
from sweep.storage.run_dir import database_path
from sweep.tracking.parent_metrics import Metrics
from trainables.cell import Cell, digest

SWEEP, KEY = "noisy_pairs.sweep", "noisy_pairs.key"
"""Tags that identify a run, so that no command creates it twice."""
AXES = ("dataset", "objective", "rho", "nu", "pairing", "seed")


class Tracking:
    """The sweep's runs in MLflow."""

    def __init__(self, uri: str, sweep: Sweep, *, own: bool, kind: str = "sweep") -> None:
        """Connect, and find or create the experiment and the parent run.

        Args:
            uri: tracking server or `sqlite:///` database.
            sweep: its data set names the experiment, its folder names the parent run.
            own: whether the database is in the sweep's folder. It then moves with the folder, so the path does not
                identify the sweep.
            kind: value of the parent run's tag `kind`.
        """
        self.uri = uri
        self._client = MlflowClient(uri)
        location = str(sweep.run_dir.location)
        name = f"noisy-pairs {sweep.dataset}"
        found = self._client.get_experiment_by_name(name)
        if found is None:
            database = database_path(uri)
            artifacts = artifacts_beside(database) if database else None
            self.experiment = self._client.create_experiment(name, artifact_location=artifacts)
        else:
            self.experiment = found.experiment_id
            if found.lifecycle_stage == "deleted":  # on MLflow's pages; its name stays taken
                self._client.restore_experiment(self.experiment)
        identity = digest([sweep.recipe.fingerprint, "" if own else location])
        self.parent = self._find_or_make(SWEEP, identity, Path(location).name, {"kind": kind})
        self._log(self.parent, params=_flat(sweep.recipe.values), tags={"folder": location})
        self._runs: dict[str, str] = {}
        self._logged: dict[tuple[str, str], set[int]] = {}

    def start(self, cell: Cell) -> None:
        """Find or create the cell's run and mark it as running."""
        run = self._find_or_make(
            KEY,
            cell.key,
            str(cell),
            {
                "mlflow.parentRunId": self.parent,
                "kind": "cell",
                **{axis: str(getattr(cell, axis)) for axis in AXES},
            },
        )
        self._runs[cell.key] = run
        # rho and nu are metrics too: MLflow plots metrics against metrics, but parameters only in some charts.
        settings = dict(cell.settings)
        numbers = {name: value for name, value in settings.items() if not isinstance(value, str)}
        self._log(
            run,
            params={axis: getattr(cell, axis) for axis in AXES} | settings,
            metrics={"rho": cell.rho, "nu": cell.nu} | numbers,
        )
        self._client.update_run(run, status="RUNNING")

    def curves(self, cell: Cell, points: Iterable[tuple[str, int, str, float]]) -> None:
        """Log points (stage, step, name, value) of the learning curves, except those that are already logged."""
        self._points(self._run(cell), [(f"{stage}/{name}", step, value) for stage, step, name, value in points])

    def _points(self, run: str, points: Iterable[tuple[str, int, float]]) -> None:
        """Log points (name, step, value), except those that are already logged."""
        now = int(time.time() * 1000)
        named = [Metric(name, value, now, step) for name, step, value in points]
        new = [metric for metric in named if metric.step not in self._steps(run, metric.key)]
        if new:
            self._client.log_batch(run, metrics=new)
        for metric in new:
            self._steps(run, metric.key).add(metric.step)

    def finish(self, cell: Cell, row: Mapping[str, Any]) -> None:
        """Log a recorded cell's metrics and provenance and end its run."""
        run = self._run(cell)
        # A number that a cell lacks is null in the record, and NaN in pandas.
        numbers = {k: v for k, v in row.items() if isinstance(v, (int, float)) and k not in AXES and v == v}
        texts = {k: str(v) for k, v in row.items() if isinstance(v, str) and k not in AXES}
        self._log(run, metrics=numbers, tags=texts)
        self._client.set_terminated(run, "FINISHED" if row["status"] == "done" else "FAILED")

    def abandon(self, cell: Cell) -> None:
        """End the run of a cell without a record."""
        self._client.set_terminated(self._run(cell), "FAILED")

    def end(self, complete: bool, metrics: Metrics, artifacts: Iterable[Path]) -> None:
        """Log what the sweep found to the parent run and end it. Lines get the steps that they do not have yet."""
        self._log(self.parent, metrics={name: one for name, one in metrics.items() if not isinstance(one, Mapping)})
        for name, line in metrics.items():
            if isinstance(line, Mapping):
                self._points(self.parent, [(_metric_name(name), step, value) for step, value in line.items()])
        for path in artifacts:
            if path.is_dir():
                self._client.log_artifacts(self.parent, str(path), path.name)
            else:
                self._client.log_artifact(self.parent, str(path))
        self._client.set_terminated(self.parent, "FINISHED" if complete else "FAILED")

    def ended(self) -> dict[str, str]:
        """Key -> status of the cells whose runs are finished. Abandoned runs do not count: the cells may run again."""
        query = f"tags.`mlflow.parentRunId` = '{self.parent}' and attributes.status != 'RUNNING'"
        found: dict[str, str] = {}
        token = None
        while True:
            page = self._client.search_runs([self.experiment], query, max_results=1000, page_token=token)
            found |= {run.data.tags[KEY]: run.data.tags["status"] for run in page if "status" in run.data.tags}
            token = page.token
            if not token:
                return found

    def _run(self, cell: Cell) -> str:
        """The cell's run, which is created now if that failed when the cell started."""
        if cell.key not in self._runs:
            self.start(cell)
        return self._runs[cell.key]

    def _steps(self, run: str, metric: str) -> set[int]:
        """The logged steps of a metric. MLflow is asked once, because an earlier driver may have logged some."""
        if (run, metric) not in self._logged:
            self._logged[run, metric] = {point.step for point in self._client.get_metric_history(run, metric)}
        return self._logged[run, metric]

    def _find_or_make(self, tag: str, value: str, name: str, tags: Mapping[str, str]) -> str:
        query = f"tags.`{tag}` = '{value}'"
        if tag == KEY:  # the same cell in another sweep's folder has a run of its own
            query += f" and tags.`mlflow.parentRunId` = '{self.parent}'"
        found: list[Run] = self._client.search_runs([self.experiment], query, max_results=1)
        if found:
            return found[0].info.run_id
        run = self._client.create_run(self.experiment, run_name=name, tags={**tags, tag: value})
        return run.info.run_id

    def _log(
        self,
        run: str,
        *,
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        now = int(time.time() * 1000)
        given = list((params or {}).items())
        self._client.log_batch(
            run,
            metrics=[Metric(_metric_name(k), float(v), now, 0) for k, v in (metrics or {}).items()],
            params=[Param(k, str(v)) for k, v in given[:MAX_PARAMS_TAGS_PER_BATCH]],
            tags=[RunTag(k, v) for k, v in (tags or {}).items()],
        )
        if rest := given[MAX_PARAMS_TAGS_PER_BATCH:]:
            self._log(run, params=dict(rest))


def artifacts_beside(database: Path) -> str:
    """The address of the folder for the files of runs. With a relative path MLflow's pages would not find them."""
    return (database.resolve().parent / "mlartifacts").as_uri()


def _metric_name(name: str) -> str:
    """Replace characters that MLflow does not allow, such as brackets in an objective's name."""
    return re.sub(r"[^\w./ :-]", "_", name)


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings with dotted names."""
    flat: dict[str, Any] = {}
    for name, item in value.items():
        flat |= _flat(item, f"{prefix}{name}.") if isinstance(item, Mapping) else {f"{prefix}{name}": item}
    return flat
