"""`python -m sweep.status DIR`: where a sweep stands, while it runs or afterwards, from any machine that sees DIR.

It takes no lock and writes nothing. DIR may be a URI, such as s3://bucket/name.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from analysis.cli import exit_with, number_between
from analysis.errors import RecordsError
from analysis.records.remote import fetch, is_remote, normalized_address
from analysis.text import printable
from datasets.errors import InputError
from sweep.monitor import progress
from sweep.monitor.progress import Node, Progress
from sweep.monitor.snapshot import Left, Standing, standing
from sweep.storage.run_dir import Folder

MOST = 20
"""Running or failed cells that are named."""


@dataclass(frozen=True, kw_only=True)
class Prices:
    """US dollars an hour."""

    gpu: float | None = None
    core: float | None = None

    def of(self, gpus: float, cores: float) -> float | None:
        """What so many GPU hours and core hours cost, by the prices that are given; None without any."""
        if self.gpu is None and self.core is None:
            return None
        return gpus * (self.gpu or 0.0) + cores * (self.core or 0.0)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of the command line; returns its exit code: 0, 2 for a mistake, 130 for Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m sweep.status", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    price = number_between("a price", 0, 1e6)
    parser.add_argument("folder", metavar="DIR", help="a sweep's folder (its --out), or a URI such as s3://bucket/name")
    parser.add_argument("--price", type=price, metavar="USD", help="what a GPU costs an hour")
    parser.add_argument("--price-core", type=price, metavar="USD", help="what a CPU core costs an hour")
    parser.add_argument(
        "--watch",
        nargs="?",
        const=10.0,
        type=number_between("--watch", 0, 1e6),
        metavar="SECONDS",
        help="tell it again every so many seconds (10) until the sweep has ended",
    )
    parser.add_argument("--json", action="store_true", help="as one JSON object on one line")
    asked = parser.parse_args(argv)
    prices = Prices(gpu=asked.price, core=asked.price_core)
    try:
        while True:
            found, now = standing(_folder(asked.folder), progress.now()), progress.now()
            text = json.dumps(as_json(found, prices), default=str) if asked.json else render(found, prices, now)
            if asked.watch and not asked.json and sys.stdout.isatty():
                print("\x1b[2J\x1b[H", end="")  # what it said before goes
            print(printable(text), flush=True)
            if not asked.watch or found.state not in ("starting", "running"):
                return 0
            time.sleep(asked.watch)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        raise
    except (InputError, RecordsError, OSError) as error:
        print(f"sweep.status: {error}", file=sys.stderr)
        return 2


def _folder(where: str) -> Path:
    """The folder, or a copy of what lies at a URI, brought up to date."""
    if not is_remote(where):
        return Path(where)
    copy = fetch(normalized_address(where))
    if not Folder(copy).config.exists():
        raise InputError(f"{normalized_address(where)}: there is no sweep.yaml; name the --out of a sweep")
    return copy


def as_json(found: Standing, prices: Prices) -> dict[str, Any]:
    """All that is told, as plain values: times in seconds, rates in cells an hour, money in US dollars."""
    told = found.progress
    plain = asdict(found) | {
        "progress": told.model_dump(mode="json", by_alias=True) if told else None,
        "unreadable": [str(path) for path in found.unreadable],
    }
    totals = {name: found.total(name) for name in ("done", "failed", "missing", "running")}
    cost, more = _cost(found, prices)
    return plain | {"planned": found.planned} | totals | {"cost": cost, "cost_left": more}


def render(found: Standing, prices: Prices, now: datetime) -> str:
    """All that is told, as text."""
    total, told = found.total, found.progress
    lines = [
        f"{found.preset}: {total('done')} of {found.planned} cells done, {total('failed')} failed, "
        f"{total('missing')} missing",
        f"driver    {driver(found, now)}",
        "",
        *_table(found),
        "",
    ]
    if found.last_hour is not None:
        overall = "" if found.overall is None else f", {found.overall:.3g} since the beginning"
        lines.append(f"rate      {found.last_hour:.3g} cells an hour in the last hour{overall}")
    if total("missing"):
        lines.append(f"left      {left(found.left) if found.left else 'not known before the first cell is recorded'}")
    if told:
        lines += [f"machines  {machines(told.nodes)}", f"used      {used(found, prices)}"]
    if told and found.state == "running":
        lines += _listed("running", [f"{one.cell}, {span(_since(one.since, now))}" for one in told.running])
    lines += _listed("failed", [f"{cell}: {why}" for cell, why in found.failures.items()])
    lines += [f"damaged   {path}: it counts as missing, and its cell runs again" for path in found.unreadable]
    if found.beyond:
        lines.append(f"beyond    {found.beyond} recorded cells that sweep.yaml does not ask for")
    return "\n".join([*lines, *_go_on(found)])


def driver(found: Standing, now: datetime) -> str:
    """What is known of the driver, in a line."""
    if found.progress is None or found.heard is None:
        return "unknown: no command has told here what goes on (there is no progress.json)"
    who = found.progress.driver
    place = f"on {who.host} (process {who.process})"
    heard = f"heard of {span(found.heard)} ago" if found.heard > -5 else f"whose clock is {span(-found.heard)} ahead"
    began = f"since {who.began.astimezone():%Y-%m-%d %H:%M} ({span(_since(who.began, now))})"
    match found.state:
        case "starting":
            return f"gets ready {place} {began}: it reads the data and measures the machine; {heard}"
        case "running":
            return f"runs {place} {began}, {heard}"
        case "ended":
            return f"ended {place}, {span(found.heard)} ago"
    return f"was cut off {place}: not heard of for {span(found.heard)}; the same command goes on where it was"


def left(known: Left) -> str:
    """How long it takes, and how far that can be trusted."""
    guessed = f"; none of {', '.join(known.guessed)} is recorded, so that is a guess" if known.guessed else ""
    return (
        f"about {span(known.seconds)} ({span(known.low)} to {span(known.high)}) with {known.at_once} at a time, by the "
        f"seconds of {known.cells} recorded cells{guessed}"
    )


def machines(nodes: Sequence[Node]) -> str:
    """What there is, machines of one kind together."""
    kinds: Counter[str] = Counter()
    names: dict[str, list[str]] = {}
    for node in nodes:
        if node.alive:
            gpus = f", {node.gpus:g} x {node.gpu or 'GPU'}" if node.gpus else ""
            kind = f"{node.cpus:g} {'core' if node.cpus == 1 else 'cores'}{gpus}"
            kinds[kind] += 1
            names.setdefault(kind, []).append(node.name)
    there = "; ".join(
        f"{count} machine{'s' * (count > 1)} of {kind} ({_some(names[kind])})" for kind, count in kinds.items()
    )
    gone = sum(not node.alive for node in nodes)
    return (there or "none") + (f"; {gone} lost since this command began" if gone else "")


def used(found: Standing, prices: Prices) -> str:
    """Machine time while cells ran, and what it cost."""
    assert found.progress
    time_used = found.progress.used
    hours = [f"{time_used.node_seconds / 3600:.3g} machine hours", f"{time_used.core_seconds / 3600:.3g} core hours"]
    if time_used.gpu_seconds:
        hours.append(f"{time_used.gpu_seconds / 3600:.3g} GPU hours")
    cost, more = _cost(found, prices)
    money = "" if cost is None else f": {cost:.2f} USD"
    if money and more is not None:
        money += f", and about {more:.2f} USD for what is left"
    return ", ".join(hours) + " while cells ran" + money


def _cost(found: Standing, prices: Prices) -> tuple[float | None, float | None]:
    """What was used, and what will be on the machines that there are, in US dollars; None where it is not known."""
    if found.progress is None:
        return None, None
    time_used = found.progress.used
    cost = prices.of(time_used.gpu_seconds / 3600, time_used.core_seconds / 3600)
    alive = [node for node in found.progress.nodes if node.alive]
    if not found.left or not alive:
        return cost, None
    hours = found.left.seconds / 3600
    return cost, prices.of(hours * sum(node.gpus for node in alive), hours * sum(node.cpus for node in alive))


def _table(found: Standing) -> list[str]:
    lines = [f"  {'loss':<14}{'done':>8}{'failed':>8}{'missing':>9}{'running':>9}"]
    for name, count in found.losses.items():
        lines.append(f"  {name:<14}{count.done:>8}{count.failed:>8}{count.missing:>9}{count.running:>9}")
    return lines


def _listed(title: str, lines: Sequence[str]) -> list[str]:
    shown = [f"{title if not number else '':<10}{line}" for number, line in enumerate(lines[:MOST])]
    return [*shown, *([f"{'':<10}and {len(lines) - MOST} more"] if len(lines) > MOST else [])]


def _go_on(found: Standing) -> list[str]:
    told: Progress | None = found.progress
    if found.state in ("starting", "running") or found.total("missing") + found.total("failed") == 0:
        return []
    typed = told.driver.command if told else "python -m sweep.run ... (what was typed)"
    here = f" (on {told.driver.host})" if told else ""
    lines = [f"go on     {typed}{here}"] if found.total("missing") else []
    if found.total("failed"):
        again = typed if "--retry-failed" in typed.split() else f"{typed} --retry-failed"
        lines.append(f"{'' if lines else 'go on':<10}{again}: those that failed, once more")
    return lines


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _since(moment: datetime, now: datetime) -> float:
    return max(0.0, (now - moment).total_seconds())


def span(seconds: float) -> str:
    """A length of time as one would say it."""
    seconds = max(0.0, seconds)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


if __name__ == "__main__":
    exit_with(main)
