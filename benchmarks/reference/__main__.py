"""`make reference`: run the sweeps of docs/results, or their missing cells, and update the files there.

Records are in results/reference/NAME, as for any sweep. sweep.yaml, summary.parquet, tables, means, claims and figures
are written to docs/results/NAME, next to the README, which is written by hand. No images are copied. Of a sweep whose
encoders are probed further, the records and tables of these probes are probes.parquet and probes.txt. What follows from
all sweeps is in docs/results: verdicts.txt, claims.md and contributed/README.md.
"""

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis import claims, tables
from analysis.errors import RecordsError
from analysis.figures import FIGURES, draw_all, save_figures
from analysis.findings.verdicts import judge
from analysis.publish.__main__ import DRAWN
from analysis.records.io import compact
from analysis.records.merge import read_sweeps
from analysis.records.schema import varied_settings
from analysis.records.studies import studies
from benchmarks.reference import means
from benchmarks.reference.claims_page import claims_page
from benchmarks.reference.contributed import contributed_page
from benchmarks.reference.verdicts import judged, shipped, verdicts

ROOT = Path(__file__).resolve().parents[2]
RECORDS = Path("results/reference")
SHOWN = Path("docs/results")
PROBE = "probe"
"""The folder of the records of `sweep.probe` in that of the sweep."""
PROBES, PROBE_TABLES = "probes.parquet", "probes.txt"

_PHOTOGRAPHS = (
    *("--textures", "folder", "--data.categories", "aluminium_foil", "corduroy", "wool"),
    *("--augment.grey", "0"),
)
"""Colour carries information in photographs (METHOD.md)."""
_CENTRE = ("--rho", "0", "1", "--nu", "0.5")
"""The smallest grid with both effects of noisy pairs, for sweeps along another axis."""
_TWICE = ("--vary", "pretrain.steps", "960", "1920")
"""Does the answer of the preset change with twice the steps?"""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A sweep that ships its results."""

    words: tuple[str, ...]
    """Arguments of `sweep.run`."""
    seeds: range
    needs: str = ""
    """The option of this command that names its images; empty if it needs none."""
    probes: tuple[str, ...] = ()
    """Arguments of `sweep.probe`, which then probes its kept encoders; empty if none are kept."""


REFERENCES = {
    "vts-quick": Reference(words=("vts-quick",), seeds=range(12)),
    "vts-quick-photographs": Reference(words=("vts-quick", *_PHOTOGRAPHS), seeds=range(8), needs="photographs"),
    "vts-quick-denominators": Reference(
        words=("vts-quick", "--vary", "dense.denominator", "public", "printed"), seeds=range(4)
    ),
    "vts-quick-pairings": Reference(
        words=("vts-quick", "--pairings", "noisy", "irrelevant", "false_positive"), seeds=range(4)
    ),
    "vts-budget": Reference(
        words=(
            *("vts-quick", *_CENTRE, "--vary", "pretrain.steps", "240", "480", "960", "1920", "3840"),
            *("--vary", "dense.denominator", "public", "printed"),
        ),
        seeds=range(3),
    ),
    "vts-losses": Reference(
        words=("vts-losses", "--keep", "encoders"),
        seeds=range(8),
        probes=("--head", "fcn", "linear", "knn", "--split", "test", "ood"),
    ),
    "vts-twice": Reference(words=("vts-quick", *_CENTRE, *_TWICE), seeds=range(8)),
    "vts-twice-photographs": Reference(
        words=("vts-quick", *_CENTRE, *_TWICE, *_PHOTOGRAPHS), seeds=range(8), needs="photographs"
    ),
    "vts-textures": Reference(
        words=(
            *("vts-quick", *_CENTRE, "--vary", "data.categories", "stratified,veined,matted"),
            *("stratified,matted,veined", "veined,matted,stratified", "stratified,veined,dotted"),
        ),
        seeds=range(4),
    ),
    # With the first 2,000 images of each file of CIFAR-10, hence not the published files.
    "cifar-quick": Reference(words=("cifar-quick", "--data.other-files"), seeds=range(5), needs="cifar"),
}


def command(name: str, images: str | None) -> list[str]:
    """The command line of the sweep; `images` is the folder of the photographs or of CIFAR-10."""
    one = REFERENCES[name]
    place = ["--data-root", images] if images else []
    seeds = ["--seeds", *map(str, one.seeds)]
    return [sys.executable, "-m", "sweep.run", *one.words, *place, *seeds, "--out", str(RECORDS / name)]


def probe_command(name: str, images: str | None) -> list[str]:
    """The command line that probes the encoders of that sweep; empty if none are probed."""
    words = REFERENCES[name].probes
    place = ["--data-root", images] if images else []
    folder = RECORDS / name
    return (
        [sys.executable, "-m", "sweep.probe", str(folder), *words, *place, "--out", str(folder / PROBE)]
        if words
        else []
    )


def show(folder: Path, out: Path) -> None:
    """Write the files for readers of the sweep in `folder` to `out`; its README stays.

    Raises `RecordsError` as `read_sweeps`, `OSError` if a file cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    plan = (folder / "sweep.yaml").read_text(encoding="utf-8")
    # Folders of this machine are private.
    plan = re.sub(r"(?m)^(data_root|store):.*$", r"\1: null", plan)
    plan = re.sub(r"(?m)^out:.*$", f"out: {RECORDS / out.name}", plan)
    (out / "sweep.yaml").write_text(plan, encoding="utf-8")
    shutil.copy(compact(folder), out / "summary.parquet")
    if (folder / PROBE).is_dir():
        shutil.copy(compact(folder / PROBE), out / PROBES)
    else:
        for name in (PROBES, PROBE_TABLES):
            (out / name).unlink(missing_ok=True)
    for name, text in texts(out).items():
        (out / name).write_text(text, encoding="utf-8")
    shutil.rmtree(out / "figures", ignore_errors=True)
    joined = read_sweeps([folder])
    # Of a sweep that varies settings: figures over all levels. `analysis.figures` draws those of each level.
    over_levels = bool(varied_settings(joined.records.columns))
    only = [name for name in DRAWN if FIGURES[name].levels == over_levels]
    save_figures(draw_all(joined.records, joined.folders, only=only), out / "figures", ("svg",))
    write_pages(out.parent)


