"""The rule of `--until`: its condition, the seeds it has added, and the confidence level under early stopping."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from analysis.names import LEVEL
from datasets.errors import InputError, one_line
from datasets.settings import settings

EXAMPLE = "halfwidth(difference) < 0.01"

PROBED = ("random", "pretrained", "imagenet")
"""Baselines that cost only a probe. They run on every seed that any loss gets, for comparison."""

_FORM = re.compile(r"\s*halfwidth\s*\(\s*(\w+)\s*\)\s*<\s*([^\s<]+)\s*")


@dataclass(frozen=True)
class StoppingRule:
    """A condition: half the width of the interval of `name` (one of `QUANTITIES`) is below `target`, a fraction."""

    name: str
    target: float


@settings("grown")
class AddedSeeds:
    """The seeds that `--until` has added in a folder. They are kept if a later command asks for no further seeds."""

    added: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Seeds added to the first ones, by loss or baseline."""
    level: Annotated[float, Field(ge=LEVEL, lt=1)] = LEVEL
    """Confidence level of the intervals, raised so that they keep a coverage of `LEVEL` under early stopping."""

    def joined(self, before: "AddedSeeds") -> "AddedSeeds":
        """The seeds of both, and the higher level."""
        names = {**before.added, **self.added}
        added = {name: _union(before.added.get(name, ()), self.added.get(name, ())) for name in names}
        return AddedSeeds(added=added, level=max(self.level, before.level))


def _union(left: Sequence[int], right: Sequence[int]) -> tuple[int, ...]:
    return tuple(dict.fromkeys((*left, *right)))


def parse_rule(text: str) -> StoppingRule:
    """Read a condition such as `EXAMPLE`.

    Raises:
        InputError: it has another form, or an unknown quantity.
    """
    from analysis.stats.seed_stopping import QUANTITIES  # here: SciPy takes a second to import

    found = _FORM.fullmatch(text)
    if not found:
        raise InputError(
            f'--until {one_line(repr(text), most=80)}: write it as "{EXAMPLE}", with one of {", ".join(QUANTITIES)} '
            "in the parentheses"
        )
    name, number = found.groups()
    if name not in QUANTITIES:
        raise InputError(f"--until: unknown quantity {one_line(name, most=40)!r}, choose from {', '.join(QUANTITIES)}")
    try:
        target = float(number)
    except ValueError:
        target = 0.0
    if not 0 < target < 1:
        raise InputError(
            f"--until: {one_line(number, most=40)} should be a number between 0 and 1, on the scale of the records: "
            "0.01 is one percentage point"
        )
    return StoppingRule(name, target)


def check_rule(
    until: str, most: int, seeds: Sequence[int], rho: Sequence[float], pairings: Sequence[str], losses: Sequence[str]
) -> None:
    """Check that a sweep's settings allow the condition `until` (empty: none) with at most `most` seeds.

    Raises:
        InputError: they do not.
    """
    if not until:
        if most:
            raise InputError(f'--max-seeds {most}: only with --until, such as --until "{EXAMPLE}"')
        return
    from analysis.stats.sequential import MOST  # here: SciPy takes a second to import

    name, first = parse_rule(until).name, len(set(seeds))
    if first < 2:
        raise InputError(
            "--until: one seed has no interval: start with at least two, better three to five, as in --seeds 0 1 2"
        )
    if not first <= most <= MOST:
        what = f"--max-seeds {most}" if most else "--until without --max-seeds"
        raise InputError(f"{what}: give the largest total number of seeds, from {first} (--seeds) to {MOST}")
    if max(seeds) + most >= 2**63:
        raise InputError("--until: added seeds follow the largest of --seeds, which is too close to 2^63")
    if not losses:
        raise InputError("--until: --losses names only baselines, which have no interval: add a loss")
    either = {"noisy", "false_positive", "misregistration"}
    wanted = {"noisy", "exposure"} if name == "difference" else either & set(pairings)
    if not wanted or not wanted <= set(pairings):
        raise InputError(
            f"--until: {name} needs --pairings "
            + ("noisy exposure" if name == "difference" else "noisy, false_positive or misregistration")
            + ", not "
            + " ".join(pairings)
        )
    if not any(rho) or (name == "against_clean" and all(rho)):
        needs = "a rate above 0" + (" and 0" if name == "against_clean" else "")
        raise InputError(f"--until: {name} needs {needs} in --rho")


def seed_order(seeds: Sequence[int], most: int) -> tuple[int, ...]:
    """The seeds in the order of their use: the first ones as given, then those that follow the largest."""
    first = tuple(dict.fromkeys(seeds))
    after = max(first) + 1
    return (*first, *range(after, after + most - len(first)))


def confidence_level(seeds: Sequence[int], most: int) -> float:
    """The confidence level of intervals that are evaluated after each seed."""
    from analysis.stats.sequential import adjusted_level  # here: SciPy takes a second to import

    return adjusted_level(len(set(seeds)), most)


def with_baselines(added: Mapping[str, tuple[int, ...]], objectives: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The added seeds of losses; the baselines in `PROBED` get the seeds of all losses."""
    every = tuple(sorted({seed for seeds in added.values() for seed in seeds}))
    probed = {name: every for name in objectives if name in PROBED} if every else {}
    return {**{name: seeds for name, seeds in added.items() if seeds}, **probed}
