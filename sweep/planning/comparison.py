"""The plan of a sweep compared with what happened, as far as the two can be compared."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from analysis.names import in_order
from analysis.records.io import read_records
from datasets.errors import InputError
from sweep.config.sweep import Sweep
from sweep.planning.forecast import Forecast, read_plan, write_plan
from trainables.cell import Cell


@dataclass(frozen=True, kw_only=True)
class RunConditions:
    """How cells ran, where that matters for the comparison."""

    resumed: int = 0
    """Cells that resumed from a checkpoint."""
    failed_attempts: int = 0
    """Attempts that failed or were lost."""
    stopped: bool = False
    """Whether the command was cut off."""
    at_once: int
    """Cells at the same time, at most."""


class PlanComparison:
    """A sweep's plan, if there is one, and when its command began."""

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
            print(f"{error}: nothing is compared with it")
            self._plan = None

    def compare(self, sweep: Sweep, missing: Sequence[Cell], conditions: RunConditions) -> dict[str, float]:
        """Compare when the last cell has ended, print the result, and keep it in the plan's file.

        Only the first call does: the plan knows nothing of the cells that --until adds later.

        Args:
            sweep: as it ran.
            missing: the cells that this command was to run at first.
            conditions: how they ran.

        Returns:
            Numbers for MLflow; none without a plan, or with one of another recipe or engine.
        """
        took = time.time() - self._began
        plan, self._plan = self._plan, None
        if plan is None:
            return {}
        if difference := difference_from(plan, sweep):
            print(f"the plan of {plan.made} is not compared: {difference}")
            return {}
        planned = {key for key, _ in plan.cells}
        seconds = _recorded_seconds(self._root, [cell for cell in missing if cell.key in planned])
        if not seconds:
            print(f"nothing that ran was in the plan of {plan.made}, or is done: nothing is compared with it")
            return {}
        reasons = list(incomparable(plan, missing, conditions))
        losses = {
            name: _error(plan.cell_seconds(name), sum(seconds[name]) / len(seconds[name]), cells=len(seconds[name]))
            for name in in_order(seconds)
        }
        whole = None if reasons else _error(plan.seconds_to_last_cell(plan.at_once), took)
        print("\n".join(_lines(losses, whole, reasons)))
        ended = datetime.now(UTC).isoformat(timespec="seconds")
        outcome = {"ended": ended, "losses": losses, "whole": whole, "not comparable as a whole": reasons}
        try:
            write_plan(replace(plan, outcome=outcome), self._root)
        except InputError as error:  # records are complete: the sweep has not failed for it
            print(f"the comparison is not kept: {error}")
        metrics = {f"forecast_error_{name}": one["error"] for name, one in losses.items()}
        return metrics | ({"forecast_seconds": whole["forecast"], "forecast_error": whole["error"]} if whole else {})


def difference_from(plan: Forecast, sweep: Sweep) -> str | None:
    """Why the plan is not one of such cells; None where it is."""
    if plan.recipe != sweep.recipe.fingerprint:
        return "it is of another recipe"
    if plan.engine != sweep.engine:
        return f"it was made for another engine ({plan.engine}; here {sweep.engine})"
    return None


def incomparable(plan: Forecast, missing: Sequence[Cell], conditions: RunConditions) -> Iterator[str]:
    """Why the wall time cannot be compared with the plan's."""
    if conditions.stopped:
        yield "it was cut off"
    if {key for key, _ in plan.cells} != {cell.key for cell in missing}:
        yield f"the plan was of {len(plan.cells)} cells, other ones than the {len(missing)} that were to run"
    if conditions.at_once != plan.at_once:
        yield f"the plan was of {plan.at_once} cells at the same time, and {conditions.at_once} ran"
    if conditions.resumed:
        yield f"{conditions.resumed} cells went on from a checkpoint"
    if conditions.failed_attempts:
        yield f"{conditions.failed_attempts} attempts failed"


def _lines(losses: Mapping[str, Any], whole: Mapping[str, Any] | None, reasons: Sequence[str]) -> Iterator[str]:
    for name, one in losses.items():
        yield f"{name}: forecast {one['forecast']:.1f} s a cell, took {one['took']:.1f} s ({_percent(one['error'])})"
    if whole:
        yield (
            f"until the last cell: forecast {whole['forecast']:.0f} s, took {whole['took']:.0f} s "
            f"({_percent(whole['error'])})"
        )
    else:
        yield f"the forecast of the whole is not compared: {'; '.join(reasons)}"


def _recorded_seconds(root: Path, cells: Sequence[Cell]) -> dict[str, list[float]]:
    """Seconds of those of the cells that are recorded as done, by objective."""
    keys = {cell.key for cell in cells}
    try:
        records = read_records(root)
    except ValueError:  # there are none
        return {}
    done = records[records["key"].isin(keys) & (records["status"] == "done")]
    return {str(name): part.tolist() for name, part in done.groupby("objective")["seconds"]}


def _error(forecast: float, took: float, **more: int) -> dict[str, Any]:
    """Both in seconds, and the relative error of the forecast."""
    return {"forecast": round(forecast, 2), "took": round(took, 2), "error": round(forecast / took - 1, 4), **more}


def _percent(error: float) -> str:
    return f"{100 * error:+.0f} %"
