"""`make chaos`: disturb a small sweep at random, and check that nothing is lost.

Each round runs one sweep and injects random faults. Then the sweep finishes undisturbed, and its results are compared
with those of a sweep without faults. The exit code is 1 if a check failed.
"""

import argparse
import random
import sys
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analysis.records.io import read_records
from benchmarks.chaos.disturbed import Chaos, Tally, leftovers, results
from benchmarks.chaos.faults import FAULTS, WEIGHTS

A_ROUND = 40
"""Largest number of faults in a round."""


def duplicates(out: Path) -> int:
    """How far the number of runs in MLflow is from that expected, one per cell and one for the sweep."""
    from mlflow.tracking import MlflowClient

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = MlflowClient(f"sqlite:///{out / 'mlflow.db'}")
        found = [run for e in client.search_experiments() for run in client.search_runs([e.experiment_id])]
    return abs(len(found) - 1 - len(read_records(out)))


def one_round(chaos: Chaos, left: int, dice: random.Random, reference: pd.DataFrame) -> list[str]:
    """Disturb one sweep until it ends; returns the failed checks as text."""
    for _ in range(min(left, A_ROUND)):
        driver = chaos.running()
        young = max(0.0, 10 - (time.monotonic() - driver.begun))
        time.sleep(young * dice.random() + dice.uniform(0.2, 3.0))
        if not driver.alive() and driver.process.returncode == 0:
            break
        name = dice.choices(list(FAULTS), WEIGHTS)[0]
        chaos.inject(name, FAULTS[name])
    wrong = [] if chaos.end() else ["the sweep was not completed"]
    if not wrong and not results(chaos.out).equals(reference):
        wrong.append("results differ")
    if chaos.again:
        wrong.append(f"{chaos.again} finished cells were run again")
    if count := chaos.outlived():
        wrong.append(f"{count} processes outlived their driver")
    if count := duplicates(chaos.out):
        wrong.append(f"{count} runs too many or too few in MLflow")
    return [*wrong, *(f"left behind: {name}" for name in leftovers(chaos.out))]


def main(arguments: Sequence[str] | None = None) -> int:
    """Disturb sweeps until enough faults were injected, and print the table. The exit code is 1 if a check failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--faults", type=int, default=200, help="number of faults (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="keep all files here (default: a temporary folder)")
    options = parser.parse_args(arguments)
    dice, tallies = random.Random(options.seed), defaultdict[str, Tally](Tally)
    with tempfile.TemporaryDirectory(prefix="chaos-") as spare:
        place = options.folder or Path(spare)
        place.mkdir(parents=True, exist_ok=True)
        calm = Chaos(place / "undisturbed", dice, tallies)
        if not calm.end():
            print("the undisturbed sweep failed: see", calm.out.with_suffix(".log"))
            return 1
        reference, rounds, bad = results(calm.out), 0, 0
        while (done := sum(tally.injected for tally in tallies.values())) < options.faults:
            rounds += 1
            wrong = one_round(Chaos(place / f"round-{rounds}", dice, tallies), options.faults - done, dice, reference)
            bad += bool(wrong)
            print(f"round {rounds}: {'; '.join(wrong) or 'same as undisturbed'}", flush=True)
    print(f"\n{'fault':<52}{'times':>6}{'late':>6}{'work repeated, s (mean, max)':>32}")
    for name in FAULTS:
        tally = tallies[name]
        lost = f"{sum(tally.lost) / len(tally.lost):.1f}, {max(tally.lost):.1f}" if tally.lost else "-"
        print(f"{name:<52}{tally.injected:>6}{tally.left_late:>6}{lost:>32}")
    late = sum(tally.left_late for tally in tallies.values())
    print(f"\n{done} faults in {rounds} rounds of {len(reference)} cells; {rounds - bad} rounds same as undisturbed")
    return 1 if bad or late else 0


if __name__ == "__main__":
    sys.exit(main())
