"""The command line as a user runs it."""

import io
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from unittest.mock import patch

from sweep.cli import main

ROOT = Path(__file__).parents[2]


def run(*words, cwd=ROOT, env=None, report=False):
    """Without the report, which takes as long as a small sweep."""
    return subprocess.run(
        [sys.executable, "-m", "sweep.run", *map(str, words), *([] if report else ["--no-report"])],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=600,
    )


def call(*words, env=None, report=False, program=main):
    """As `run`, in this process, which saves the imports: for commands that start no Ray."""
    command = [program.__module__, *map(str, words), *([] if report else ["--no-report"])]
    root, out, err = logging.getLogger(), io.StringIO(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    with patch.dict(os.environ, env or {}), warnings.catch_warnings(), redirect_stdout(out), redirect_stderr(err):
        warnings.simplefilter("ignore")  # of MLflow and SQLAlchemy, about their own code
        try:
            code = program(command[1:])
        finally:
            for handler in set(root.handlers) - set(handlers):
                root.removeHandler(handler)
                handler.close()
            root.setLevel(level)
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())


@contextmanager
def begun(*words, env=None):
    """The command as it runs, its output together in `stdout`; whatever is left of it at the end is killed."""
    with subprocess.Popen(
        [sys.executable, "-m", "sweep.run", *map(str, words), "--no-report"],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        bufsize=1,
        start_new_session=True,
        # Where the tests run in the background of a script, the shell has SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def read_until(process, text, seconds=300):
    """The lines up to the one that contains `text`; the process is killed if none comes."""
    seen = ""
    watchdog = threading.Timer(seconds, process.kill)
    watchdog.start()
    try:
        while text not in seen:
            line = process.stdout.readline()
            assert line, f"it ended without {text!r}:\n{seen}"
            seen += line
    finally:
        watchdog.cancel()
    return seen


def wait_for(condition, seconds=120, what=""):
    """Wait until `condition()` is true, and return it."""
    due = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < due, f"not within {seconds} s: {what}"
        time.sleep(0.05)
    return found


def in_session(session):
    """pid -> command line of the living processes in a session: those of a sweep that leads one, workers included."""
    found = {}
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            with suppress(OSError):
                after = (place / "stat").read_text().rsplit(")", 1)[1].split()
                if int(after[3]) == session and after[0] != "Z":
                    found[int(place.name)] = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    return found
