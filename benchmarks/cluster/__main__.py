"""`make cluster-test`: a cluster of a head and two one-core nodes on this machine, as `ray up` makes it from
cluster.local.yaml; a sweep across both nodes, one of which is killed in the middle; held to what is promised.

Exit code 1 if a promise was not kept. As root, on Linux, with sshd and rsync: all runs in namespaces of its own.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from analysis.records.io import read_records
from benchmarks.chaos.disturbed import leftovers, results
from benchmarks.cluster.loopback import (
    HEAD,
    INSIDE,
    RAY,
    WORKERS,
    Machines,
    enter,
    lacking,
    processes,
    raylet,
    wait_for,
)
from sweep.signals import descendants

SWEEP = ("vts-smoke", "--seeds", "0", "1", "--no-report", "--checkpoint-every", "1")
ENGINE = ("--precision", "fp32", "--engine.layout", "channels_last", "--engine.compile", "no", "--threads", "1")
"""Given, so that nothing is measured and both sweeps round alike."""
SCALING = ("vts-quick", "--losses", "moco", "--rho", "0", "--no-report")
UP, BACK, SWEPT, DOWN = 300.0, 240.0, 1500.0, 180.0
"""Seconds that each may take at most."""


class Transcript:
    """What was done and what was held to be true, printed as it comes."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self.broken: list[str] = []

    def say(self, line: str) -> None:
        """One line with its time."""
        print(f"{time.monotonic() - self._begun:7.1f} s  {line}", flush=True)

    def promise(self, what: str, kept: bool) -> None:
        """A line of what was promised, and whether it is so."""
        self.say(f"{'kept  ' if kept else 'BROKEN'}  {what}")
        if not kept:
            self.broken.append(what)


def sweep(out: Path, *words: str) -> list[str]:
    """The command of a sweep."""
    return ["python", "-m", "sweep.run", *words, *ENGINE, "--out", str(out)]


def done(process: "subprocess.Popen[bytes]", seconds: float) -> int:
    """Its exit code; 124 if it had to be killed."""
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return 124


def cells_on(address: str) -> list[int]:
    """Processes of cells on the node at an address."""
    node, running = raylet(address), processes()
    below = descendants(node) if node else []
    return [pid for pid in below if "ray::ImplicitFunc" in running.get(pid, "") or "train_cell" in running.get(pid, "")]


def up(machines: Machines, told: Transcript) -> None:
    """`ray up`, and both nodes there."""
    code = done(machines.begin("up", RAY, "up", "-y", "--no-config-cache", str(machines.config)), UP)
    if code:
        raise RuntimeError(f"ray up failed: see {machines.place / 'up.log'}")
    told.promise("ray up makes the cluster", kept=True)
    wait_for("both nodes run", lambda: all(map(raylet, WORKERS)), UP)
    count = 'import ray; ray.init("auto"); exit(sum(node["Alive"] for node in ray.nodes()) < 3)'
    wait_for("Ray knows both nodes", lambda: done(machines.on_head("nodes", "python", "-c", count), UP) == 0, UP)
    told.say(f"nodes: head {HEAD} without cores, {' and '.join(WORKERS)} with one each")


def lose_a_node(machines: Machines, told: Transcript, steps: int) -> None:
    """A sweep across both nodes, one of which is killed and comes back; held against an undisturbed one."""
    words = (*SWEEP, "--pretrain.steps", str(steps))
    calm, out = machines.place / "undisturbed", machines.place / "out"
    told.say("an undisturbed sweep, without a cluster")
    if done(machines.begin("undisturbed", sys.executable, *sweep(calm, *words)[1:], "--workers", "2"), SWEPT):
        raise RuntimeError(f"the undisturbed sweep failed: see {machines.place / 'undisturbed.log'}")
    told.say(f"{len(read_records(calm))} cells; the same on the cluster, by ray exec and --address auto")
    running = machines.on_head("sweep", *sweep(out, *words), "--address", "auto")
    wait_for("cells run on both nodes", lambda: running.poll() is not None or all(map(cells_on, WORKERS)), UP)
    wait_for("a checkpoint", lambda: running.poll() is not None or list(out.glob("checkpoints/*/*.ckpt")), UP)
    told.promise("cells run on both nodes at once", running.poll() is None)
    lost = WORKERS[1]
    node = raylet(lost)
    assert node is not None
    os.kill(node, signal.SIGKILL)
    told.say(f"kill -9 of the node {lost} in mid-sweep")
    back = wait_for("the node is back", lambda: raylet(lost) not in (None, node) or running.poll() is not None, BACK)
    told.promise("Ray's autoscaler brings the node back while the sweep goes on", back and running.poll() is None)
    wait_for("cells on it", lambda: running.poll() is not None or cells_on(lost), SWEPT)
    told.promise("the node that came back runs cells again", running.poll() is None)
    told.promise("the sweep ends complete", done(running, SWEPT) == 0)
    lines = (machines.place / "sweep.log").read_text().splitlines()
    told.promise("it has counted the lost machine", any("machine lost" in line for line in lines))
    told.promise("its results are those of the undisturbed sweep", results(out).equals(results(calm)))
    told.promise("no draft and no checkpoint is left", not leftovers(out))


