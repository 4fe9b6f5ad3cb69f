"""The command line as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(*words, cwd=ROOT, env=None, report=False):
    """Without the report, which takes as long as a small sweep."""
    return subprocess.run(
        [sys.executable, "-m", "sweep.run", *map(str, words), *([] if report else ["--no-report"])],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=300,
    )
