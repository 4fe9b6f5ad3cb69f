"""`make slurm-test`: run a sweep by each script of `sweep.slurm` on a Slurm of this machine, and disturb it.

A job is preempted, and ended by the signal before its time limit; tasks of an array are cancelled. The results must be
those of an undisturbed sweep each time. The exit code is 1 if a check failed, 2 if something is missing here.
"""

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from analysis.records.io import read_records, recorded_keys
from benchmarks.chaos.__main__ import duplicates
from benchmarks.chaos.disturbed import leftovers, results
from benchmarks.slurm.controller import NODES, Slurm, lacking, wait_for
from benchmarks.transcript import Transcript

SWEEP = ("vts-smoke", "--no-report", "--checkpoint-every", "1", "--losses", "moco", "random")
ENGINE = ("--precision", "fp32", "--engine.layout", "channels_last", "--engine.compile", "no", "--threads", "1")
"""A fixed engine, so that nothing is measured and all sweeps round in the same way."""
LONG = 1800.0
"""Time limit of a sweep in seconds, on a busy machine."""
PARTS = ("refusals", "one_node", "array", "several_nodes", "scaling")
"""All are run by default, except for the last."""
ALIVE = ("PENDING", "RUNNING")
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")


class Test:
    """The undisturbed sweep, and those by Slurm."""

    def __init__(self, place: Path, log: Transcript, slurm: Slurm, options: argparse.Namespace) -> None:
        """Run the undisturbed sweep."""
        self.place, self.log, self.slurm = place, log, slurm
        seeds = map(str, range(options.seeds))
        self.words = (*SWEEP, *ENGINE, "--seeds", *seeds, "--pretrain.steps", str(options.steps))
        if options.inline:
            self.words += ("--inline",)
        self.inline = options.inline
        calm = place / "undisturbed"
        log.say("an undisturbed sweep, without Slurm")
        command = [sys.executable, "-m", "sweep.run", *self.words, "--out", str(calm)]
        with (place / "undisturbed.log").open("wb") as file:
            if subprocess.run(command, stdout=file, stderr=file).returncode:
                raise RuntimeError(f"the undisturbed sweep failed: see {file.name}")
        self.calm = results(calm)
        log.say(f"{len(self.calm)} cells")

    def submit(self, name: str, *options: str) -> str:
        """Submit a sweep in the folder of this name; returns the number of its job."""
        command = [sys.executable, "-m", "sweep.slurm", *self.words, "--out", str(self.place / name), "--submit", "--"]
        done = subprocess.run([*command, *options], env=self.slurm.environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"sweep.slurm: {done.stderr.strip()}")
        job = next(line.split()[1] for line in done.stdout.splitlines() if line.startswith("job "))
        self.log.say(f"job {job}: {name}, sbatch {' '.join(options)}")
        return job

    def checkpoint(self, name: str, *, least: int = 1) -> None:
        """Wait until cells of a sweep have written checkpoints since this call."""
        now, folder = time.time(), self.place / name / "checkpoints"

        def written() -> int:
            return len({path.parent for path in folder.glob("*/*.ckpt") if modified(path) > now})

        wait_for(f"a checkpoint in {name}", lambda: written() >= least, LONG)

    def end(self, *jobs: str) -> list[str]:
        """Wait for the end of jobs; returns their states."""
        wait_for(f"the end of {', '.join(jobs)}", lambda: all(self.slurm.state(job) in ENDED for job in jobs), LONG)
        return [self.slurm.state(job) for job in jobs]

    def compare(self, name: str) -> None:
        """Check that a sweep has the results of the undisturbed one, each cell once, and left nothing."""
        out = self.place / name
        self.log.check("the records are those of the undisturbed sweep", results(out).equals(self.calm))
        self.log.check("the summary has all of them", len(read_records(out / "summary.parquet")) == len(self.calm))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.log.check("MLflow has each cell once", duplicates(out) == 0)
        left = [*leftovers(out), *(str(path) for path in (out / ".shards", out / ".lock") if path.exists())]
        self.log.check(f"no leases, drafts or checkpoints are left{': ' + ', '.join(left) if left else ''}", not left)

    def one_node(self) -> None:
        """A job on one node: preempted, then ended before its time limit."""
        job = self.submit("one-node", "--partition=main", "--cpus-per-task=2", "--time=60")
        self.checkpoint("one-node")
        urgent = ("--partition=urgent", "--nodelist=first", "--cpus-per-task=2", "--output=/dev/null")
        self.slurm.ask("sbatch", *urgent, "--wrap=sleep 5")
        wait_for("the job is preempted", lambda: self.slurm.restarts(job) == 1, 120)
        self.log.check("a job of a higher partition preempts it, and Slurm puts it back", passed=True)
        wait_for("it runs again", lambda: self.slurm.state(job) == "RUNNING", 300)
        before = self.recorded("one-node")
        self.checkpoint("one-node")
        # What --signal=B:TERM@120 does, two minutes before the time limit.
        self.slurm.ask("scancel", "--batch", "--signal=TERM", job)
        wait_for("it is put back", lambda: self.slurm.restarts(job) == 2, 120)
        self.log.check("the signal before the time limit ends it, and the script puts it back", passed=True)
        self.log.say(f"{before} cells were recorded before the signal")
        self.log.check("put back, it ends complete", self.end(job) == ["COMPLETED"])
        self.compare("one-node")

    def array(self, cancels: int, dice: random.Random) -> None:
        """An array of two commands in one folder. Tasks are cancelled at random, and others begun in their places."""
        options = ("--cpus-per-task=1", "--partition=main", "--time=60")
        job = self.submit("array", "--array=1-2", *options)
        tasks = [f"{job}_1", f"{job}_2"]
        self.checkpoint("array", least=2)
        self.log.check("two commands in one folder have a cell each at the same time", passed=True)
        for number in sorted(dice.choices(range(len(self.calm) - 1), k=cancels)):
            wait_for(f"{number} cells in the array", partial(self.has, "array", number), LONG)
            time.sleep(dice.uniform(0, 5))  # anywhere in a cell
            task = dice.choice([task for task in tasks if self.slurm.state(task) in ALIVE] or tasks)
            self.slurm.ask("scancel", task)
            self.log.say(f"scancel {task}, with {self.recorded('array')} cells recorded")
            self.end(task)
            tasks[tasks.index(task)] = f"{self.submit('array', '--array=1', *options)}_1"
        self.end(*tasks)
        self.log.say(f"{cancels} tasks were cancelled")
        self.compare("array")

    def recorded(self, name: str) -> int:
        """The number of recorded cells of a sweep."""
        return len(recorded_keys(self.place / name).status)

    def has(self, name: str, number: int) -> bool:
        """Whether a sweep has recorded as many cells."""
        return self.recorded(name) >= number

    def several_nodes(self) -> None:
        """A job on two nodes, with one Ray."""
        job = self.submit("two-nodes", "--nodes=2", "--cpus-per-task=1", "--partition=main", "--time=60")
        self.log.check("a job with one Ray on two nodes ends complete", self.end(job) == ["COMPLETED"])
        self.compare("two-nodes")

    def scaling(self) -> None:
        """Compare the cells per minute of an array of one command with those of two."""
        rates = []
        for count in (1, 2):
            name = f"scaling-{count}"
            job = self.submit(name, f"--array=1-{count}", "--cpus-per-task=1", "--partition=main", "--time=120")
            self.end(*(f"{job}_{task}" for task in range(1, count + 1)))
            records = read_records(self.place / name)
            begun = records["started"].astype("datetime64[us, UTC]").astype("int64") / 1e6
            ends = (begun + records["seconds"]).sort_values().to_list()
            # From the end of the first cells to the start of the last ones, in which all commands have cells.
            since, until = ends[count - 1], begun.sort_values().to_list()[-count]
            inside = sum(since < end <= until for end in ends)
            rates.append(60 * inside / (until - since))
            overlap = (begun + records["seconds"]).clip(upper=until) - begun.clip(lower=since)
            busy = overlap.clip(lower=0).sum() / (count * (until - since))
            self.log.say(f"{count} at a time: {rates[-1]:.2f} cells a minute; cells run {100 * busy:.1f} % of the time")
        self.log.say(f"two commands in one folder are {rates[1] / rates[0]:.2f} times as fast as one")

    def refusals(self) -> None:
        """What is refused before anything runs."""
        base = [sys.executable, "-m", "sweep.slurm", *self.words, "--out", str(self.place / "refused"), "--"]
        for options, said in (
            (["--partition=nowhere"], "its partitions: main, urgent"),
            (["--nodes=9"], "sbatch refuses --nodes=9"),
            (["--cpus-per-task=1", "--signal=USR1"], "the script needs B:TERM@SECONDS"),
        ):
            done = subprocess.run([*base, *options], env=self.slurm.environment, capture_output=True, text=True)
            right = done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1
            self.log.check(f"refused in one line: {done.stderr.strip()}", right)