def scaling(machines: Machines, told: Transcript, steps: int, cells: int) -> None:
    """Cells a minute on one node and on two."""
    rates = []
    for count in (1, 2):
        out = machines.place / f"scaling-{count}"
        seeds = map(str, range(cells * count))
        words = (*SCALING, "--seeds", *seeds, "--pretrain.steps", str(steps), "--workers", str(count))
        if done(machines.on_head(out.name, *sweep(out, *words), "--address", "auto"), SWEPT):
            raise RuntimeError(f"the sweep on {count} nodes failed: see {out}.log")
        records = read_records(out)
        begun = records["started"].astype("datetime64[us, UTC]").astype("int64") / 1e6
        # From the first cell's end on: how long Ray takes to begin is not what is asked.
        ends = (begun + records["seconds"]).sort_values().to_list()
        rates.append(60 * (len(ends) - count) / (ends[-1] - ends[count - 1]))
        told.say(f"{count} node{'s' * (count > 1)}: {len(ends)} cells, {rates[-1]:.2f} a minute")
    told.say(f"two nodes are {rates[1] / rates[0]:.2f} times as fast as one")


def down(machines: Machines, told: Transcript, before: set[int]) -> None:
    """`ray down`, and nothing left."""
    code = done(machines.begin("down", RAY, "down", "-y", str(machines.config)), DOWN)
    told.promise("ray down ends it", code == 0)
    due = time.monotonic() + 60
    while (left := {pid: words for pid, words in processes().items() if pid not in before}) and time.monotonic() < due:
        time.sleep(0.5)
    told.promise("no process is left", not left)
    for words in list(left.values())[:5]:
        told.say(f"        left: {words[:120]}")


def inside(options: argparse.Namespace) -> int:
    """What runs in the namespaces."""
    told = Transcript()
    # A short name, for the names of Ray's sockets are longer than this and have an end.
    place = options.folder or Path(tempfile.mkdtemp(prefix="np-", dir="/tmp"))
    place.mkdir(parents=True, exist_ok=True)
    machines = Machines(place.resolve())
    try:
        machines.write_config()
        sshd = machines.listen()
        before = {*processes()}
        try:
            up(machines, told)
            if options.scaling:
                scaling(machines, told, options.steps or 400, options.cells)
            else:
                lose_a_node(machines, told, options.steps or 1500)
        except (TimeoutError, RuntimeError) as error:
            told.promise(str(error), kept=False)
        finally:
            down(machines, told, before)
            sshd.terminate()
            sshd.wait()
    finally:
        if options.folder is None and not told.broken:
            shutil.rmtree(place, ignore_errors=True)
    told.say(f"{len(told.broken)} promises broken; see the logs in {place}" if told.broken else "as promised")
    return 1 if told.broken else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the cluster, disturb it, take it down; 0 if all promises were kept, 2 if something is missing here."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    parser.add_argument("--scaling", action="store_true", help="measure two nodes against one instead")
    parser.add_argument("--steps", type=int, help="of pretraining a cell (default: 1500 small ones, 400 for --scaling)")
    parser.add_argument("--cells", type=int, default=4, help="a node, for --scaling (default: %(default)s)")
    parser.add_argument(
        "--folder", type=Path, help="keep everything here (a short name), not in a folder that is removed"
    )
    options = parser.parse_args(arguments)
    if os.environ.get(INSIDE):
        return inside(options)
    if missing := lacking():
        print(f"cluster-test: {missing}", file=sys.stderr)
        return 2
    return enter(["-m", "benchmarks.cluster", *(sys.argv[1:] if arguments is None else arguments)])


if __name__ == "__main__":
    sys.exit(main())
