"""`python -m analysis.figures DIR...`: the paper's figures, and more, from a sweep's records.

Needs neither torch, ray nor mlflow: it works on a copy of the folder, anywhere.
"""

import argparse
import io
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from analysis.cli import add_folders, exit_with
from analysis.errors import RecordsError
from analysis.names import other_losses
from analysis.plots import curves, maps, paper_figures, predictions, spread, style
from analysis.plots.inputs import Inputs
from analysis.plots.paper_figures import Draw
from analysis.records.merge import print_notes, read_sweeps
from analysis.records.parquet import write_bytes
from analysis.records.plan import interval_level
from analysis.records.remote import default_folder
from analysis.records.studies import Study, studies

#: The kinds of files that figures can be written as.
FORMATS = ("svg", "png", "pdf")

# A file's date would make the same figure differ from day to day.
_METADATA: Mapping[str, dict[str, None]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}


@dataclass(frozen=True, kw_only=True)
class FigureKind:
    """One figure that a study can have."""

    title: str
    """May name `{score}` and `{dense}` (losses)."""
    caption: str
    """What is shown; may name `{score}`, `{dense}`, `{intervals}` (of single cells) and `{source}`."""
    draw: Draw
    """Returns the figure, or the reason why it cannot be drawn."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """A figure of a study, or the reason why there is none."""

    name: str
    """Its name among `FIGURES`."""
    stem: str
    """Its file's name without the ending: data set (and recipe, where it has several studies) and name."""
    title: str
    caption: str
    study: str
    """The study's title."""
    figure: Figure | None
    reason: str
    """Why there is no figure; empty where there is one."""


_LEVELS = (
    "{intervals} They hold what seeds have in common too, so that two cells are better compared by their differences "
    "by seed. Horizontal: rho 0 (dotted) and the baselines (value and interval in the legend). Data: {source}."
)
_DIFFERENCES = (
    "Pairing noisy minus mere exposure, paired by seed; above 0 the noisy pairs are better. {intervals} Data: {source}."
)

#: The figures by name, in the order of the report. The numbers are the paper's.
FIGURES: Mapping[str, FigureKind] = {
    "fig1": FigureKind(
        title="{score} by noisy-pairs rate",
        caption="As Fig. 1 of the paper: {score} against the noisy-pairs rate rho, a line a loss. " + _LEVELS,
        draw=paper_figures.fig1,
    ),
    "fig4": FigureKind(
        title="MoCo: {score} by noisy-pairs rate",
        caption="As Fig. 4 of the paper: {score} against rho with MoCo, a line a per-image noise nu. " + _LEVELS,
        draw=paper_figures.fig4,
    ),
    "fig5": FigureKind(
        title="{dense}: {score} by noisy-pairs rate",
        caption="As Fig. 5 of the paper: {score} against rho with the {dense}, a line a nu. " + _LEVELS,
        draw=paper_figures.fig5,
    ),
    "fig7": FigureKind(
        title="Noisy minus exposure by noisy-pairs rate",
        caption="As Fig. 7 of the paper, against rho, a line a loss. " + _DIFFERENCES,
        draw=paper_figures.fig7,
    ),
    "fig8": FigureKind(
        title="MoCo: noisy minus exposure",
        caption="As Fig. 8 of the paper, against rho with MoCo, a line a nu. " + _DIFFERENCES,
        draw=paper_figures.fig8,
    ),
    "fig9": FigureKind(
        title="{dense}: noisy minus exposure",
        caption="As Fig. 9 of the paper, against rho with the {dense}, a line a nu. " + _DIFFERENCES,
        draw=paper_figures.fig9,
    ),
    "map": FigureKind(
        title="Noisy minus exposure over the grid",
        caption="Mean over seeds in points, and n, the number of seeds, in each cell; a cell without a value is "
        "hatched. " + _DIFFERENCES.replace("{intervals} ", ""),
        draw=maps.difference_map,
    ),
    "forest": FigureKind(
        title="Noisy minus exposure, every cell",
        caption="Every cell, and below (diamond) the mean over the grid with its 95% interval. Many intervals: one in "
        "twenty misses by chance. " + _DIFFERENCES,
        draw=maps.forest,
    ),
    "forest-zero": FigureKind(
        title="With noisy pairs minus without, every cell",
        caption="Every cell minus the cell of rho 0, paired by seed, and below (diamond) the mean over all of them, "
        "nu 1 included, with its 95% interval. Many intervals: one in twenty misses by chance. {intervals} "
        "Data: {source}.",
        draw=maps.forest_zero,
    ),
    "pairings": FigureKind(
        title="{score} by pairing",
        caption="{score} against rho, a line a pairing; noise of irrelevant textures is the paper's appendix B3. "
        + _LEVELS,
        draw=spread.pairings,
    ),
    "seeds": FigureKind(
        title="Spread over seeds",
        caption="{score} of every seed of every cell, a dot each; the baselines are the same in all panels. Dots of a "
        "seed that move together show what pairing by seed takes out. Data: {source}.",
        draw=spread.seeds,
    ),
    "curves": FigureKind(
        title="Learning curves",
        caption="Noise-free validation loss of pretraining with its plateau (the loss with all features equal: nothing "
        "learnt), and the probe's macro F1 on validation images; a line a cell, the mean over its seeds. "
        "Data: {source}.",
        draw=curves.curves,
    ),
    "predictions": FigureKind(
        title="Predictions",
        caption="Test images, their truth, and what the probe of each cell predicts; F1 is the cell's on all test "
        "images. Cells chosen, not drawn by chance. Data: {source}.",
        draw=predictions.predictions,
    ),
}


