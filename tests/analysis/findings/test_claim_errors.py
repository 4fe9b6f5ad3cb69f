"""Simulated error rates of the verdicts on grids whose true value is on the bound of a claim.

There a verdict of either kind is false. Supported: one part on its bound and the others well inside, the worst case
for a claim of which all parts must hold. Contradicted: all parts on their bounds. For claims bounded by 0 the latter
holds nothing at all. Seeds share errors among all cells, among those of a loss and among those of a pairing.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats

from analysis.findings.base import RANGE_OF_THREE, Finding
from analysis.findings.contrasts import Grid, grid_of
from analysis.findings.paper import FINDINGS, SPAN
from analysis.findings.verdicts import judge_finding
from analysis.records.studies import studies
from tests.helpers.fake_grid import cells, records

DATASETS = {"vts": "vts", "real": "xbd", "cifar10": "cifar10"}

#: Largest error rate by design; the simulated one may exceed it by three of its standard errors.
ALLOWED = 0.05

# The findings that are linear in the scores, without those on the best encoder and on the spread (see below).
LINEAR = [finding for finding in FINDINGS if finding.key not in ("beats_imagenet", "seed_spread")]


def errors(dataset: str, seeds: int, runs: int, generator: np.random.Generator) -> np.ndarray:
    """Errors of scores, (runs, seeds, cells): shared within a seed, within its losses and pairings, and by cell."""
    points = cells(dataset)
    drawn = generator.normal(0, 0.01, (runs, seeds, 1)) + generator.normal(0, 0.006, (runs, seeds, len(points)))
    for part in (0, 1):
        _, group = np.unique([cell[part] for cell in points], return_inverse=True)
        drawn = drawn + generator.normal(0, 0.004, (runs, seeds, group.max() + 1))[..., group]
    return drawn


def weights(finding: Finding, dataset: str) -> np.ndarray:
    """The weight of each cell in the mean of each part, (parts, cells), from unit scores."""
    points = cells(dataset)
    unit = np.eye(len(points))
    grid = Grid(
        dataset=dataset, seeds=np.arange(len(points)), scores=dict(zip(points, unit, strict=True)), validation={}
    )
    return np.stack([part.values.groupby("seed")["value"].mean().to_numpy() for part in finding.parts(grid, 0.01)])


def bounds(finding: Finding, dataset: str) -> np.ndarray:
    """The ends of the region of each part, (parts, 2)."""
    regions = [part.region for part in judged(finding, records(dataset)).parts]
    return np.array([(region.above, region.below) for region in regions])


def judged(finding, frame):
    (study,) = studies(frame)
    return judge_finding(finding, study, grid_of(study))


@dataclass(frozen=True, kw_only=True)
class Case:
    """Means of the parts at which a verdict is false."""

    supported: np.ndarray
    contradicted: np.ndarray


def on_the_bound(region: np.ndarray) -> Case:
    inner = np.where(np.isinf(region[:, 0]), region[:, 1] - 0.1, region[:, 0] + 0.1)
    inner = np.where(np.isinf(region).any(axis=1), inner, region.mean(axis=1))
    edge = np.where(np.isinf(region[:, 0]), region[:, 1], region[:, 0])
    supported = inner.copy()
    supported[0] = edge[0]
    return Case(supported=supported, contradicted=edge)


def verdicts(means: np.ndarray, region: np.ndarray, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Whether each run supports and contradicts, from the parts' means by seed (runs, seeds, parts).

    A second way to the verdict, for all runs at once; `test_the_simulation_judges_as_the_code_does` compares them.
    """
    seeds, parts = means.shape[1:]
    centre, error = means.mean(axis=1), means.std(axis=1, ddof=1) / np.sqrt(seeds)
    half = stats.t.ppf((1 + level) / 2, seeds - 1) * error
    supported = (centre - half > region[:, 0]) & (centre + half < region[:, 1])
    half = stats.t.ppf(1 - (1 - level) / 2 / parts, seeds - 1) * error
    contradicted = (centre + half < region[:, 0]) | (centre - half > region[:, 1])
    return supported.all(axis=1), contradicted.any(axis=1)


