"""Error rates of the verdicts where seeds were added by looking: as `test_claim_errors`, with seeds of each loss of its
own number, decided by the loss's noisy minus exposure. Findings are asked of whole grids of which cells are missing."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.findings.base import Finding
from analysis.findings.contrasts import Grid
from analysis.stats.intervals import mean_over_grid
from analysis.stats.sequential import adjusted_level
from benchmarks.sequential import half_widths, stops
from tests.analysis.findings.test_claim_errors import DATASETS, LINEAR, bounds, check, errors, on_the_bound
from tests.helpers.fake_grid import LOSSES, cells

#: Targets in standard deviations of the monitored quantity: at the largest error, and where most losses stop early.
RATIOS = (0.6, 1.2)


def numbers_of_seeds(drawn: np.ndarray, dataset: str, ratio: float, first: int, level: float) -> np.ndarray:
    """The number of seeds of each loss at the end of each run, (runs, losses)."""
    points = cells(dataset)
    found = []
    for loss in LOSSES:
        signs = np.array([(p == "noisy") - 1.0 * (p == "exposure") if name == loss else 0.0 for name, p, *_ in points])
        if not signs.any():  # CIFAR-10 has only false positives, compared with rho 0
            signs = np.array([(1.0 if rho else -1.0) if name == loss else 0.0 for name, _, rho, _ in points])
            if not signs.any():
                found.append(np.full(len(drawn), drawn.shape[1]))
                continue
        watched = drawn @ (signs / (signs > 0).sum())
        spread = watched.std()
        found.append(stops(half_widths(watched, first, level), ratio * spread, first))
    return np.stack(found, axis=1)


def thinned(drawn: np.ndarray, dataset: str, numbers: np.ndarray) -> np.ndarray:
    """The errors, NaN if a loss does not have the seed; baselines have the seeds of all losses."""
    places = {loss: numbers[:, place] for place, loss in enumerate(LOSSES)}
    kept = np.stack([places.get(name, numbers.max(axis=1)) for name, *_ in cells(dataset)], axis=1)
    return np.where(np.arange(drawn.shape[1])[:, None] < kept[:, None, :], drawn, np.nan)


def estimates(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, error and degrees of freedom of `mean_over_grid` of each run, from (runs, seeds, cells)."""
    known = ~np.isnan(values)
    counts = known.sum(axis=1, keepdims=True)
    weights = known / (values.shape[2] * counts)
    rests = np.nan_to_num(values - np.nanmean(values, axis=1, keepdims=True))
    moved = (np.sqrt(counts / (counts - 1)) * weights * rests).sum(axis=2)
    freedom = 1 / (weights.sum(axis=2) ** 2).sum(axis=1) - 1
    return (np.nan_to_num(values) * weights).sum(axis=(1, 2)), np.sqrt((moved**2).sum(axis=1)), freedom


def parts(finding: Finding, dataset: str, drawn: np.ndarray) -> list[np.ndarray]:
    """The values of each part, (runs, seeds, cells of the part)."""
    runs, seeds, count = drawn.shape
    flat = drawn.reshape(runs * seeds, count).T
    grid = Grid(
        dataset=dataset,
        seeds=np.arange(runs * seeds),
        scores=dict(zip(cells(dataset), flat, strict=True)),
        validation={},
    )
    return [
        part.values["value"].to_numpy().reshape(-1, runs, seeds).transpose(1, 2, 0)
        for part in finding.parts(grid, 0.01)
    ]


def rates(finding: Finding, dataset: str, drawn: np.ndarray, level: float) -> tuple[float, float]:
    """Shares of false "supported" and of false "contradicted"."""
    region = bounds(finding, dataset)
    found = [estimates(values) for values in parts(finding, dataset, drawn)]
    case, strict = on_the_bound(region), 1 - (1 - level) / len(found)
    supported, contradicted = np.ones(len(drawn), bool), np.zeros(len(drawn), bool)
    for place, (mean, error, freedom) in enumerate(found):
        half = stats.t.ppf((1 + level) / 2, freedom) * error
        centre = mean + case.supported[place]
        supported &= (centre - half > region[place, 0]) & (centre + half < region[place, 1])
        half = stats.t.ppf((1 + strict) / 2, freedom) * error
        centre = mean + case.contradicted[place]
        contradicted |= (centre + half < region[place, 0]) | (centre - half > region[place, 1])
    return float(supported.mean()), float(contradicted.mean())


def table(runs: int, first: int, most: int, ratio: float, level: float) -> dict[str, tuple[float, float]]:
    generator = np.random.default_rng(20_261_124)
    drawn = {}
    for dataset in DATASETS.values():
        whole = errors(dataset, most, runs, generator)
        drawn[dataset] = thinned(whole, dataset, numbers_of_seeds(whole, dataset, ratio, first, level))
    return {f.key: rates(f, DATASETS[f.about[0]], drawn[DATASETS[f.about[0]]], level) for f in LINEAR}


@pytest.mark.parametrize("ratio", RATIOS)
def test_neither_verdict_is_false_too_often_where_seeds_were_added_by_looking(ratio):
    for key, both in table(400, 3, 8, ratio, adjusted_level(3, 8)).items():
        for rate in both:
            check(rate, 400, key)


@pytest.mark.slow
@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize(("first", "most"), [(2, 6), (3, 9), (5, 9)])
def test_neither_verdict_is_false_too_often_in_many_runs(first, most, ratio):
    for key, both in table(4_000, first, most, ratio, adjusted_level(first, most)).items():
        for rate in both:
            check(rate, 4_000, key)


def test_the_simulation_estimates_as_the_code_does():
    generator = np.random.default_rng(4)
    whole = errors("vts", 6, 3, generator)
    drawn = thinned(whole, "vts", np.array([[3, 6, 4], [6, 6, 6], [5, 3, 3]]))
    for finding in LINEAR[::4]:
        if finding.about[0] != "vts":
            continue
        for values in parts(finding, "vts", drawn):
            means, errors_, freedoms = estimates(values)
            for run, value in enumerate(values):
                seed, cell = np.indices(value.shape)
                found = mean_over_grid(
                    pd.DataFrame({"cell": cell.ravel(), "seed": seed.ravel(), "value": value.ravel()})
                )
                np.testing.assert_allclose(
                    [found.estimate, found.error, found.freedom], [means[run], errors_[run], freedoms[run]], rtol=1e-9
                )
