"""`--until`: adds seeds to a loss until its confidence interval is narrow enough."""

import math
from collections.abc import Callable, Sequence, Set
from dataclasses import replace

import pandas as pd

from analysis.errors import RecordsError
from analysis.records.io import read_records, recorded_keys
from analysis.stats.seed_stopping import StoppingDecision, decide_stopping, monitored_interval
from analysis.text import describe_error
from datasets.errors import InputError
from sweep.config.stopping_rule import AddedSeeds, confidence_level, parse_rule, seed_order, with_baselines
from sweep.config.sweep import Sweep
from sweep.tune.outcome import Outcome
from trainables.cell import Cell

Run = Callable[[Sweep, Sequence[Cell]], Outcome]


def add_seeds(sweep: Sweep) -> tuple[Sweep, list[StoppingDecision]]:
    """Add the seeds that the records ask for.

    Nothing is decided about a loss while records of it are missing. Seeds that were added earlier stay, even if the
    rule has changed. With --retry-failed, and without --until, the sweep is returned unchanged.

    Returns:
        The sweep with its seeds, and the last decision about each loss.
    """
    if not sweep.until or sweep.retry_failed:
        return sweep, []
    level = max(sweep.grown.level, confidence_level(sweep.seeds, sweep.max_seeds))
    order = seed_order(sweep.seeds, sweep.max_seeds)
    known = recorded_keys(sweep.run_dir.root).status
    records = read_records(sweep.run_dir.root) if known else pd.DataFrame()
    decisions = [_decide(sweep, loss, order, records, known.keys(), level) for loss in sweep.losses]
    first = set(sweep.seeds)
    added = {}
    for decision in decisions:
        further = order[len(decision.seeds) : len(decision.seeds) + 1] if decision.state == "wide" else ()
        before = sweep.grown.added.get(decision.loss, ())
        added[decision.loss] = tuple(
            dict.fromkeys((*before, *(s for s in (*decision.seeds, *further) if s not in first)))
        )
    return replace(sweep, grown=AddedSeeds(added=with_baselines(added, sweep.objectives), level=level)), decisions


def run_adaptively(
    sweep: Sweep, missing: Sequence[Cell], run: Run, claim: Callable[[Sweep], None]
) -> tuple[Sweep, Outcome]:
    """Run the missing cells, then the cells of added seeds, until the records ask for no further seed.

    `claim` writes `sweep.yaml` before added cells run. A cell without a record is not run again in this command, and
    its loss gets no further seed.
    """
    outcome, tried = run(sweep, missing), {cell.key for cell in missing}
    printed: set[str] = set()
    while sweep.until and not sweep.retry_failed and not outcome.stop and not outcome.unwritable:
        try:
            larger, decisions = add_seeds(sweep)
            claim(larger)
        except (InputError, RecordsError, OSError) as error:  # the cells that have run must still be shown
            outcome = replace(outcome, unwritable=f"--until cannot add seeds ({describe_error(error)})")
            break
        sweep = larger
        lines = [describe_decision(sweep, decision) for decision in decisions]
        print("\n".join(line for line in lines if line not in printed), flush=True)
        printed.update(lines)
        known = recorded_keys(sweep.run_dir.root).status
        further = [cell for cell in sweep.cells() if cell.key not in known and cell.key not in tried]
        if not further:
            break
        tried |= {cell.key for cell in further}
        outcome = outcome.followed_by(run(sweep, further))
    return sweep, outcome


def describe_decision(sweep: Sweep, decision: StoppingDecision) -> str:
    """One line: what was decided about a loss, and why."""
    target = 100 * parse_rule(sweep.until).target
    after = f"after {len(decision.seeds)} seeds"
    if decision.state == "unfinished":
        return f"{decision.loss}: no decision yet, because cells of its {len(decision.seeds)} seeds are missing"
    if decision.state == "no value":
        return f"{decision.loss}: no value {after}, so further seeds would not help"
    if math.isnan(decision.half):
        reason = f"{decision.loss}: no interval {after}"
    else:
        reason = f"{decision.loss}: half-width {100 * decision.half:.2f} points {after}, "
        reason += "below" if decision.state == "narrow" else "not below"
        reason += f" {target:g}"
    if decision.state == "narrow":
        return f"{reason}: enough"
    if decision.state == "most":
        return f"{reason}, and --max-seeds is {sweep.max_seeds}: no further seed"
    return f"{reason}: seed {seed_order(sweep.seeds, sweep.max_seeds)[len(decision.seeds)]} is added"


def max_added_cells(sweep: Sweep) -> int:
    """The number of cells that are added if each loss gets --max-seeds seeds."""
    order = seed_order(sweep.seeds, sweep.max_seeds)
    added = with_baselines(dict.fromkeys(sweep.losses, order), sweep.objectives)
    return len(replace(sweep, grown=replace(sweep.grown, added=added)).cells()) - len(sweep.cells())


def final_lines(sweep: Sweep) -> str:
    """Lines about the seeds that each loss has used; empty without --until."""
    sweep, decisions = add_seeds(sweep)
    if not decisions:
        return ""
    used = sum(len(decision.seeds) for decision in decisions)
    largest = max(len(decision.seeds) for decision in decisions)
    lines = [
        f"--until {sweep.until!r}; intervals are at the {100 * sweep.grown.level:.4g} % level, to keep 95 % coverage "
        "under early stopping:",
        *(f"  {describe_decision(sweep, decision)}" for decision in decisions),
    ]
    if len(decisions) > 1 and used < largest * len(decisions):
        lines.append(
            f"  {used} seeds were used, all losses together; {largest} seeds for every loss would have been "
            f"{largest * len(decisions)}"
        )
    return "\n".join(lines)


def _decide(
    sweep: Sweep, loss: str, order: Sequence[int], records: pd.DataFrame, known: Set[str], level: float
) -> StoppingDecision:
    until = parse_rule(sweep.until)
    start = len(set(sweep.seeds))
    # Seeds that were added stay added, even if a record has changed since.
    while start < len(order) and order[start] in sweep.grown.added.get(loss, ()):
        start += 1

    def keys(seeds: Sequence[int]) -> set[str]:
        return {cell.key for cell in sweep.grid((loss,), tuple(seeds))}

    def over(seeds: Sequence[int]) -> pd.DataFrame:
        return records[records["key"].isin(keys(seeds))]

    return decide_stopping(
        loss,
        order,
        start,
        recorded=lambda seeds: keys(seeds) <= known,
        watch=lambda seeds: monitored_interval(over(seeds), loss, until.name, level=level),
        target=until.target,
    )
