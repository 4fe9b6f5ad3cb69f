"""Verdicts: whether the records of a study support or contradict each finding of the paper.

A finding is supported if the interval of each of its parts lies inside the claimed region. It is contradicted if the
interval of one part, widened for the number of parts (Bonferroni), lies completely outside. In simulations
(`tests/analysis/findings/test_claim_errors.py`) each verdict is wrong in at most 1 - level of cases with normal errors
of seeds, and more often with strongly skewed errors (METHOD.md).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from analysis.findings.base import Finding, Part, Region, kind_of
from analysis.findings.contrasts import Grid, grid_of
from analysis.findings.paper import FINDINGS
from analysis.names import LEVEL, MARGIN
from analysis.records.studies import Study, studies
from analysis.stats.collapse import is_collapsed, older_note, without_collapsed
from analysis.stats.inference import holm
from analysis.stats.intervals import FURTHER_UP_TO, Estimate

Verdict = Literal["supported", "contradicted", "undecided", "not applicable"]

#: The mean of a part must include at least this share of its cells.
ENOUGH = 0.5

_KINDS = {"vts": "VTS", "real": "real data", "cifar10": "CIFAR-10"}

# An end of an interval this close to a bound is on the bound, because equal scores differ by rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True, eq=False)
class JudgedPart:
    """A part of a finding, judged on a study. Values are in the unit of the score, slopes per unit of rho."""

    name: str
    region: Region
    estimate: Estimate
    """With the interval used for the verdict: if the mean is inside the region, that of the given level, otherwise that
    corrected for the number of parts."""
    verdict: Verdict
    expected: int
    """The number of cells in the part; more than `estimate.cells` if some have no value or one seed."""
    p: float
    """Two-sided p, by t, of a mean at the nearer bound of the region; below 1 - level it supports. 1 if the mean is
    outside; NaN without an interval."""
    reason: str
    """What would decide it; empty if it is decided."""
    further: float
    """The number of further seeds that would decide it; inf if there are too many, NaN if seeds would not help."""

    @property
    def slack(self) -> float:
        """The distance of the interval (or the estimate) to the nearer bound of the region; negative outside."""
        e, region = self.estimate, self.region
        low, high = (e.estimate, e.estimate) if math.isnan(e.low) else (e.low, e.high)
        return min(low - region.above, region.below - high)


@dataclass(frozen=True, kw_only=True, eq=False)
class Judgement:
    """A finding, a study and the verdict."""

    finding: Finding
    study: str
    """The study's title."""
    about: str
    """What the verdict is about: see `Study.about`."""
    score: str
    seeds: int
    own_data: bool
    """Whether the data set is not one of the paper's, so it is judged by the claims about real data."""
    verdict: Verdict
    parts: tuple[JudgedPart, ...]
    decide: str
    """What would decide it, or why it does not apply; empty if it is decided."""
    p: float = math.nan
    """The largest p of the parts, because all of them must hold."""
    p_holm: float = math.nan
    """The same, corrected for all findings judged on the study (Holm)."""
    values: int = 0
    """The values of all parts, each of a cell of the contrast and a seed."""
    collapsed: int = 0
    """How many of them rest on a collapsed cell (`analysis.stats.collapse`)."""
    other_task: str = ""
    """See `Study.other_task`."""
    older: bool = False
    """Whether some records are older, so that their loss alone says whether they have collapsed."""

    @property
    def ranked(self) -> list[JudgedPart]:
        """The parts, weakest first: contradicted ones, then those without a value, then by `slack`."""

        def place(part: JudgedPart) -> tuple[bool, float]:
            return part.verdict != "contradicted", -math.inf if math.isnan(part.slack) else part.slack

        return sorted(self.parts, key=place)

    @property
    def weakest(self) -> JudgedPart | None:
        """The part with the most evidence against the finding; None if the finding is not applicable."""
        return next(iter(self.ranked), None)


def judge(records: pd.DataFrame, *, margin: float = MARGIN, level: float = LEVEL) -> list[Judgement]:
    """Judge every finding on every study of the records, in the order of `studies` and `FINDINGS`.

    `margin` is a fraction above 0, `level` that of the intervals. Raises `ValueError` if one is out of range, and
    `RecordsError` as `analysis.stats.differences.comparable`.
    """
    if not margin > 0 or not 0 < level < 1:
        raise ValueError(f"margin {margin} must be above 0 and level {level} between 0 and 1")
    judgements: list[Judgement] = []
    for study in studies(records, level=level):
        grid = grid_of(study)
        judged = [judge_finding(finding, study, grid, margin=margin, level=level) for finding in FINDINGS]
        if is_collapsed(study.records).any():
            others = grid_of(replace(study, records=without_collapsed(study.records)))
            older = bool(older_note(study.records))
            judged = [replace(_counted(judgement, others, margin), older=older) for judgement in judged]
        corrected = holm(np.array([judgement.p for judgement in judged]))
        judgements += [replace(j, p_holm=float(p)) for j, p in zip(judged, corrected, strict=True)]
    return judgements


