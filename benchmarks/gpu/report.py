"""What a part of the GPU check is given, and how it reports: a row for each case, printed and written at once."""

import json
import math
import os
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets.errors import describe_error

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = tuple(f"{ROOT / name}{os.sep}" for name in ("benchmarks", "datasets", "sweep", "tests", "trainables"))

Row = dict[str, Any]
"""`case`, and its figures by name. `passed`: the result of a check; `error` and its place `at`; `skipped`: why."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What every part is given. It travels to the part's process as JSON."""

    part: str
    """The part's name."""
    folder: str
    """A folder for the files of all parts, which are removed at the end."""
    tiny: bool
    """Use small sizes, with which every part takes seconds on a CPU."""
    xbd: str = ""
    """An xBD tree; empty: make one of random pixels."""
    begun: float
    """When the check began, seconds since 1970."""
    seconds: float
    """The time limit of the part."""

    @property
    def rows(self) -> Path:
        """The file of the part's rows, a line of JSON each."""
        return Path(self.folder) / f"{self.part}.rows"


class Report:
    """The rows of a part. Each is in the file when the next one begins, so a crash loses none of the earlier ones."""

    def __init__(self, setting: Setting) -> None:
        """Report for this part."""
        self._setting = setting

    def row(self, case: str, **figures: Any) -> None:
        """Add a row. A figure that is not finite becomes text, because JSON has no such number."""
        figures = {name: value if _is_json(value) else str(value) for name, value in figures.items()}
        with self._setting.rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"case": case, **figures}) + "\n")
        passed = time.time() - self._setting.begun
        shown = "  ".join(f"{name} {_shown(value)}" for name, value in figures.items())
        print(f"[{passed:4.0f} s] {self._setting.part:<9} {case:<42} {shown}", flush=True)

    def check(self, case: str, passed: bool, **figures: Any) -> None:
        """Add a row with the result of a check."""
        self.row(case, passed=bool(passed), **figures)

    def skip(self, case: str, why: str) -> None:
        """Add a row of a case that cannot run here."""
        self.row(case, skipped=why)

    @contextmanager
    def case(self, name: str) -> Iterator[None]:
        """Context manager of a case. An error in it becomes a row, and the next case can run.

        A lack of memory is no failure: the case does not fit this machine.
        """
        try:
            yield
        except Exception as error:
            if _lacks_memory(error):
                self.skip(name, f"not enough memory: {describe_error(error)}")
                return
            self.row(
                name,
                error=f"{type(error).__name__}: {describe_error(error)}",
                at=line_of_ours(traceback.extract_tb(error.__traceback__)),
            )


def read_rows(path: Path) -> list[Row]:
    """The rows in a file; none if it is absent. A last line that was cut off is left out."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def fault_of(row: Row) -> str:
    """Why the case failed, in one line; empty if it did not."""
    if "error" in row:
        return f"{row['case']}: {row['error']} ({row['at']})"
    if row.get("passed", True):
        return ""
    rest = ", ".join(f"{name} {_shown(value)}" for name, value in row.items() if name not in ("case", "passed"))
    return f"{row['case']}: check failed" + (f" ({rest})" if rest else "")


def line_of_ours(frames: Iterable[traceback.FrameSummary]) -> str:
    """The innermost line of this project, relative to its root.

    Args:
        frames: from the outermost one on.
    """
    for frame in reversed([*frames]):
        if frame.filename.startswith(PACKAGES):
            return f"{Path(frame.filename).relative_to(ROOT)}:{frame.lineno}"
    return "elsewhere"


def _lacks_memory(error: Exception) -> bool:
    if "torch" not in sys.modules:
        return isinstance(error, MemoryError)
    from trainables.device import out_of_memory  # here, because it imports torch

    return out_of_memory(error)


def _is_json(value: object) -> bool:
    return math.isfinite(value) if isinstance(value, float) else isinstance(value, str | int | list | dict | None)


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
