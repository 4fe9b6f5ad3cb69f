"""The plan of a sweep held against what happened, as far as the two can be compared."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from analysis.names import in_order
from analysis.records.io import read_records
from datasets.errors import InputError
from sweep.config.sweep import Sweep
from sweep.planning import forecast
from sweep.planning.forecast import Forecast
from trainables.cell import Cell


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """How cells ran, where that bears on a comparison."""

    resumed: int = 0
    """Cells that went on from a checkpoint."""
    troubles: int = 0
    """Attempts that failed or were lost."""
    stopped: bool = False
    """Whether it was cut off."""
    at_once: int
    """Cells at the same time, at most."""


class Hindsight:
    """A sweep's plan, if there is one, and when its command began."""

    def __init__(self, root: Path, began: float) -> None:
        """Read the plan; one that is damaged is said and left aside.

        Args:
            root: the sweep's folder.
            began: when the command began, seconds since the epoch.
        """
        self._root, self._began = root, began
        try:
            self._plan = forecast.read(root)
        except InputError as error:
            print(f"{error}: nothing is compared with it")
            self._plan = None

    def look_back(self, sweep: Sweep, missing: Sequence[Cell], how: Circumstances) -> dict[str, float]:
        """Compare, when the last cell has ended: print it, keep it in the plan's file. Once: of the cells that --until
        asks for after that there was no plan.

        Args:
            sweep: as it ran.
            missing: the cells that this command was to run at first.
            how: the circumstances.

        Returns:
            Numbers for MLflow; none without a plan, or with one of another recipe or engine.
        """
        took = time.time() - self._began
        plan, self._plan = self._plan, None
        if plan is None:
            return {}
        if other := unlike(plan, sweep):
            print(f"the plan of {plan.made} is not compared: {other}")
            return {}
        planned = {key for key, _ in plan.cells}
        seconds = _seconds(self._root, [cell for cell in missing if cell.key in planned])
        if not seconds:
            print(f"nothing that ran was in the plan of {plan.made}, or is done: nothing is compared with it")
            return {}
        reasons = list(incomparable(plan, missing, how))
        losses = {
            name: _compared(plan.cell(name), sum(seconds[name]) / len(seconds[name]), cells=len(seconds[name]))
            for name in in_order(seconds)
        }
        whole = None if reasons else _compared(plan.until_last(plan.at_once), took)
        told = {"ended": datetime.now(UTC).isoformat(timespec="seconds"), "losses": losses, "whole": whole}
        print("\n".join(lines(losses, whole, reasons)))
        try:
            forecast.write(replace(plan, outcome={**told, "not comparable as a whole": reasons}), self._root)
        except InputError as error:  # records are complete: the sweep has not failed for it
            print(f"the comparison is not kept: {error}")
        numbers = {f"forecast_error_{name}": one["error"] for name, one in losses.items()}
        return numbers | ({"forecast_seconds": whole["forecast"], "forecast_error": whole["error"]} if whole else {})


def unlike(plan: Forecast, sweep: Sweep) -> str | None:
    """Why the plan is not one of such cells; None where it is."""
    if plan.recipe != sweep.recipe.fingerprint:
        return "it is of another recipe"
    if plan.engine != sweep.engine:
        return f"it was made for another engine ({plan.engine}; here {sweep.engine})"
    return None


def incomparable(plan: Forecast, missing: Sequence[Cell], how: Circumstances) -> Iterator[str]:
    """Why the wall time is not to be held against the plan's."""
    if how.stopped:
        yield "it was cut off"
    if {key for key, _ in plan.cells} != {cell.key for cell in missing}:
        yield f"the plan was of {len(plan.cells)} cells, other ones than the {len(missing)} that were to run"
    if how.at_once != plan.at_once:
        yield f"the plan was of {plan.at_once} cells at the same time, and {how.at_once} ran"
    if how.resumed:
        yield f"{how.resumed} cells went on from a checkpoint"
    if how.troubles:
        yield f"{how.troubles} attempts failed"


def lines(losses: dict[str, Any], whole: dict[str, Any] | None, reasons: Sequence[str]) -> Iterator[str]:
    """The comparison in words."""
    for name, one in losses.items():
        yield f"{name}: forecast {one['forecast']:.1f} s a cell, took {one['took']:.1f} s ({_percent(one['error'])})"
    if whole:
        yield (
            f"until the last cell: forecast {whole['forecast']:.0f} s, took {whole['took']:.0f} s "
            f"({_percent(whole['error'])})"
        )
    else:
        yield f"the forecast of the whole is not compared: {'; '.join(reasons)}"


def _seconds(root: Path, missing: Sequence[Cell]) -> dict[str, list[float]]:
    """Seconds of the cells that are done now and were missing before, by objective."""
    keys = {cell.key for cell in missing}
    try:
        records = read_records(root)
    except ValueError:  # there are none
        return {}
    done = records[records["key"].isin(keys) & (records["status"] == "done")]
    return {str(name): part.tolist() for name, part in done.groupby("objective")["seconds"]}


def _compared(said: float, took: float, **more: int) -> dict[str, Any]:
    return {"forecast": round(said, 2), "took": round(took, 2), "error": round(said / took - 1, 4), **more}


def _percent(error: float) -> str:
    return f"{100 * error:+.0f} %"
