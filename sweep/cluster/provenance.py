"""The origin of a record: code, libraries, machine."""

import json
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = ("torch", "torchvision", "timm", "numpy", "ray")


def commit() -> str:
    """The project's git commit, with `+changes` if files have changed since; `unknown` outside a repository."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():  # git would return the commit of a repository further up
        return "unknown"
    try:
        revision = _git(root, "rev-parse", "HEAD")
        return revision + ("+changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(root: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", str(root), *words], check=True, capture_output=True, text=True).stdout.strip()


def project_version() -> str:
    """The project's version; `unknown` if it is not installed."""
    try:
        return version("noisy-pairs")
    except PackageNotFoundError:
        return "unknown"


def library_versions() -> str:
    """Versions of the libraries that affect results, as JSON."""
    return json.dumps({name: library_version(name) for name in LIBRARIES})


def library_version(name: str) -> str:
    """The version of an installed library; `absent` if it is not installed, as Ray may be with --inline."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def processor() -> str:
    """The processor's name from Linux; on other systems from Python."""
    return _cpu_field("model name") or platform.processor() or platform.machine()


def has_bf16() -> bool:
    """Whether the processor has instructions for bf16, by Linux (AMX, AVX-512 or those of Arm); elsewhere False.

    Without them bf16 is slower than fp32.
    """
    flags = f"{_cpu_field('flags')} {_cpu_field('Features')}".split()
    return not {"amx_bf16", "avx512_bf16", "bf16"}.isdisjoint(flags)


def _cpu_field(name: str) -> str:
    """What Linux says about the first core; empty text if it does not."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), "")
