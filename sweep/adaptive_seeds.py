"""A sweep that grows: losses whose interval is too wide get further seeds (`--until`)."""

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


def grown(sweep: Sweep) -> tuple[Sweep, list[StoppingDecision]]:
    """The sweep with the seeds that the records ask for, and what the last look at each loss has shown.

    Where a loss still misses records of the seeds it has, nothing is decided of it. Seeds that were added before stay,
    whatever the condition is now. With --retry-failed, and without --until, it is the sweep as it was.
    """
    if not sweep.until or sweep.retry_failed:
        return sweep, []
    level = max(sweep.grown.level, level_for(sweep.seeds, sweep.max_seeds))
    order = sequence(sweep.seeds, sweep.max_seeds)
    known = recorded_keys(sweep.root).status
    records = read_records(sweep.root) if known else pd.DataFrame()
    looks = [_look(sweep, loss, order, records, known.keys(), level) for loss in sweep.losses]
    first = set(sweep.seeds)
    added = {}
    for seen in looks:
        further = order[len(seen.seeds) : len(seen.seeds) + 1] if seen.state == "wide" else ()
        before = sweep.grown.added.get(seen.loss, ())
        added[seen.loss] = tuple(dict.fromkeys((*before, *(s for s in (*seen.seeds, *further) if s not in first))))
    return replace(sweep, grown=Grown(added=with_baselines(added, sweep.objectives), level=level)), looks


def run_growing(
    sweep: Sweep, missing: Sequence[Cell], run: Run, claim: Callable[[Sweep], None]
) -> tuple[Sweep, Outcome]:
    """Run the missing cells, and then those of the seeds that the records ask for, until they ask for none.

    `claim` writes down what is planned before it is run. A cell that gives no record is not tried again, and its loss
    gets no further seed in this command.
    """
    outcome, tried = run(sweep, missing), {cell.key for cell in missing}
    said: set[str] = set()
    while sweep.until and not sweep.retry_failed and not outcome.stop and not outcome.unwritable:
        sweep, looks = grown(sweep)
        claim(sweep)
        lines = [in_words(sweep, seen) for seen in looks]
        print("\n".join(line for line in lines if line not in said), flush=True)
        said.update(lines)
        known = recorded_keys(sweep.root).status
        further = [cell for cell in sweep.cells() if cell.key not in known and cell.key not in tried]
        if not further:
            break
        tried |= {cell.key for cell in further}
        outcome = outcome.followed_by(run(sweep, further))
    return sweep, outcome


def in_words(sweep: Sweep, seen: StoppingDecision) -> str:
    """What a look has shown and what follows, in a line."""
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


def most_further(sweep: Sweep) -> int:
    """How many cells more there would be if each loss got as many seeds as it may."""
    order = sequence(sweep.seeds, sweep.max_seeds)
    added = with_baselines(dict.fromkeys(sweep.losses, order), sweep.objectives)
    return len(replace(sweep, grown=replace(sweep.grown, added=added)).cells()) - len(sweep.cells())


def in_the_end(sweep: Sweep) -> str:
    """The seeds each loss has used, and what the same number for all would have taken; empty without --until."""
    sweep, looks = grown(sweep)
    if not looks:
        return ""
    used, most = sum(len(seen.seeds) for seen in looks), max(len(seen.seeds) for seen in looks)
    lines = [
        f"--until {sweep.until!r}; intervals are of {100 * sweep.grown.level:.4g} %, to hold 95 % in spite of it:",
        *(f"  {in_words(sweep, seen)}" for seen in looks),
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
