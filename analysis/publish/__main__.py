"""`python -m analysis.publish DIR --out FOLDER`: a sweep as a folder that a data hub takes.

It holds the records and curves as Parquet, a card, Croissant metadata, verdicts, tables, figures and sweep.yaml. The
same records give the same files. Nothing in them names a folder of this machine; no image is copied. Does not need
torch, ray or mlflow.
"""

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from analysis import claims, tables
from analysis.cli import add_folders, exit_with, local_path
from analysis.errors import RecordsError
from analysis.figures import FIGURES, draw_all, save_figures
from analysis.findings.verdicts import judge
from analysis.publish.card import AUTHORS, Contents, Details, card, metadata
from analysis.publish.croissant import CROISSANT, croissant
from analysis.publish.private import public_records, public_settings
from analysis.records import parquet
from analysis.records.coverage import coverage
from analysis.records.io import CURVES, SUMMARY, column_types, read_curves
from analysis.records.merge import MergedRecords, print_notes, read_sweeps
from analysis.records.plan import plan_path, read_plan
from analysis.records.remote import is_remote
from analysis.records.schema import Column, described_columns
from analysis.records.studies import studies

#: Without predictions, because they show images, which may be those of others.
DRAWN = tuple(name for name in FIGURES if name != "predictions")

_CURVES = "curves/curves.parquet"
_CURVE_COLUMNS = {
    "key": ("16 hex digits", "the cell, as in the records"),
    "stage": ("pretrain, probe", "what is trained"),
    "step": ("steps", "optimiser steps of the stage so far"),
    "name": ("name", "what is measured"),
    "value": ("", "its value; null if it is not finite"),
}


def publish(merged: MergedRecords, details: Details, out: Path) -> None:
    """Write the folder `out`, which must be absent or empty. It appears when it is complete.

    Raises `RecordsError` if it is not empty or the sweep.yaml cannot be read, `OSError` if it cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RecordsError(f"--out {out}: is there already: name a folder that is new or empty")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".publish-", suffix=".tmp", dir=out.parent) as drafts:
        draft = Path(drafts, "folder")
        draft.mkdir()
        _write(merged, details, draft)
        os.replace(draft, out)


def _write(merged: MergedRecords, details: Details, out: Path) -> None:
    settings = plan_path(merged.folders[0])
    if settings.is_file():
        parquet.write_bytes(out / settings.name, public_settings(settings, details.name).encode())
    records = public_records(merged.records)
    types = column_types(records)
    parquet.write_frame(out / SUMMARY, records, types)
    columns = {SUMMARY: described_columns(types)}
    if any(parquet.files(folder / "curves") for folder in merged.folders):
        columns[_CURVES] = _write_curves(merged, out / _CURVES)
    judgements = judge(records, level=merged.level)
    texts = {
        "tables.txt": tables.render(records, level=merged.level),
        "claims.txt": claims.render(judgements),
        "claims.csv": claims.as_csv(judgements),
    }
    for name, text in texts.items():
        parquet.write_bytes(out / name, f"{text}\n".encode())
    drawn = [one for one in draw_all(records, [out], only=DRAWN) if one.figure is not None]
    save_figures(drawn, out / "figures", ("svg",))
    known, plan = studies(records, level=merged.level), read_plan(out)
    contents = Contents(
        records=records,
        studies=known,
        judgements=judgements,
        missing=[int((coverage(study.records, [plan])["status"] == "missing").sum()) for study in known],
        preset=str(plan.get("preset", "")),
        figures=[(f"figures/{one.stem}.svg", one.title) for one in drawn],
        tables=columns,
    )
    parquet.write_bytes(out / "README.md", card(details, contents).encode())
    parquet.write_bytes(out / CROISSANT, croissant(metadata(details, contents), out, columns).encode())


def _write_curves(merged: MergedRecords, path: Path) -> list[Column]:
    """Write the curves of the records to one file, which `read_curves` reads, and describe its columns."""
    curves = read_curves(merged.folders[0])
    curves = curves[curves["key"].isin(set(merged.records["key"]))]
    parquet.write_frame(path, curves, CURVES)
    return [
        Column(name=one.name, type=one.type, unit=unit, meaning=meaning, required="never" if one.nullable else "always")
        for one, (unit, meaning) in zip(CURVES, _CURVE_COLUMNS.values(), strict=True)
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the folder and print its path. The exit code is 2 for a user error."""
    options = _parser().parse_args(arguments)
    try:
        merged = read_sweeps([options.dir])
        name = options.name or _name(options.dir)
        details = Details(name=name, license=options.license, creator=options.creator, url=options.url)
        publish(merged, details, options.out)
    except (RecordsError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print_notes(merged)
    if not plan_path(merged.folders[0]).is_file():
        print(f"note: {options.dir} has no sweep.yaml, so nobody can run its sweep again", file=sys.stderr)
    print(options.out)
    return 0


def _name(where: Path | str) -> str:
    """The name of a folder, of the folder of a summary.parquet, or of another file; for a path or an address."""
    place = Path(where) if is_remote(where) else Path(where).absolute()
    place = place.parent if place.name == SUMMARY else place.with_suffix("") if place.suffix == ".parquet" else place
    return re.sub(r"[^\w.-]+", "-", place.name)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis.publish", description=__doc__)
    add_folders(parser, nargs=None)
    parser.add_argument("--out", type=local_path, metavar="FOLDER", required=True, help="new or empty folder to write")
    parser.add_argument("--name", type=_matching(r"[\w.-]+"), help="of the data set (default: that of DIR)")
    parser.add_argument(
        "--license", type=_matching(r"[A-Za-z0-9.+-]+"), default="MIT", help="SPDX identifier (default: %(default)s)"
    )
    parser.add_argument("--creator", default=AUTHORS, help='who ran the sweep (default: "%(default)s")')
    parser.add_argument("--url", type=_matching(r"https?://\S+"), help="page on which it will be, for the metadata")
    return parser


def _matching(pattern: str) -> Callable[[str], str]:
    """A type for `add_argument`: a text of this form."""

    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise argparse.ArgumentTypeError(f"is {text!r}, write it in the form {pattern}")
        return text

    return parse


if __name__ == "__main__":
    exit_with(main)
