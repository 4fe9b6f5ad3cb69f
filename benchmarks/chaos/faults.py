"""The faults that `make chaos` injects."""

import signal
import subprocess
import time
from contextlib import suppress

from benchmarks.chaos.disturbed import Chaos, Driver, Fault, kill, when
from sweep.signals import descendants


def _kill_worker(chaos: Chaos, driver: Driver) -> bool:
    workers = driver.workers()
    return bool(workers) and kill(chaos.dice.choice(workers))


def _kill_node(chaos: Chaos, driver: Driver) -> bool:
    below, found = descendants(driver.process.pid), driver.named("raylet/raylet")
    if not found or not kill(found[0]):
        return False
    with suppress(subprocess.TimeoutExpired):
        driver.process.wait(timeout=60)
    if driver.alive():  # Ray may wait forever for a node
        kill(driver.process.pid)
    chaos.gone(driver, below)
    return True


def _kill_driver(chaos: Chaos, driver: Driver) -> bool:
    below = descendants(driver.process.pid)
    kill(driver.process.pid)
    chaos.gone(driver, below)
    return True


def _kill_group(chaos: Chaos, driver: Driver) -> bool:
    below = descendants(driver.process.pid)
    for pid in (driver.process.pid, *below):
        kill(pid)
    chaos.gone(driver, below)
    return True


def _signal(number: signal.Signals, name: str, limit: float) -> Fault:
    def fault(chaos: Chaos, driver: Driver) -> bool:
        below = descendants(driver.process.pid)
        begun = time.monotonic()
        driver.process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            driver.process.wait(timeout=60)
        chaos.tallies[name].left_late += time.monotonic() - begun > limit
        if driver.alive():
            kill(driver.process.pid)
        chaos.gone(driver, below)
        return True

    return fault


def _spoil_checkpoint(chaos: Chaos, driver: Driver) -> bool:
    newest = [max(found, key=when) for place in chaos.out.glob("checkpoints/*/") if (found := [*place.glob("*.ckpt")])]
    return chaos.spoil(chaos.one_of(newest)) and _kill_worker(chaos, driver)


def _spoil_record(chaos: Chaos, driver: Driver) -> bool:
    return chaos.spoil(chaos.one_of([*chaos.out.glob("records/*/*/*.parquet")])) and _kill_driver(chaos, driver)


def _leave_drafts(chaos: Chaos, driver: Driver) -> bool:
    (chaos.out / "records").mkdir(exist_ok=True)
    for name in (".summary.parquet.0.tmp", "records/.x.parquet.1.tmp", ".sweep.yaml.part"):
        (chaos.out / name).write_bytes(b"half of something")
    return _kill_driver(chaos, driver)


FAULTS: dict[str, Fault] = {
    "kill -9 of a worker": _kill_worker,
    "kill -9 of a worker, its newest checkpoint damaged": _spoil_checkpoint,
    "kill -9 of the driver": _kill_driver,
    "kill -9 of everything": _kill_group,
    "kill -9 of Ray's node": _kill_node,
    "SIGTERM, gone within 10 s": _signal(signal.SIGTERM, "SIGTERM, gone within 10 s", 10),
    "Ctrl-C once": _signal(signal.SIGINT, "Ctrl-C once", 60),
    "kill -9 of the driver, a record damaged": _spoil_record,
    "kill -9 of the driver, drafts left": _leave_drafts,
}
WEIGHTS = (66, 12, 7, 4, 2, 3, 2, 2, 2)
