"""The transcript of a test on this machine: steps and checks, as they happen."""

import time


class Transcript:
    """Prints steps and checks as they happen, and keeps the failed checks."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self.failed: list[str] = []

    def say(self, line: str) -> None:
        """Print a line with the elapsed time."""
        print(f"{time.monotonic() - self._begun:7.1f} s  {line}", flush=True)

    def check(self, what: str, passed: bool) -> None:
        """Print a check and its result."""
        self.say(f"{'ok    ' if passed else 'FAILED'}  {what}")
        if not passed:
            self.failed.append(what)