def modified(path: Path) -> float:
    """When a file was written; 0 if it is there no longer."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the test; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.slurm", description=__doc__)
    parser.add_argument("--steps", type=int, default=400, help="pretraining steps of a cell (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=1, help="seeds of the sweep (default: %(default)s)")
    parser.add_argument("--cancels", type=int, default=1, help="tasks of the array to cancel (default: %(default)s)")
    parser.add_argument("--inline", action="store_true", help="run cells without Ray; leaves out the two nodes")
    parser.add_argument("--only", choices=PARTS, help="one part")
    parser.add_argument("--folder", type=Path, help="keep all files here (default: a temporary folder)")
    options = parser.parse_args(arguments)
    if missing := lacking():
        print(f"slurm-test: {missing}", file=sys.stderr)
        return 2
    log = Transcript()
    place = (options.folder or Path(tempfile.mkdtemp(prefix="np-", dir="/tmp"))).resolve()
    place.mkdir(parents=True, exist_ok=True)
    daemons = place / "slurm"
    shutil.rmtree(daemons, ignore_errors=True)
    daemons.mkdir()
    try:
        with Slurm(daemons) as slurm:
            log.say(f"{slurm.ask('sinfo', '-V')} runs on this machine, with {len(NODES)} nodes")
            test = Test(place, log, slurm, options)
            for name in [options.only] if options.only else PARTS[:-1]:
                if name == "array":
                    test.array(options.cancels, random.Random(0))
                elif not (name == "several_nodes" and options.inline):
                    getattr(test, name)()
    except (TimeoutError, RuntimeError) as error:
        log.check(str(error), passed=False)
    if options.folder is None and not log.failed:
        shutil.rmtree(place, ignore_errors=True)
    log.say(f"{len(log.failed)} checks failed; see {place}" if log.failed else "all checks passed")
    return 1 if log.failed else 0


if __name__ == "__main__":
    sys.exit(main())
