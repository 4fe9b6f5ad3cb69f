"""Runs a part of the GPU check in a process of its own, so that a crash, a hang or a lost GPU ends this part alone."""

import faulthandler
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pkgutil import resolve_name
from typing import Literal

from benchmarks.gpu.report import ROOT, Report, Row, Setting, fault_of, read_rows
from sweep.signals import Terminated, descendants

GRACE = 5.0
"""Seconds that a process has to end after SIGTERM."""
DUMP = 2.0
"""Seconds after the time limit in which a process writes where it hangs."""
SAID = 20
"""Lines of the end of stderr that are kept of a part that failed."""

State = Literal["done", "failed", "cut off", "skipped", "not started", "stopped"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the check."""

    function: str
    """A function (setting, report) -> None, as `package.module:function`. It is imported in the part's process."""
    seconds: float
    """Time limit; on an H200 it takes less than half of it (estimated)."""
    needs_gpu: bool = False
    """Whether it is left out without a GPU."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a part ended, and its rows."""

    part: str
    state: State
    why: str = ""
    """Why it is not done, in one line."""
    seconds: float = 0.0
    rows: Sequence[Row] = field(default_factory=list)
    stderr: Sequence[str] = field(default_factory=list)
    """The last lines that it wrote to stderr, if it failed or was cut off."""


def run_apart(part: Part, setting: Setting) -> Outcome:
    """Run a part in its own process for at most `setting.seconds`, and kill whatever is left of it.

    Ctrl-C and SIGTERM give the state `stopped`.
    """
    log = Path(setting.folder) / f"{setting.part}.log"
    words = [sys.executable, "-m", "benchmarks.gpu.apart", part.function, json.dumps(asdict(setting))]
    begun = time.monotonic()
    code: int | None = None
    state: State = "cut off"
    with log.open("wb") as errors:
        process = subprocess.Popen(words, cwd=ROOT, stderr=errors, start_new_session=True)
        try:
            code = process.wait(timeout=setting.seconds + DUMP)
        except subprocess.TimeoutExpired:
            why = f"not done after {setting.seconds:.0f} s"
        except KeyboardInterrupt as stop:
            state, why = "stopped", "SIGTERM" if isinstance(stop, Terminated) else "Ctrl-C"
        finally:
            _end(process)
    seconds, rows = time.monotonic() - begun, read_rows(setting.rows)
    said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-SAID:]
    if code is not None:
        state, why = _judged(code, rows)
    if state in ("done", "skipped"):
        said = []
    return Outcome(part=setting.part, state=state, why=why, seconds=round(seconds, 1), rows=rows, stderr=said)


def _judged(code: int, rows: Sequence[Row]) -> tuple[State, str]:
    """The state of a part whose process has ended, and why it is not done."""
    faults = [fault for row in rows if (fault := fault_of(row))]
    if code < 0:
        faults.append(f"its process was killed by {signal.Signals(-code).name}")
    elif code:
        faults.append(f"its process ended with exit code {code}")
    if not rows and not faults:
        faults.append("it reported nothing")
    if faults:
        return "failed", "; ".join(faults)
    reasons = [row.get("skipped", "") for row in rows]
    return ("skipped", reasons[0]) if all(reasons) else ("done", "")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process and everything that it started: first by SIGTERM, with which a sweep leaves Ray."""
    below = descendants(process.pid)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=GRACE)
    # Those of another session, as Ray's, are not in the group.
    for end, number in ((os.killpg, process.pid), *((os.kill, pid) for pid in below)):
        with suppress(ProcessLookupError):
            end(number, signal.SIGKILL)
    process.wait()


def main(words: Sequence[str]) -> int:
    """Run a part in this process. `words`: its function, and its setting as JSON."""
    name, text = words
    setting = Setting(**json.loads(text))
    faulthandler.enable()
    faulthandler.dump_traceback_later(setting.seconds)
    report = Report(setting)
    with report.case("the part itself"):
        run: Callable[[Setting, Report], None] = resolve_name(name)
        run(setting, report)
    faulthandler.cancel_dump_traceback_later()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
