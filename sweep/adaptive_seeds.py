"""`--until`: adds seeds to a loss until its confidence interval is narrow enough."""

import math
from collections.abc import Callable, Sequence, Set
from dataclasses import replace

import pandas as pd

from analysis.records.io import read_records, recorded_keys
from analysis.stats.seed_stopping import StoppingDecision, decide_stopping, monitored_interval
from sweep.config.stopping_rule import AddedSeeds, confidence_level, parse_rule, seed_order, with_baselines
from sweep.config.sweep import Sweep
from sweep.tune.outcome import Outcome
from trainables.cell import Cell

Run = Callable[[Sweep, Sequence[Cell]], Outcome]


def add_seeds(sweep: Sweep) -> tuple[Sweep, list[StoppingDecision]]:
    """The sweep with the seeds that its records ask for, and the last decision about each loss.

    While records of a loss are missing, nothing is decided about it. Seeds that were added before stay, whatever the
    condition is now. With --retry-failed, and without --until, the sweep is returned unchanged.
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
    """Run the missing cells, then those of the seeds that the records ask for, until they ask for none.

    `claim` writes `sweep.yaml` before added cells are run. A cell that gives no record is not tried again, and its
    loss gets no further seed in this command.
    """
    outcome, tried = run(sweep, missing), {cell.key for cell in missing}
    said: set[str] = set()
    while sweep.until and not sweep.retry_failed and not outcome.stop and not outcome.unwritable:
        sweep, decisions = add_seeds(sweep)
        claim(sweep)
        lines = [describe_decision(sweep, decision) for decision in decisions]
        print("\n".join(line for line in lines if line not in said), flush=True)
        said.update(lines)
        known = recorded_keys(sweep.run_dir.root).status
        further = [cell for cell in sweep.cells() if cell.key not in known and cell.key not in tried]
        if not further:
            break
        tried |= {cell.key for cell in further}
        outcome = outcome.followed_by(run(sweep, further))
    return sweep, outcome


def describe_decision(sweep: Sweep, decision: StoppingDecision) -> str:
    """What was decided about a loss and why, in a line."""
    target = 100 * parse_rule(sweep.until).target
    after = f"after {len(decision.seeds)} seeds"
    if decision.state == "unfinished":
        return f"{decision.loss}: not all cells of its {len(decision.seeds)} seeds are recorded; nothing is decided"
    if decision.state == "no value":
        return f"{decision.loss}: no value {after}, so further seeds would be of no use"
    if math.isnan(decision.half):
        found = f"{decision.loss}: no interval {after}"
    else:
        found = f"{decision.loss}: half-width {100 * decision.half:.2f} points {after}, "
        found += "below" if decision.state == "narrow" else "not below"
        found += f" {target:g}"
    if decision.state == "narrow":
        return f"{found}: enough"
    if decision.state == "most":
        return f"{found}, and --max-seeds is {sweep.max_seeds}: no further seed"
    return f"{found}: seed {seed_order(sweep.seeds, sweep.max_seeds)[len(decision.seeds)]} is added"


def max_added_cells(sweep: Sweep) -> int:
    """The number of cells that are added if each loss gets as many seeds as it may."""
    order = seed_order(sweep.seeds, sweep.max_seeds)
    added = with_baselines(dict.fromkeys(sweep.losses, order), sweep.objectives)
    return len(replace(sweep, grown=replace(sweep.grown, added=added)).cells()) - len(sweep.cells())


def final_lines(sweep: Sweep) -> str:
    """The seeds that each loss has used, against the same number for all; empty without --until."""
    sweep, decisions = add_seeds(sweep)
    if not decisions:
        return ""
    used, most = sum(len(decision.seeds) for decision in decisions), max(len(decision.seeds) for decision in decisions)
    lines = [
        f"--until {sweep.until!r}; intervals are of {100 * sweep.grown.level:.4g} %, to hold 95 % in spite of it:",
        *(f"  {describe_decision(sweep, decision)}" for decision in decisions),
    ]
    if len(decisions) > 1 and used < most * len(decisions):
        lines.append(
            f"  {used} seeds of a loss were used; {most} of each, as many as the widest has, would have been "
            f"{most * len(decisions)}"
        )
    return "\n".join(lines)


def _decide(
    sweep: Sweep, loss: str, order: Sequence[int], records: pd.DataFrame, known: Set[str], level: float
) -> StoppingDecision:
    until = parse_rule(sweep.until)
    start = len(set(sweep.seeds))
    # What was added is not decided again, though a record may have changed since.
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