def texts(out: Path) -> dict[str, str]:
    """The text files of a sweep that ships: tables, means with intervals, claims, tables of further probes."""
    joined = read_sweeps([out / "summary.parquet"])
    judged = claims.render(judge(joined.records, level=joined.level))
    grid = "\n\n".join(means.render(study) for study in studies(joined.records, level=joined.level))
    found = {
        "tables.txt": tables.render(joined.records, level=joined.level) + "\n",
        "means.txt": grid + "\n",
        "claims.txt": judged + "\n",
    }
    if (out / PROBES).is_file():
        probes = read_sweeps([out / PROBES])
        found[PROBE_TABLES] = tables.render(probes.records, level=probes.level) + "\n"
    return found


def pages(results: Path) -> dict[Path, str]:
    """The files in the folder of all results that follow from the sweeps in it: file -> text."""
    sweeps = judged(shipped(results))
    needs = {name: reference.needs for name, reference in REFERENCES.items()}
    contributed = results / "contributed"
    return {
        results / "verdicts.txt": verdicts(sweeps),
        results / "claims.md": claims_page(sweeps, needs),
        contributed / "README.md": contributed_page(judged(shipped(contributed))),
    }


def write_pages(results: Path) -> None:
    """Write `pages`. Raises as `show`."""
    for path, text in pages(results).items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sweeps and update their files. The exit code is that of the first sweep that failed, or 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reference", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(REFERENCES)} (default: all)")
    parser.add_argument("--photographs", metavar="DIR", help="photographs of textures, one folder per category")
    parser.add_argument("--cifar", metavar="DIR", help="folder that contains cifar-10-batches-py")
    parser.add_argument("--pages", action="store_true", help="only write the pages on all results again")
    options = parser.parse_args(arguments)
    if options.pages:
        write_pages(ROOT / SHOWN)
        return 0
    if unknown := set(options.names) - set(REFERENCES):
        parser.error(f"unknown reference {', '.join(sorted(unknown))}: use some of {', '.join(REFERENCES)}")
    for name in options.names or REFERENCES:
        needs = REFERENCES[name].needs
        if needs and not getattr(options, needs):
            print(f"{name}: not run, it needs images: name their folder with --{needs} DIR", file=sys.stderr)
            if options.names:
                return 2
            continue
        images = getattr(options, needs) if needs else None
        for words in filter(None, (command(name, images), probe_command(name, images))):
            if code := _run(words):
                return code
        try:
            show(ROOT / RECORDS / name, ROOT / SHOWN / name)
        except (RecordsError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        print(f"{SHOWN / name}")
    return 0


def _run(words: Sequence[str]) -> int:
    """The exit code of a command. Ctrl-C also reaches the command, which then saves its state and exits."""
    process = subprocess.Popen(words, cwd=ROOT)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


if __name__ == "__main__":
    sys.exit(main())
