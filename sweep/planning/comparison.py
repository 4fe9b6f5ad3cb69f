"""Compares the plan of a sweep with the time that it took, as far as the two are comparable."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from analysis.records.io import read_records
from datasets.errors import InputError
from sweep.config.sweep import Sweep
from sweep.planning.forecast import Forecast, read_plan, write_plan
from trainables.cell import Cell


@dataclass(frozen=True, kw_only=True)
class RunConditions:
    """How the cells ran, as far as it matters for the comparison."""

    resumed: int = 0
    """Cells that resumed from a checkpoint."""
    failed_attempts: int = 0
    """Attempts that failed, or whose worker was lost."""
    stopped: bool = False
    """Whether the command was interrupted."""
    at_once: int
    """The largest number of cells at the same time."""


class PlanComparison:
    """Holds the plan of a sweep, if there is one, and the time when the command began."""

    def __init__(self, root: Path, began: float) -> None:
        """Read the plan. A damaged one is reported and ignored.

        Args:
            root: the sweep's folder.
            began: when the command began, seconds since the epoch.
        """
        self._root, self._began = root, began
        try:
            self._plan = read_plan(root)
        except InputError as error:
            print(f"{error}: the plan is ignored")
            self._plan = None

    def compare(self, sweep: Sweep, missing: Sequence[Cell], conditions: RunConditions) -> dict[str, float]:
        """Compare after the last cell has ended, print the result, and write it to the plan's file.

        Only the first call compares: the plan does not include the cells that --until adds later.

        Args:
            sweep: the sweep, as it ran.
            missing: the cells that this command ran first.
            conditions: how they ran.

        Returns:
            Metrics for MLflow; none without a plan, or if the plan has another recipe or engine.
        """
        took = time.time() - self._began
        plan, self._plan = self._plan, None
        if plan is None:
            return {}
        if difference := difference_from(plan, sweep):
            print(f"the plan of {plan.made} is ignored: {difference}")
            return {}
        planned = dict(plan.cells)
        seconds = _recorded_seconds(self._root, {cell.key: cell.variant for cell in missing if cell.key in planned})
        if not seconds:
            print(f"the plan of {plan.made} is ignored: none of its cells was run and done by this command")
            return {}
        reasons = list(incomparable(plan, missing, conditions))
        losses = {
            name: _error(plan.cell_seconds(name), sum(seconds[name]) / len(seconds[name]), cells=len(seconds[name]))
            for name in plan.parts
            if name in seconds
        }
        whole = None if reasons else _error(plan.seconds_to_last_cell(plan.at_once), took)
        print("\n".join(_lines(losses, whole, reasons)))
        ended = datetime.now(UTC).isoformat(timespec="seconds")
        outcome = {"ended": ended, "losses": losses, "whole": whole, "not comparable as a whole": reasons}
        try:
            write_plan(replace(plan, outcome=outcome), self._root)
        except InputError as error:  # the records are complete, so this is no failure of the sweep
            print(f"the comparison with the plan cannot be written: {error}")
        metrics = {f"forecast_error_{name}": one["error"] for name, one in losses.items()}
        return metrics | ({"forecast_seconds": whole["forecast"], "forecast_error": whole["error"]} if whole else {})


def difference_from(plan: Forecast, sweep: Sweep) -> str | None:
    """Why the plan does not fit the sweep; None if it does."""
    if plan.recipe != sweep.recipe.fingerprint:
        return "it was made for another recipe"
    if plan.engine != sweep.engine:
        return f"it was made for another engine ({plan.engine}; here {sweep.engine})"
    return None


def incomparable(plan: Forecast, missing: Sequence[Cell], conditions: RunConditions) -> Iterator[str]:
    """Why the wall time cannot be compared with the plan's."""
    if conditions.stopped:
        yield "the command was interrupted"
    if {key for key, _ in plan.cells} != {cell.key for cell in missing}:
        yield f"the plan has {len(plan.cells)} cells, which are not the {len(missing)} that this command ran"
    if conditions.at_once != plan.at_once:
        yield f"the plan assumed {plan.at_once} cells at the same time, and {conditions.at_once} ran"
    if conditions.resumed:
        yield f"{conditions.resumed} cells resumed from a checkpoint"
    if conditions.failed_attempts:
        yield f"{conditions.failed_attempts} attempts failed"


def _lines(losses: Mapping[str, Any], whole: Mapping[str, Any] | None, reasons: Sequence[str]) -> Iterator[str]:
    for name, one in losses.items():
        yield (
            f"{name}: forecast {one['forecast']:.1f} s per cell, took {one['took']:.1f} s ({_percent(one['error'])})"
        )
    if whole:
        yield (
            f"until the last cell: forecast {whole['forecast']:.0f} s, took {whole['took']:.0f} s "
            f"({_percent(whole['error'])})"
        )
    else:
        yield f"the total time is not compared with the plan: {'; '.join(reasons)}"


def _recorded_seconds(root: Path, variants: Mapping[str, str]) -> dict[str, list[float]]:
    """Durations of the cells that are recorded as done, by `Cell.variant`. `variants`: those of the cells' keys."""
    try:
        records = read_records(root)
    except ValueError:  # there are no records
        return {}
    done = records[records["key"].isin(list(variants)) & (records["status"] == "done")]
    return {str(name): part.tolist() for name, part in done.groupby(done["key"].map(variants))["seconds"]}


def _error(forecast: float, took: float, **more: int) -> dict[str, Any]:
    """Forecast and actual seconds, and the relative error of the forecast."""
    return {"forecast": round(forecast, 2), "took": round(took, 2), "error": round(forecast / took - 1, 4), **more}


def _percent(error: float) -> str:
    return f"{100 * error:+.0f} %"
