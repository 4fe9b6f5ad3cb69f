"""`--until`: adds seeds to a loss until its confidence interval is narrow enough."""

import math
from collections.abc import Callable, Sequence, Set
from dataclasses import replace

import pandas as pd

from analysis.records.io import read_records, recorded_keys
from analysis.stats.seed_stopping import StoppingDecision, decide_stopping, monitored_interval
from sweep.config.stopping_rule import Grown, level_for, parse, sequence, with_baselines
from sweep.config.sweep import Sweep
from sweep.tune.outcome import Outcome
from trainables.cell import Cell

Run = Callable[[Sweep, Sequence[Cell]], Outcome]


def add_seeds(sweep: Sweep) -> tuple[Sweep, list[StoppingDecision]]:
    """The sweep with the seeds that its records ask for, and the last look at each loss.

    While records of a loss are missing, nothing is decided about it. Seeds that were added before stay, whatever the
    condition is now. With --retry-failed, and without --until, the sweep is returned unchanged.
    """
    if not sweep.until or sweep.retry_failed:
        return sweep, []
    level = max(sweep.grown.level, level_for(sweep.seeds, sweep.max_seeds))
    order = sequence(sweep.seeds, sweep.max_seeds)
    known = recorded_keys(sweep.run_dir.root).status
    records = read_records(sweep.run_dir.root) if known else pd.DataFrame()
    looks = [_look(sweep, loss, order, records, known.keys(), level) for loss in sweep.losses]
    first = set(sweep.seeds)
    added = {}
    for seen in looks:
        further = order[len(seen.seeds) : len(seen.seeds) + 1] if seen.state == "wide" else ()
        before = sweep.grown.added.get(seen.loss, ())
        added[seen.loss] = tuple(dict.fromkeys((*before, *(s for s in (*seen.seeds, *further) if s not in first))))
    return replace(sweep, grown=Grown(added=with_baselines(added, sweep.objectives), level=level)), looks


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
        sweep, looks = add_seeds(sweep)
        claim(sweep)
        lines = [describe_look(sweep, seen) for seen in looks]
        print("\n".join(line for line in lines if line not in said), flush=True)
        said.update(lines)
        known = recorded_keys(sweep.run_dir.root).status
        further = [cell for cell in sweep.cells() if cell.key not in known and cell.key not in tried]
        if not further:
            break
        tried |= {cell.key for cell in further}
        outcome = outcome.followed_by(run(sweep, further))
    return sweep, outcome


def describe_look(sweep: Sweep, seen: StoppingDecision) -> str:
    """The result of a look, and what follows from it, in a line."""
    target = 100 * parse(sweep.until).target
    after = f"after {len(seen.seeds)} seeds"
    if seen.state == "unfinished":
        return f"{seen.loss}: not all cells of its {len(seen.seeds)} seeds are recorded; nothing is decided"
    if seen.state == "no value":
        return f"{seen.loss}: no value {after}, so further seeds would be of no use"
    if math.isnan(seen.half):
        found = f"{seen.loss}: no interval {after}"
    else:
        found = f"{seen.loss}: half-width {100 * seen.half:.2f} points {after}, "
        found += "below" if seen.state == "narrow" else "not below"
        found += f" {target:g}"
    if seen.state == "narrow":
        return f"{found}: enough"
    if seen.state == "most":
        return f"{found}, and --max-seeds is {sweep.max_seeds}: no further seed"
    return f"{found}: seed {sequence(sweep.seeds, sweep.max_seeds)[len(seen.seeds)]} is added"


def max_added_cells(sweep: Sweep) -> int:
    """The number of cells that are added if each loss gets as many seeds as it may."""
    order = sequence(sweep.seeds, sweep.max_seeds)
    added = with_baselines(dict.fromkeys(sweep.losses, order), sweep.objectives)
    return len(replace(sweep, grown=replace(sweep.grown, added=added)).cells()) - len(sweep.cells())


def final_lines(sweep: Sweep) -> str:
    """The seeds that each loss has used, against the same number for all; empty without --until."""
    sweep, looks = add_seeds(sweep)
    if not looks:
        return ""
    used, most = sum(len(seen.seeds) for seen in looks), max(len(seen.seeds) for seen in looks)
    lines = [
        f"--until {sweep.until!r}; intervals are of {100 * sweep.grown.level:.4g} %, to hold 95 % in spite of it:",
        *(f"  {describe_look(sweep, seen)}" for seen in looks),
    ]
    if len(looks) > 1 and used < most * len(looks):
        lines.append(
            f"  {used} seeds of a loss were used; {most} of each, as many as the widest has, would have been "
            f"{most * len(looks)}"
        )
    return "\n".join(lines)


def _look(
    sweep: Sweep, loss: str, order: Sequence[int], records: pd.DataFrame, known: Set[str], level: float
) -> StoppingDecision:
    until = parse(sweep.until)
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
