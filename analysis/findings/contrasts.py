"""Contrasts: sums and differences of the cells of a study within a seed, as used by claims.

A contrast maps a cell to its values by seed. It is linear in the scores, so the variation that cells of a seed share
(scenes, initial weights, draws) cancels or is counted once. Values are in the unit of the score (a fraction); slopes
are per unit of rho, the change from rho 0 to rho 1.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from analysis.names import LOSSES, OBJECTIVES, PAPER_DATASETS, in_order
from analysis.records.studies import Study
from analysis.stats.differences import comparable


class Cell(NamedTuple):
    """A point of the grid. If a contrast combines cells along a coordinate, that coordinate is None."""

    loss: str
    rho: float | None
    nu: float | None

    def __str__(self) -> str:
        # Real pairs have no nu; records store 0.
        named = {"rho": self.rho, "nu": self.nu or None}
        return " ".join([self.loss, *(f"{name} {value:g}" for name, value in named.items() if value is not None)])


#: Cell -> values by seed, shape (seeds,), NaN if missing. Empty if the study has no such cells.
Contrast = dict[Cell, np.ndarray]

#: Whether a contrast uses the point (rho, nu).
Where = Callable[[float, float], bool]


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """The scores of a study for the objectives of the paper, the only ones in its sentences; see `grid_of`."""

    dataset: str
    seeds: np.ndarray
    scores: Mapping[tuple[str, str, float, float], np.ndarray]
    """(objective, pairing, rho, nu) -> the test score by seed, NaN if a cell failed or was not run."""
    validation: Mapping[tuple[str, str, float, float], np.ndarray]
    """The same for `val_f1_macro`."""

    @property
    def own_data(self) -> bool:
        """Whether the data set is not one of the paper's, so the claims about real data apply to it."""
        return self.dataset not in PAPER_DATASETS

    @property
    def losses(self) -> tuple[str, ...]:
        """The losses in a claim about all losses: those of the paper; on own data, those of them that were run."""
        run = {objective for objective, *_ in self.scores} & set(LOSSES)
        return tuple(in_order(run)) if self.own_data else LOSSES

    def zero(self, objective: str) -> np.ndarray | None:
        """The scores at rho 0 by seed; None if the study has no such cell."""
        return self.scores.get((objective, "none", 0.0, 0.0))

    def frame(self, contrast: Mapping[Any, np.ndarray]) -> pd.DataFrame:
        """The values as a frame for `mean_over_grid`: columns cell, seed, value."""
        names = [str(cell) for cell in contrast]
        values = np.concatenate([*contrast.values()]) if contrast else np.empty(0)
        seeds = np.tile(self.seeds, len(names))
        return pd.DataFrame(
            {"cell": np.repeat(np.array(names, object), len(self.seeds)), "seed": seeds, "value": values}
        )


def grid_of(study: Study) -> Grid:
    """The grid of a study, without losses that are not in the paper.

    Raises `RecordsError` as `analysis.stats.differences.comparable`.
    """
    records = comparable(study.records, study.metric)
    records = records[records["objective"].isin(OBJECTIVES)]
    records = records.assign(val_f1_macro=records["val_f1_macro"].where(records["status"] == "done"))
    point = ["objective", "pairing", "rho", "nu"]
    wide = records.set_index([*point, "seed"])
    seeds = np.sort(records["seed"].unique())
    score, validation = (_by_cell(wide[name], seeds) for name in (study.metric, "val_f1_macro"))
    return Grid(dataset=study.dataset, seeds=seeds, scores=score, validation=validation)


def any_point(rho: float, nu: float) -> bool:
    """All points."""
    return True


def partial_noise(rho: float, nu: float) -> bool:
    """Points at which noisy images share content with their partner; all points of a real data set."""
    return nu < 1


def full_noise(rho: float, nu: float) -> bool:
    """Points at which noisy pairs are false positives."""
    return nu == 1


def scores(grid: Grid, losses: Collection[str], *, pairing: str = "noisy", where: Where = any_point) -> Contrast:
    """The scores of the cells with rho > 0. If a loss lacks a point that another loss has, its values are NaN."""
    points = {(rho, nu) for _, made, rho, nu in grid.scores if made == pairing and rho > 0 and where(rho, nu)}
    cells = [(loss, pairing, rho, nu) for loss in losses for rho, nu in sorted(points, key=lambda p: (p[1], p[0]))]
    if not any(cell in grid.scores for cell in cells):
        return {}
    return {Cell(o, rho, nu): grid.scores.get((o, p, rho, nu), _nothing(grid)) for o, p, rho, nu in cells}


def gains(grid: Grid, losses: Collection[str], *, pairing: str = "noisy", where: Where = any_point) -> Contrast:
    """Each cell with noisy pairs minus the cell at rho 0 of the same loss and seed."""
    zero = {loss: grid.zero(loss) for loss in losses}
    if all(values is None for values in zero.values()):
        return {}
    cells = scores(grid, losses, pairing=pairing, where=where)
    return {cell: values - _or_nothing(grid, zero[cell.loss]) for cell, values in cells.items()}


