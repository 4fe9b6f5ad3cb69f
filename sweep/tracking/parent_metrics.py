"""What the parent run of a sweep holds in MLflow: differences with intervals, and lines of the score against rho."""

from collections.abc import Mapping

import pandas as pd

from analysis.names import BASELINES, LEVEL
from analysis.records.studies import Study, studies
from analysis.stats.differences import comparable, noisy_minus_exposure
from analysis.stats.inference import by_objective

#: Metrics by name: a number, or a line with a number at each step.
Metrics = Mapping[str, float | Mapping[int, float]]


def parent_metrics(records: pd.DataFrame, level: float = LEVEL) -> dict[str, float | Mapping[int, float]]:
    """Noisy minus exposure of each loss, with its interval over seeds, and the score against rho.

    A line of the score has the step 100 rho, so MLflow's charts of the parent run are the figures of the paper: one
    line for each loss, nu and pairing, in a section that says how many seeds its means are over. MLflow forgets no
    number, so a sweep that grows begins another section.
    """
    found: dict[str, float | Mapping[int, float]] = {}
    for study in studies(records, level=level):
        ending = "".join(f"_{name}_{value}" for name, value in study.settings)
        rows = by_objective(noisy_minus_exposure(study.records, study.metric), level=level).to_dict("records")
        for row in rows:
            for name in ("mean", "std", "low", "high"):
                if pd.notna(row[name]):
                    found[f"noisy_minus_exposure_{row['objective']}{ending}_{name}"] = row[name]
        section = f"{study.metric} by 100 rho {study.seeds} seed{'s' if study.seeds > 1 else ''}"
        found |= {f"{section}/{name}{ending}": line for name, line in _lines(study).items()}
    return found


def _lines(study: Study) -> dict[str, dict[int, float]]:
    """The mean score by 100 rho of each loss, nu and pairing, and of each baseline; only points with all seeds."""
    known = comparable(study.records, study.metric)
    point = ["objective", "nu", "pairing", "rho"]
    scores = known.groupby(point)[study.metric].agg(["mean", "count"]).reset_index()
    scores = scores[scores["count"] == study.seeds]
    lines: dict[str, dict[int, float]] = {}
    zero: dict[str, float] = {}
    for row in scores.sort_values("rho").to_dict("records"):  # rho 0 first
        loss, nu, pairing, rho, mean = (row[name] for name in (*point, "mean"))
        if loss in BASELINES:
            lines[loss] = {0: mean, 100: mean}
        elif rho == 0:
            zero[loss] = mean
        else:
            name = f"{loss} nu {nu:g} {pairing}" if nu > 0 else f"{loss} {pairing}"
            start = {0: zero[loss]} if loss in zero else {}
            lines.setdefault(name, start)[round(100 * rho)] = mean
    return lines
