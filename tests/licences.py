"""`python -m tests.licences`: docs/licences.md anew, the licence of every pinned package as it says itself."""

import re
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "licences.md"
#: Packages that do not say it in a form that can be read, and where it is said.
ELSEWHERE = {
    "cuda-toolkit": "nothing said; it only names NVIDIA's packages, which are proprietary",
    "huey": "MIT (its file LICENSE)",
    "skops": "MIT (its file LICENSE)",
}

HEAD = """# Licences

Every package that `constraints.txt` pins, with the licence that its own metadata name (`License-Expression`, else the
classifiers, else the field `License`). Written by `python -m tests.licences`; do not edit. noisy-pairs itself is MIT.

| package | version | licence |
|---|---|---|
"""


def pinned() -> dict[str, str]:
    """Name and version of each package in constraints.txt."""
    lines = (line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines())
    return dict(tuple(line.split("==", 1)) for line in lines if line)


def canonical(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licence(name: str) -> str:
    """What a package's metadata say; `?` where they say nothing, `not installed` where it is not there."""
    try:
        said = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return "not installed"
    classifiers = [
        line.rpartition(" :: ")[2] for line in said.get_all("Classifier", []) if line.startswith("License ::")
    ]
    classifiers = [line for line in classifiers if line != "OSI Approved"]
    first = (said.get("License") or "").strip().split("\n")[0][:80]
    return said.get("License-Expression") or "; ".join(classifiers) or first or ELSEWHERE.get(canonical(name), "?")


def page() -> str:
    """The whole page."""
    rows = (f"| {name} | {version} | {licence(name).replace('|', '/')} |" for name, version in pinned().items())
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE)