def over_exposure(grid: Grid, losses: Collection[str], *, where: Where = any_point) -> Contrast:
    """Each noisy cell minus the mere-exposure cell of the same loss, rho, nu and seed, at points with both."""
    noisy = scores(grid, losses, where=where)
    exposure = scores(grid, losses, pairing="exposure", where=where)
    return {cell: values - exposure[cell] for cell, values in noisy.items() if cell in exposure}


def slopes(contrast: Contrast) -> Contrast:
    """The least-squares slope in rho for each loss and nu with two or more levels of rho.

    A seed without all levels has no slope, because other levels would give a different quantity.
    """
    lines: dict[Cell, list[tuple[float, np.ndarray]]] = {}
    for cell, values in contrast.items():
        lines.setdefault(Cell(cell.loss, None, cell.nu), []).append((cell.rho or 0.0, values))
    fitted = {}
    for cell, line in lines.items():
        rho = np.array([level for level, _ in line])
        if len(rho) > 1:
            centred = rho - rho.mean()
            fitted[cell] = np.tensordot(centred / (centred**2).sum(), np.stack([values for _, values in line]), 1)
    return fitted


def with_zero(grid: Grid, contrast: Contrast) -> Contrast:
    """The scores, with those at rho 0 (the same cells for each nu) added; empty without any at rho 0."""
    lines = {(cell.loss, cell.nu) for cell in contrast}
    zeros = {Cell(loss, 0.0, nu): grid.zero(loss) for loss, nu in sorted(lines)}
    if all(values is None for values in zeros.values()):
        return {}
    return {**{cell: _or_nothing(grid, values) for cell, values in zeros.items()}, **contrast}


def trend(grid: Grid, loss: str, pairing: str = "noisy") -> Contrast:
    """The slope of the score in rho, including rho 0, at each nu below 1; for false positives at nu 1."""
    where = full_noise if pairing == "false_positive" else partial_noise
    return slopes(with_zero(grid, scores(grid, [loss], pairing=pairing, where=where)))


def gain_above(contrast: Contrast, level: float) -> Contrast:
    """The cells with rho above `level` minus the cell at `level` of the same loss, nu and seed."""
    base = {(cell.loss, cell.nu): values for cell, values in contrast.items() if cell.rho == level}
    higher = {cell: values for cell, values in contrast.items() if cell.rho is not None and cell.rho > level}
    return {c: values - base[c.loss, c.nu] for c, values in higher.items() if (c.loss, c.nu) in base}


def full_minus_partial(contrast: Contrast) -> Contrast:
    """The cells with nu 1 minus the mean of those with nu < 1 at the same loss, rho and seed."""
    drops = {}
    for cell, values in contrast.items():
        others = [v for c, v in contrast.items() if c.loss == cell.loss and c.rho == cell.rho and (c.nu or 0.0) < 1]
        if cell.nu == 1 and others:
            drops[cell] = values - np.mean(others, axis=0)
    return drops


def loss_difference(first: Contrast, second: Contrast) -> Contrast:
    """A contrast of one loss minus that of another at the same rho, nu and seed, at points with both."""
    others = {(cell.rho, cell.nu): (cell.loss, values) for cell, values in second.items()}
    pairs = ((cell, values, *others[cell.rho, cell.nu]) for cell, values in first.items() if cell[1:] in others)
    return {Cell(f"{a.loss} - {loss}", a.rho, a.nu): values - other for a, values, loss, other in pairs}


def chosen_over(grid: Grid, baseline: str) -> Contrast:
    """The test score of the encoder with the best validation score of each seed, minus that of `baseline`.

    The candidates are the noisy cells and rho 0 of `grid.losses`. The choice is by validation score, so that the test
    score is not the best of many by luck. A seed without all candidates of the other seeds is NaN.
    """
    reference = grid.zero(baseline)
    candidates = [k for k in grid.scores if k[0] in grid.losses and k[1] in ("noisy", "none")]
    if reference is None or not candidates:
        return {}
    validation = np.stack([grid.validation[k] for k in candidates])
    test = np.stack([grid.scores[k] for k in candidates])
    ever = ~np.isnan(validation + test).all(axis=1)
    missing = np.isnan(validation + test)[ever].any(axis=0) | ~ever.any()
    best = np.argmax(np.nan_to_num(validation, nan=-np.inf), axis=0)
    values = np.where(missing, np.nan, np.take_along_axis(test, best[None], axis=0)[0] - reference)
    return {Cell(f"best encoder - {baseline}", None, None): values}


def _by_cell(column: pd.Series, seeds: np.ndarray) -> dict[tuple[str, str, float, float], np.ndarray]:
    wide = column.astype(float).unstack("seed").reindex(columns=seeds)
    return dict(zip(wide.index.tolist(), wide.to_numpy(), strict=True))


def _nothing(grid: Grid) -> np.ndarray:
    return np.full(len(grid.seeds), np.nan)


def _or_nothing(grid: Grid, values: np.ndarray | None) -> np.ndarray:
    return _nothing(grid) if values is None else values