def rates(finding: Finding, drawn: np.ndarray) -> tuple[float, float]:
    """Shares of false "supported" and of false "contradicted"."""
    dataset = DATASETS[finding.about[0]]
    region, matrix = bounds(finding, dataset), weights(finding, dataset)
    case, moved = on_the_bound(region), drawn @ matrix.T
    return (
        float(verdicts(moved + case.supported, region)[0].mean()),
        float(verdicts(moved + case.contradicted, region)[1].mean()),
    )


def table(runs: int, seeds: int, generator: np.random.Generator) -> dict[str, tuple[float, float]]:
    drawn = {dataset: errors(dataset, seeds, runs, generator) for dataset in DATASETS.values()}
    return {finding.key: rates(finding, drawn[DATASETS[finding.about[0]]]) for finding in LINEAR}


def spread_rates(runs: int, seeds: int, generator: np.random.Generator, *, shared: bool) -> tuple[float, float]:
    """The same for the claim about the spread, with the expected range of three seeds at its bound."""
    (finding,) = (finding for finding in FINDINGS if finding.key == "seed_spread")
    points, sd = cells("cifar10"), SPAN / RANGE_OF_THREE
    found = []
    for _ in range(runs):
        drawn = generator.normal(0, sd, (1 if shared else len(points), seeds)) * np.ones((len(points), 1))
        found.append(judged(finding, records("cifar10", errors=drawn, seeds=seeds)).verdict)
    return found.count("supported") / runs, found.count("contradicted") / runs


def choice_rates(runs: int, seeds: int, generator: np.random.Generator) -> tuple[float, float]:
    """The same for the claim about the best encoder, if no encoder is better than imagenet."""
    (finding,) = (finding for finding in FINDINGS if finding.key == "beats_imagenet")
    points = cells("xbd")
    test, validation = errors("xbd", seeds, 2 * runs, generator).reshape(2, runs * seeds, len(points))
    grid = Grid(
        dataset="xbd",
        seeds=np.arange(runs * seeds),
        scores=dict(zip(points, test.T, strict=True)),
        validation=dict(zip(points, validation.T, strict=True)),
    )
    (part,) = finding.parts(grid, 0.01)
    values = part.values["value"].to_numpy().reshape(runs, seeds, 1)
    # The choice is random, so the shared errors of losses and pairings are no gain on average.
    supported, contradicted = verdicts(values, np.array([[0.0, np.inf]]))
    return float(supported.mean()), float(contradicted.mean())


def check(rate: float, runs: int, what: object) -> None:
    assert rate <= ALLOWED + 3 * np.sqrt(ALLOWED * (1 - ALLOWED) / runs), (what, rate)


@pytest.mark.parametrize("seeds", [3, 5])
def test_neither_verdict_is_false_too_often(seeds):
    runs = 600
    generator = np.random.default_rng(20_240_501)
    for key, both in table(runs, seeds, generator).items():
        for rate in both:
            check(rate, runs, key)
    for rate in choice_rates(runs, seeds, generator):
        check(rate, runs, "beats_imagenet")


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5])
def test_neither_verdict_is_false_too_often_in_many_runs(seeds):
    generator = np.random.default_rng(20_240_502)
    found = table(10_000, seeds, generator) | {"beats_imagenet": choice_rates(10_000, seeds, generator)}
    for key, both in found.items():
        for rate in both:
            check(rate, 10_000, key)
    for shared in (True, False):
        for rate in spread_rates(1_000, seeds, generator, shared=shared):
            check(rate, 1_000, ("seed_spread", shared))


def test_the_simulation_judges_as_the_code_does():
    generator, met = np.random.default_rng(5), set()
    # Also far from the bound in either direction, so that all verdicts occur.
    for finding, factor in zip(LINEAR, itertools.cycle((-3.0, 1.0, 3.0)), strict=False):
        dataset = DATASETS[finding.about[0]]
        region, matrix = bounds(finding, dataset), weights(finding, dataset)
        truth = np.linalg.lstsq(matrix, on_the_bound(region).contradicted, rcond=None)[0]
        drawn = errors(dataset, 3, 1, generator)
        scores = factor * truth + drawn[0] * 0.1
        supported, contradicted = verdicts((scores @ matrix.T)[None], region)
        verdict = "supported" if supported[0] else "contradicted" if contradicted[0] else "undecided"
        met.add(verdict)
        assert judged(finding, records(dataset, lambda *cell: 0.0, errors=scores.T)).verdict == verdict
    assert met == {"supported", "contradicted", "undecided"}
