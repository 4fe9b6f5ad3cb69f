"""Where a record comes from: code, libraries, machine."""

import json
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = ("torch", "torchvision", "timm", "numpy", "ray")


def commit() -> str:
    """The project's git commit, with `+changes` where the work tree differs; `unknown` outside a repository."""
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():  # installed somewhere inside another repository: not our commit
        return "unknown"
    try:
        revision = _git(root, "rev-parse", "HEAD")
        return revision + ("+changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(root: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", str(root), *words], check=True, capture_output=True, text=True).stdout.strip()


def project_version() -> str:
    """The project's version, `unknown` where it is not installed."""
    try:
        return version("noisy-pairs")
    except PackageNotFoundError:
        return "unknown"


def library_versions() -> str:
    """Versions of the libraries that results depend on, as JSON."""
    return json.dumps({name: version(name) for name in LIBRARIES})


def processor() -> str:
    """The processor's name, as Linux tells it; elsewhere what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
