"""Commands as a user runs them: tests marked gpu, a short sweep with Ray, and the same with --inline."""

import re
import subprocess
import sys
import time
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

from analysis.records.io import read_records
from benchmarks.chaos.disturbed import results
from benchmarks.gpu.report import ROOT, Report, Setting

SWEEP = ("vts-smoke", "--engine.deterministic", "--no-report")
FEW = ("--losses", "moco", "random", "--rho", "0")
"""Two cells."""


def tests(setting: Setting, report: Report) -> None:
    """Run the tests that need a GPU, in the files that have some: others may need packages that are absent."""
    if find_spec("pytest") is None:
        report.skip("tests", "pytest is not installed")
        return
    files = [str(path) for path in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in path.read_text()]
    words = [sys.executable, "-m", "pytest", "-q", "-rA", "-m", "gpu", "-p", "no:cacheprovider", *files]
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout, file=sys.stderr)  # its end is kept if a test fails
    found = results_of(done.stdout)
    for name, result, why in found:
        if result == "SKIPPED":
            report.skip(name, why)
        else:
            report.check(name, result == "PASSED", **({"why": why} if why else {}))
    report.check("pytest", done.returncode == 0 and bool(found), exit_code=done.returncode)


def results_of(output: str) -> list[tuple[str, str, str]]:
    """The test, its result, and the reason, from what `pytest -rA` prints."""
    lines = re.findall(r"^(PASSED|FAILED|ERROR|SKIPPED) (?:\[\d+\] )?(\S+?)(?: - (.*)|: (.*))?$", output, re.MULTILINE)
    return [(name.rpartition("/")[2], result, why or reason) for result, name, why, reason in lines]


def ray(setting: Setting, report: Report) -> None:
    """Run a short sweep with Ray."""
    if find_spec("ray") is None:
        report.skip("sweep with Ray", "Ray is not installed")
        return
    sweep("sweep with Ray", setting, report, out=Path(setting.folder) / "ray")


def inline(setting: Setting, report: Report) -> None:
    """Run the same sweep without Ray. Its records must be equal, if there are those of Ray."""
    out, other = (Path(setting.folder) / name for name in ("inline", "ray"))
    sweep("sweep with --inline", setting, report, "--inline", out=out)
    with report.case("the records of Ray"):
        if not (other / "records").exists():
            report.skip("the records of Ray", "there are none")
            return
        ours, theirs = results(out), results(other)
        differing = [name for name in ours if name not in theirs or not ours[name].equals(theirs[name])]
        report.check("the records of Ray", not differing, differing=differing)


def sweep(case: str, setting: Setting, report: Report, *words: str, out: Path) -> None:
    """Run a sweep, and report its time: whole, until the first cell began, and of all cells."""
    command = [sys.executable, "-m", "sweep.run", *SWEEP, *(FEW if setting.tiny else ()), *words, "--out", str(out)]
    begun = time.time()
    done = subprocess.run(command, cwd=ROOT, stdout=sys.stderr, check=False)
    whole = time.time() - begun
    if done.returncode:
        report.check(case, False, exit_code=done.returncode)
        return
    records = read_records(out)
    first = min(datetime.fromisoformat(text).timestamp() for text in records["started"])
    report.check(
        case,
        bool((records["status"] == "done").all()),
        cells=len(records),
        whole_s=whole,
        until_first_s=first - begun,
        of_cells_s=float(records["seconds"].sum()),
        device=", ".join(sorted(set(records["device"].dropna()))),
    )
