"""`make cluster-test`: run a sweep on a cluster of a head and two one-core nodes on this machine, and kill a node.

`ray up` starts the cluster from cluster.local.yaml. The results must be those of an undisturbed sweep. The exit code is
1 if a check failed. It needs root, Linux, sshd and rsync; everything runs in separate namespaces.
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
from benchmarks.transcript import Transcript
from sweep.signals import descendants

SWEEP = ("vts-smoke", "--seeds", "0", "1", "--no-report", "--checkpoint-every", "1")
ENGINE = ("--precision", "fp32", "--engine.layout", "channels_last", "--engine.compile", "no", "--threads", "1")
"""A fixed engine, so that nothing is measured and both sweeps round in the same way."""
SCALING = ("vts-quick", "--losses", "moco", "--rho", "0", "--no-report")
UP, BACK, SWEPT, DOWN = 300.0, 240.0, 1500.0, 180.0
"""Time limits in seconds."""


def sweep(out: Path, *words: str) -> list[str]:
    """The command of a sweep."""
    return ["python", "-m", "sweep.run", *words, *ENGINE, "--out", str(out)]


def done(process: "subprocess.Popen[bytes]", seconds: float) -> int:
    """The exit code of the process; 124 if it exceeded the time limit and was killed."""
    try:
        return process.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return 124


def cells_on(address: str) -> list[int]:
    """The processes of cells on the node at an address."""
    node, running = raylet(address), processes()
    below = descendants(node) if node else []
    return [pid for pid in below if "ray::ImplicitFunc" in running.get(pid, "") or "train_cell" in running.get(pid, "")]


def up(machines: Machines, log: Transcript) -> None:
    """Run `ray up` and wait for both nodes."""
    code = done(machines.begin("up", RAY, "up", "-y", "--no-config-cache", str(machines.config)), UP)
    if code:
        raise RuntimeError(f"ray up failed: see {machines.place / 'up.log'}")
    log.check("ray up starts the cluster", passed=True)
    wait_for("both nodes run", lambda: all(map(raylet, WORKERS)), UP)
    count = 'import ray; ray.init("auto"); exit(sum(node["Alive"] for node in ray.nodes()) < 3)'
    wait_for("Ray knows both nodes", lambda: done(machines.on_head("nodes", "python", "-c", count), UP) == 0, UP)
    log.say(f"nodes: head {HEAD} without cores, {' and '.join(WORKERS)} with one each")


def lose_a_node(machines: Machines, log: Transcript, steps: int) -> None:
    """Run a sweep on both nodes, kill one, which Ray restarts, and compare with an undisturbed sweep."""
    words = (*SWEEP, "--pretrain.steps", str(steps))
    calm, out = machines.place / "undisturbed", machines.place / "out"
    log.say("an undisturbed sweep, without a cluster")
    if done(machines.begin("undisturbed", sys.executable, *sweep(calm, *words)[1:], "--workers", "2"), SWEPT):
        raise RuntimeError(f"the undisturbed sweep failed: see {machines.place / 'undisturbed.log'}")
    log.say(f"{len(read_records(calm))} cells; the same on the cluster, by ray exec and --address auto")
    running = machines.on_head("sweep", *sweep(out, *words), "--address", "auto")
    wait_for("cells run on both nodes", lambda: running.poll() is not None or all(map(cells_on, WORKERS)), UP)
    wait_for("a checkpoint", lambda: running.poll() is not None or list(out.glob("checkpoints/*/*.ckpt")), UP)
    log.check("cells run on both nodes at the same time", running.poll() is None)
    lost = WORKERS[1]
    node = raylet(lost)
    assert node is not None
    os.kill(node, signal.SIGKILL)
    log.say(f"kill -9 of the node {lost} during the sweep")
    back = wait_for("the node is back", lambda: raylet(lost) not in (None, node) or running.poll() is not None, BACK)
    log.check("Ray's autoscaler restarts the node while the sweep continues", back and running.poll() is None)
    wait_for("cells on it", lambda: running.poll() is not None or cells_on(lost), SWEPT)
    log.check("the restarted node runs cells again", running.poll() is None)
    log.check("the sweep is complete", done(running, SWEPT) == 0)
    lines = (machines.place / "sweep.log").read_text().splitlines()
    log.check("it counted the lost machine", any("machine lost" in line for line in lines))
    log.check("its results are equal to those of the undisturbed sweep", results(out).equals(results(calm)))
    log.check("no drafts and no checkpoints are left", not leftovers(out))


def scaling(machines: Machines, log: Transcript, steps: int, cells: int) -> None:
    """Measure cells per minute on one node and on two."""
    rates = []
    for count in (1, 2):
        out = machines.place / f"scaling-{count}"
        seeds = map(str, range(cells * count))
        words = (*SCALING, "--seeds", *seeds, "--pretrain.steps", str(steps), "--workers", str(count))
        if done(machines.on_head(out.name, *sweep(out, *words), "--address", "auto"), SWEPT):
            raise RuntimeError(f"the sweep on {count} nodes failed: see {out}.log")
        records = read_records(out)
        begun = records["started"].astype("datetime64[us, UTC]").astype("int64") / 1e6
        # From the end of the first cells on, to exclude Ray's start.
        ends = (begun + records["seconds"]).sort_values().to_list()
        rates.append(60 * (len(ends) - count) / (ends[-1] - ends[count - 1]))
        log.say(f"{count} node{'s' * (count > 1)}: {len(ends)} cells, {rates[-1]:.2f} per minute")
    log.say(f"two nodes are {rates[1] / rates[0]:.2f} times as fast as one")


def down(machines: Machines, log: Transcript, before: set[int]) -> None:
    """Run `ray down` and check that no process is left."""
    code = done(machines.begin("down", RAY, "down", "-y", str(machines.config)), DOWN)
    log.check("ray down stops the cluster", code == 0)
    due = time.monotonic() + 60
    while (left := {pid: words for pid, words in processes().items() if pid not in before}) and time.monotonic() < due:
        time.sleep(0.5)
    log.check("no process is left", not left)
    for words in list(left.values())[:5]:
        log.say(f"        left: {words[:120]}")


def inside(options: argparse.Namespace) -> int:
    """The part that runs in the namespaces."""
    log = Transcript()
    # A short name, because the paths of Ray's sockets have a maximum length.
    place = options.folder or Path(tempfile.mkdtemp(prefix="np-", dir="/tmp"))
    place.mkdir(parents=True, exist_ok=True)
    machines = Machines(place.resolve())
    try:
        machines.write_config()
        sshd = machines.listen()
        before = {*processes()}
        try:
            up(machines, log)
            if options.scaling:
                scaling(machines, log, options.steps or 400, options.cells)
            else:
                lose_a_node(machines, log, options.steps or 1500)
        except (TimeoutError, RuntimeError) as error:
            log.check(str(error), passed=False)
        finally:
            down(machines, log, before)
            sshd.terminate()
            sshd.wait()
    finally:
        if options.folder is None and not log.failed:
            shutil.rmtree(place, ignore_errors=True)
    log.say(f"{len(log.failed)} checks failed; see the logs in {place}" if log.failed else "all checks passed")
    return 1 if log.failed else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the test. The exit code is 0 if all checks passed, 1 if one failed, 2 if something is missing here."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    parser.add_argument("--scaling", action="store_true", help="compare the speed of two nodes with one instead")
    parser.add_argument(
        "--steps", type=int, help="pretraining steps per cell (default: 1500 small ones, 400 for --scaling)"
    )
    parser.add_argument("--cells", type=int, default=4, help="cells per node for --scaling (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="keep all files here, a short path (default: a temporary folder)")
    options = parser.parse_args(arguments)
    if os.environ.get(INSIDE):
        return inside(options)
    if missing := lacking():
        print(f"cluster-test: {missing}", file=sys.stderr)
        return 2
    return enter(["-m", "benchmarks.cluster", *(sys.argv[1:] if arguments is None else arguments)])


if __name__ == "__main__":
    sys.exit(main())
