"""`python -m sweep.status DIR`: the state of a sweep, during the sweep or later, from any machine that sees DIR.

It takes no lock and writes nothing. DIR may be a URI, such as s3://bucket/name.
"""

import argparse
import json
import shlex
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from analysis.cli import exit_with, number_between, path_or_address
from analysis.errors import RecordsError
from analysis.records.remote import fetch, is_remote, normalized_address
from analysis.text import duration, printable
from datasets.errors import InputError
from sweep.cluster.slurm_job import state
from sweep.monitor.progress import MachineEntry, SlurmJob, now
from sweep.monitor.snapshot import Snapshot, take_snapshot
from sweep.monitor.time_left import TimeLeft
from sweep.storage.run_dir import RunDir

MOST_NAMED = 20
"""The most running or failed cells that are listed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of the command line; returns its exit code: 0, 2 after a mistake of the user, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m sweep.status", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folder",
        type=path_or_address,
        metavar="DIR",
        help="a sweep's folder (its --out), or a URI such as s3://bucket/name",
    )
    parser.add_argument(
        "--price",
        type=number_between("--price", 0, 1e6),
        metavar="USD",
        help="US dollars per hour of one GPU, or of a machine without a GPU",
    )
    parser.add_argument(
        "--watch",
        nargs="?",
        const=10.0,
        type=number_between("--watch", 0, 1e6),
        metavar="SECONDS",
        help="repeat every SECONDS (10) until the sweep has ended",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object on one line")
    options = parser.parse_args(argv)
    try:
        while True:
            snapshot = take_snapshot(_folder(options.folder), now())
            if options.json:
                text = json.dumps(as_json(snapshot, options.price), default=str)
            else:
                text = render(snapshot, options.price, now())
            if options.watch and not options.json and sys.stdout.isatty():
                print("\x1b[2J\x1b[H", end="")  # clears the screen
            print(printable(text), flush=True)
            if not options.watch or snapshot.state not in ("starting", "running"):
                return 0
            time.sleep(options.watch)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        raise
    except (InputError, RecordsError, OSError) as error:
        print(f"sweep.status: {error}", file=sys.stderr)
        return 2


def _folder(place: Path | str) -> Path:
    """The folder, or an up-to-date copy of the files at a URI."""
    if not is_remote(place):
        return Path(place)
    copy = fetch(normalized_address(place))
    if not RunDir(copy).config.exists():
        raise InputError(f"{normalized_address(place)}: there is no sweep.yaml; give the --out of a sweep")
    return copy


def as_json(snapshot: Snapshot, price: float | None) -> dict[str, Any]:
    """The snapshot as plain values: times in seconds, rates in cells per hour, costs in US dollars."""
    progress = snapshot.progress
    plain = asdict(snapshot) | {
        "progress": progress.model_dump(mode="json", by_alias=True) if progress else None,
        "unreadable": [str(path) for path in snapshot.unreadable],
    }
    totals = {name: snapshot.total(name) for name in ("done", "failed", "missing", "running")}
    used_cost, further_cost = _costs(snapshot, price)
    return plain | {"planned": snapshot.planned} | totals | {"cost": used_cost, "cost_left": further_cost}


def render(snapshot: Snapshot, price: float | None, now: datetime) -> str:
    """The snapshot as text."""
    total, progress = snapshot.total, snapshot.progress
    lines = [
        f"{snapshot.preset}: {total('done')} of {snapshot.planned} cells done, {total('failed')} failed, "
        f"{total('missing')} missing",
        f"driver    {describe_driver(snapshot, now)}",
        *_listing("sharing", [f"{one.host} (process {one.process})" for one in snapshot.drivers]),
        *_listing("job", [describe_job(job, now) for job in _jobs(snapshot)]),
        "",
        *_table(snapshot),
        "",
    ]
    if snapshot.last_hour is not None:
        overall = "" if snapshot.overall is None else f", {snapshot.overall:.3g} over the whole sweep"
        lines.append(f"rate      {snapshot.last_hour:.3g} cells per hour in the last hour{overall}")
    if total("missing"):
        lines.append(f"remaining {describe_time_left(snapshot.left)}")
    if progress:
        lines += [f"machines  {describe_machines(progress.nodes)}", f"used      {describe_use(snapshot, price)}"]
    if progress and snapshot.state == "running":
        lines += _listing("running", [f"{one.cell}, {duration(_since(one.since, now))}" for one in progress.running])
    lines += _listing("failed", [f"{cell}: {why}" for cell, why in snapshot.failures.items()])
    lines += _listing("collapsed", snapshot.collapsed)
    lines += [f"damaged   {path}: its cell counts as missing and runs again" for path in snapshot.unreadable]
    if snapshot.beyond:
        lines.append(f"others    {snapshot.beyond} recorded cells are not in the grid of sweep.yaml")
    return "\n".join([*lines, *_next_command(snapshot)])


def describe_driver(snapshot: Snapshot, now: datetime) -> str:
    """The driver and its state."""
    if snapshot.progress is None or snapshot.heard is None:
        return "unknown: there is no progress.json"
    driver = snapshot.progress.driver
    place = f"on {driver.host} (process {driver.process})"
    heard = (
        f"last update {duration(snapshot.heard)} ago"
        if snapshot.heard > -5
        else f"its clock is {duration(-snapshot.heard)} ahead"
    )
    began = f"since {driver.began.astimezone():%Y-%m-%d %H:%M} ({duration(_since(driver.began, now))})"
    match snapshot.state:
        case "starting":
            return f"starting {place} {began}: it reads the data and measures the machine; {heard}"
        case "running":
            return f"running {place} {began}; {heard}"
        case "ended":
            return f"ended {place} {duration(snapshot.heard)} ago"
    return f"interrupted {place}: no update for {duration(snapshot.heard)}; the same command resumes the sweep"


def describe_job(job: SlurmJob, now: datetime) -> str:
    """A Slurm job: its state as far as Slurm can be asked here, nodes and time."""
    known = state(job.id)
    left = "without a time limit" if job.ends is None else f"{duration(_since(now, job.ends))} left"
    return f"{job.id}{f' ({known})' if known else ''} on {job.nodes or 'unknown nodes'}, {left}"


def _jobs(snapshot: Snapshot) -> list[SlurmJob]:
    """The Slurm jobs of the drivers that run now."""
    if snapshot.progress is None or snapshot.state not in ("starting", "running"):
        return []
    return [one.job for one in snapshot.drivers or (snapshot.progress.driver,) if one.job]


def describe_time_left(left: TimeLeft | None) -> str:
    """The estimate, its interval and its basis."""
    if left is None:
        return "unknown until the first cell is recorded"
    guessed = f"; a guess for {', '.join(left.guessed)}, of which no cell is recorded" if left.guessed else ""
    interval = f"{duration(left.low)} to {duration(left.high)}"
    return (
        f"about {duration(left.seconds)} ({interval}) with {left.at_once} cell{'s' * (left.at_once != 1)} at a time, "
        f"estimated from {left.cells} recorded cell{'s' * (left.cells != 1)}{guessed}"
    )


def describe_machines(machines: Sequence[MachineEntry]) -> str:
    """Number, hardware and names of the machines, grouped by hardware."""
    kinds: Counter[str] = Counter()
    names: dict[str, list[str]] = {}
    for machine in machines:
        if machine.alive:
            gpus = f", {machine.gpus:g} x {machine.gpu or 'GPU'}" if machine.gpus else ""
            kind = f"{machine.cpus:g} {'core' if machine.cpus == 1 else 'cores'}{gpus}"
            kinds[kind] += 1
            names.setdefault(kind, []).append(machine.name)
    present = "; ".join(
        f"{count} machine{'s' * (count > 1)} of {kind} ({_first_names(names[kind])})" for kind, count in kinds.items()
    )
    gone = sum(not machine.alive for machine in machines)
    return (present or "none") + (f"; {gone} lost since this command began" if gone else "")


def describe_use(snapshot: Snapshot, price: float | None) -> str:
    """Machine time while cells ran, and its cost."""
    assert snapshot.progress
    time_used = snapshot.progress.used
    hours = [f"{time_used.node_seconds / 3600:.3g} machine hours", f"{time_used.core_seconds / 3600:.3g} core hours"]
    if time_used.gpu_seconds:
        hours.append(f"{time_used.gpu_seconds / 3600:.3g} GPU hours")
    used_cost, further_cost = _costs(snapshot, price)
    money = "" if used_cost is None else f": {used_cost:.2f} USD"
    if money and further_cost is not None:
        money += f", and about {further_cost:.2f} USD for the remaining cells"
    return ", ".join(hours) + " while cells ran" + money


def _costs(snapshot: Snapshot, price: float | None) -> tuple[float | None, float | None]:
    """The cost so far, and of the remaining time on the present machines, in US dollars; None if unknown."""
    if snapshot.progress is None or price is None:
        return None, None
    used, machines = snapshot.progress.used, [machine for machine in snapshot.progress.nodes if machine.alive]
    gpus = sum(machine.gpus for machine in machines)
    so_far = price * (used.gpu_seconds or used.node_seconds) / 3600
    if not snapshot.left or not machines:
        return so_far, None
    return so_far, price * (gpus or len(machines)) * snapshot.left.seconds / 3600


def _table(snapshot: Snapshot) -> list[str]:
    lines = [f"  {'loss':<14}{'done':>8}{'failed':>8}{'missing':>9}{'running':>9}"]
    for name, count in snapshot.losses.items():
        lines.append(f"  {name:<14}{count.done:>8}{count.failed:>8}{count.missing:>9}{count.running:>9}")
    return lines


def _listing(title: str, lines: Sequence[str]) -> list[str]:
    shown = [f"{title if not number else '':<10}{line}" for number, line in enumerate(lines[:MOST_NAMED])]
    return [*shown, *([f"{'':<10}and {len(lines) - MOST_NAMED} more"] if len(lines) > MOST_NAMED else [])]


def _next_command(snapshot: Snapshot) -> list[str]:
    """How to run the missing cells, if no command runs them now."""
    if snapshot.state in ("starting", "running") or snapshot.total("missing") + snapshot.total("failed") == 0:
        return []
    progress = snapshot.progress
    command = progress.driver.command if progress else "python -m sweep.run ... (the same arguments as before)"
    if snapshot.moved:  # the last --out counts
        command += f" --out {shlex.quote(str(snapshot.moved))}"
    host = f" (on {progress.driver.host})" if progress else ""
    lines = [f"resume    {command}{host}"] if snapshot.total("missing") else []
    if snapshot.total("failed"):
        retry = command if "--retry-failed" in command.split() else f"{command} --retry-failed"
        lines.append(f"retry     {retry}: runs the failed cells once more")
    return lines


def _first_names(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _since(moment: datetime, now: datetime) -> float:
    return max(0.0, (now - moment).total_seconds())


if __name__ == "__main__":
    exit_with(main)