def judge_finding(
    finding: Finding, study: Study, grid: Grid, *, margin: float = MARGIN, level: float = LEVEL
) -> Judgement:
    """Judge one finding on one study, whose grid is `grid`; `p_holm` is NaN."""
    frame = Judgement(
        finding=finding,
        study=study.title,
        about=study.about,
        score=study.score,
        seeds=study.seeds,
        own_data=grid.own_data,
        other_task=study.other_task,
        verdict="not applicable",
        parts=(),
        decide="",
    )
    if kind_of(study.dataset) not in finding.about:
        kinds = " and ".join(_KINDS[kind] for kind in finding.about)
        return replace(frame, decide=f"the paper says this about {kinds}")
    parts = finding.parts(grid, margin)
    held = [part for part in parts if not part.values.empty]
    if not held:
        return replace(frame, decide=f"needs {finding.needs}")
    strict = 1 - (1 - level) / len(held)
    judged = tuple(_judge_part(part, finding.needs, level=level, strict=strict) for part in parts)
    return replace(
        frame,
        parts=judged,
        verdict=_combined_verdict(judged),
        decide=_what_would_decide(judged),
        p=_largest_p(judged),
        values=int(sum(part.values["value"].count() for part in parts)),
    )


def _counted(judgement: Judgement, others: Grid, margin: float) -> Judgement:
    """With the number of values that `others`, the grid without collapsed cells, lacks."""
    if not judgement.parts:
        return judgement
    left = sum(part.values["value"].count() for part in judgement.finding.parts(others, margin))
    return replace(judgement, collapsed=int(judgement.values - left))


def _judge_part(part: Part, needs: str, *, level: float, strict: float) -> JudgedPart:
    estimate = e = part.estimate(part.values, level=level)
    expected = int(part.values["cell"].nunique())
    verdict: Verdict = "undecided"
    reason, further = _why_not_judged(estimate, expected, needs), math.nan
    if not reason:
        if not _contains(part.region, estimate.estimate):
            e = part.estimate(part.values, level=strict)
        verdict = "supported" if _inside(e, part.region) else "contradicted" if _outside(e, part.region) else verdict
    if not reason and verdict == "undecided":
        further = _further(part, e)
        reason = _further_seeds_text(further)
    return JudgedPart(
        name=part.name,
        region=part.region,
        estimate=e,
        verdict=verdict,
        expected=expected,
        p=_p(estimate, part.region),
        reason=reason,
        further=further,
    )


def _inside(e: Estimate, region: Region) -> bool:
    return e.low > region.above + _ROUNDING and e.high < region.below - _ROUNDING


def _outside(e: Estimate, region: Region) -> bool:
    return e.high < region.above - _ROUNDING or e.low > region.below + _ROUNDING


def _contains(region: Region, value: float) -> bool:
    return region.above < value < region.below


def _why_not_judged(e: Estimate, expected: int, needs: str) -> str:
    """Why the part cannot be judged; empty if it can."""
    if not expected:
        return f"needs {needs}"
    if not e.values and not e.left_out:
        return f"no value: {'the cell' if expected == 1 else f'all {expected} cells'} failed or not run"
    if math.isnan(e.low):
        return "one seed: run more, as in --seeds 0 1 2"
    if e.cells < ENOUGH * expected:
        return f"only {e.cells} of {expected} cells have two seeds: run the others"
    return ""


def _further(part: Part, e: Estimate) -> float:
    region = part.region
    bounds = [bound for bound in (region.above, region.below) if math.isfinite(bound)]
    if not _contains(region, e.estimate):
        # The estimate is beyond one bound, so only that one matters.
        bounds = [region.above if e.estimate <= region.above else region.below]
    numbers = [part.further(e, threshold=bound) for bound in bounds]
    return max(math.inf if number is None else number for number in numbers)


def _further_seeds_text(further: float) -> str:
    if math.isinf(further):
        return f"too close to tell: more than {FURTHER_UP_TO:,} further seeds"
    return f"about {further:.0f} further seed{'' if further == 1 else 's'}, if estimate and spread stay the same"


def _p(e: Estimate, region: Region) -> float:
    if math.isnan(e.error):
        return math.nan
    distances = np.array([e.estimate - region.above, region.below - e.estimate])
    if e.error == 0:
        return 0.0 if distances.min() > _ROUNDING else 1.0
    return float(min(1.0, 2 * stats.t.sf(distances.min() / e.error, e.freedom)))


def _combined_verdict(parts: Sequence[JudgedPart]) -> Verdict:
    verdicts = {part.verdict for part in parts}
    if "contradicted" in verdicts:
        return "contradicted"
    return "supported" if verdicts == {"supported"} else "undecided"


def _what_would_decide(parts: Sequence[JudgedPart]) -> str:
    """What would decide a finding: missing cells, else the seeds to contradict it, else those to support it."""
    if _combined_verdict(parts) != "undecided":
        return ""
    open_ = [part for part in parts if part.reason]
    absent = [part for part in open_ if math.isnan(part.further)]
    against = [part for part in open_ if not _contains(part.region, part.estimate.estimate)]
    if absent:
        part = absent[0]
    elif against:
        part = min(against, key=lambda part: part.further)
    else:
        part = max(open_, key=lambda part: part.further)
    alike = {other.reason for other in parts} == {part.reason}
    return part.reason if alike else f"{part.name}: {part.reason}"


def _largest_p(parts: Sequence[JudgedPart]) -> float:
    # NaN if one part has none, because that part must hold, too.
    return float(np.max([part.p for part in parts]))