def draw_all(
    records: pd.DataFrame, folders: Sequence[Path], *, only: Sequence[str] = (), cells: Sequence[str] = ()
) -> list[Drawn]:
    """Every figure of `FIGURES` (or of `only`) of every study, drawn or with the reason why not.

    `records` as from `read_records`; `folders` hold the curves and predictions of the same sweeps and may be none.
    `cells`: keys for the predictions, none for a telling few. Raises `RecordsError` for a name or a key that does not
    exist; records that cannot be compared and files that cannot be read are a figure's reason.
    """
    if unknown := [name for name in only if name not in FIGURES]:
        raise RecordsError(f"unknown figure {', '.join(unknown)}: use some of {', '.join(FIGURES)}")
    if unknown := [key for key in cells if key not in set(records["key"])]:
        raise RecordsError(f"no record has the key {', '.join(unknown)}: use some of the records' column key")
    inputs = Inputs(folders=[Path(folder) for folder in folders], cells=cells)
    known = list(studies(records, level=interval_level(inputs.folders)))
    return [
        _drawn(study, stem, name, inputs)
        for study, stem in zip(known, _stems(known), strict=True)
        for name in FIGURES
        if not only or name in only
    ]


def as_svg(figure: Figure) -> bytes:
    """The figure as SVG with its text as text; the same figure gives the same bytes."""
    return _bytes(figure, "svg")


def save_figures(drawn: Sequence[Drawn], out: Path, formats: Sequence[str] = ("svg", "png")) -> list[Path]:
    """Write the figures that were drawn into the folder `out` and return the files' paths; older ones are replaced.

    Raises `RecordsError` for an unknown format, `OSError` where a file cannot be written.
    """
    if unknown := [name for name in formats if name not in FORMATS]:
        raise RecordsError(f"unknown format {', '.join(unknown)}: use some of {', '.join(FORMATS)}")
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for one in drawn:
        for name in formats if one.figure is not None else ():
            assert one.figure is not None
            path = out / f"{one.stem}.{name}"
            paths.append(write_bytes(path, _bytes(one.figure, name)))
    return paths


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the figures and print a line for each; returns the exit code, 2 for a user's mistake."""
    options = _parser().parse_args(arguments)
    try:
        merged = read_sweeps(options.dir)
        print_notes(merged)
        drawn = draw_all(merged.records, merged.folders, only=options.only, cells=options.cells)
        out = options.out or default_folder(options.dir[0]) / "figures"
        save_figures(drawn, out, options.formats)
    except (RecordsError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for one in drawn:
        files = ", ".join(f"{one.stem}.{name}" for name in options.formats)
        print(f"not drawn {one.stem}: {one.reason}" if one.figure is None else f"{out}: {files}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis.figures", description=__doc__)
    add_folders(parser)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="where to write to; by default DIR/figures, of an address NAME/figures here",
    )
    parser.add_argument("--formats", nargs="+", default=["svg", "png"], metavar="FORMAT", help=" ".join(FORMATS))
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help=" ".join(FIGURES))
    parser.add_argument("--cells", nargs="+", default=[], metavar="KEY", help="cells of the sheet of predictions")
    return parser


def _drawn(study: Study, stem: str, name: str, inputs: Inputs) -> Drawn:
    kind = FIGURES[name]
    dense = "dense and other losses" if other_losses(study.records["objective"]) else "dense losses"
    words = {"score": study.score, "dense": dense, "intervals": _intervals(study), "source": study.title}
    title, caption = (text.format(**words) for text in (kind.title, kind.caption))
    result: Figure | str
    try:
        with style.context():
            result = kind.draw(study, inputs)
    except RecordsError as error:  # a damaged file of curves, say, must not take the other figures along
        result = str(error)
    return Drawn(
        name=name,
        stem=f"{stem}-{name}",
        title=title[:1].upper() + title[1:],
        caption=caption[:1].upper() + caption[1:],
        study=study.title,
        figure=None if isinstance(result, str) else result,
        reason=result if isinstance(result, str) else "",
    )


def _intervals(study: Study) -> str:
    if study.seeds < 2:
        return "One seed: no intervals."
    text = f"Points are means over {study.seeds} seeds (fewer where the note says so), bars 95% t intervals over seeds"
    return f"{text}, of {100 * study.level:.4g}% for seeds were added by looking." if study.grown else f"{text}."


def _stems(known: Sequence[Study]) -> list[str]:
    """The studies' names in file names: the data set, with the recipe and then a number where it is not enough."""
    datasets = Counter(study.dataset for study in known)
    names = [study.dataset if datasets[study.dataset] == 1 else f"{study.dataset}-{study.recipe}" for study in known]
    twice = Counter(names)
    met: Counter[str] = Counter()
    stems = []
    for name in names:
        met[name] += 1
        stems.append(f"{name}-{met[name]}" if twice[name] > 1 else name)
    return stems


def _bytes(figure: Figure, name: str) -> bytes:
    buffer = io.BytesIO()
    with style.context():
        # Hard compression takes as long as drawing and saves little.
        how: dict[str, Any] = {"pil_kwargs": {"compress_level": 3}} if name == "png" else {}
        figure.savefig(buffer, format=name, dpi=300, metadata=_METADATA[name], **how)
    return buffer.getvalue()


if __name__ == "__main__":
    exit_with(main)
