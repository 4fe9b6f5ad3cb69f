"""`python -m analysis.figures DIR...`: the paper's figures, and others, from the records of sweeps.

Does not need torch, ray or mlflow, so it also works on a copy of the folder on another machine.
"""

import argparse
import io
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.cli import add_folders, exit_with, local_path
from analysis.errors import RecordsError
from analysis.names import other_losses
from analysis.plots import curves, interaction, maps, measured_nu, paper_figures, predictions, spread, style
from analysis.plots.inputs import Inputs
from analysis.plots.paper_figures import Draw
from analysis.records.merge import print_notes, read_sweeps
from analysis.records.parquet import write_bytes
from analysis.records.plan import interval_level
from analysis.records.remote import default_folder
from analysis.records.studies import Study, settings_text, with_interactions

if TYPE_CHECKING:  # `analysis.plots` comes before matplotlib, because it chooses the backend
    from matplotlib.figure import Figure

#: The file formats of figures.
FORMATS = ("svg", "png", "pdf")

# Without the date, the same figure always gives the same file.
_METADATA: Mapping[str, dict[str, None]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}


@dataclass(frozen=True, kw_only=True)
class FigureKind:
    """One kind of figure.

    Title and caption may contain `{score}` and `{dense}` (losses), the caption also `{intervals}` (of single cells) and
    `{source}`.
    """

    title: str
    caption: str
    draw: Draw
    levels: bool = False
    """Whether it shows all levels of the settings that a sweep varies, instead of one study."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """A figure of a study, or the reason why there is none."""

    name: str
    """Its key in `FIGURES`."""
    stem: str
    """The file name without suffix: data set, varied settings, recipe (if needed) and name."""
    title: str
    caption: str
    study: str
    """Title of the study."""
    figure: "Figure | None"
    reason: str
    """Why there is no figure; empty if there is one."""


_LEVELS = (
    "{intervals} These intervals include variation that all cells of a seed share; to compare two cells, use their "
    "differences within a seed. Horizontal lines: rho 0 (dotted) and the baselines (with value and interval in the "
    "legend). Data: {source}."
)
_DIFFERENCES = (
    "Noisy pairs minus mere exposure, paired by seed; above 0 noisy pairs are better. {intervals} Data: {source}."
)
_MEASURED = (
    "{score} at the largest rho against the measured nu: the mean share of the pixels of a noisy image whose class "
    "differs from that in the clean image, by the masks of both, or by a mask of what changed. One line per pairing, "
    "from rho 0 on. {intervals} Data: {source}."
)

#: The figures by name, in the order of the report. The numbers are the paper's.
FIGURES: Mapping[str, FigureKind] = {
    "fig1": FigureKind(
        title="{score} by noisy-pairs rate",
        caption="As Fig. 1 of the paper: {score} against the noisy-pairs rate rho, one line per loss. " + _LEVELS,
        draw=paper_figures.fig1,
    ),
    "fig4": FigureKind(
        title="MoCo: {score} by noisy-pairs rate",
        caption="As Fig. 4 of the paper: {score} against rho with MoCo, one line per nu (per-image noise). " + _LEVELS,
        draw=paper_figures.fig4,
    ),
    "fig5": FigureKind(
        title="{dense}: {score} by noisy-pairs rate",
        caption="As Fig. 5 of the paper: {score} against rho with the {dense}, one line per nu. " + _LEVELS,
        draw=paper_figures.fig5,
    ),
    "fig7": FigureKind(
        title="Noisy minus exposure by noisy-pairs rate",
        caption="As Fig. 7 of the paper, against rho, one line per loss. " + _DIFFERENCES,
        draw=paper_figures.fig7,
    ),
    "fig8": FigureKind(
        title="MoCo: noisy minus exposure",
        caption="As Fig. 8 of the paper, against rho with MoCo, one line per nu. " + _DIFFERENCES,
        draw=paper_figures.fig8,
    ),
    "fig9": FigureKind(
        title="{dense}: noisy minus exposure",
        caption="As Fig. 9 of the paper, against rho with the {dense}, one line per nu. " + _DIFFERENCES,
        draw=paper_figures.fig9,
    ),
    "map": FigureKind(
        title="Noisy minus exposure over the grid",
        caption="Each cell shows the mean over seeds in points and the number n of seeds; a cell without a value is "
        "hatched. " + _DIFFERENCES.replace("{intervals} ", ""),
        draw=maps.difference_map,
    ),
    "forest": FigureKind(
        title="Noisy minus exposure by cell",
        caption="Each cell, and below (diamond) the mean over the grid with its 95% interval. Of many intervals, "
        "one in twenty misses the truth by chance. " + _DIFFERENCES,
        draw=maps.forest,
    ),
    "forest-zero": FigureKind(
        title="With minus without noisy pairs by cell",
        caption="Each cell minus the cell with rho 0, paired by seed, and below (diamond) the mean over all cells, "
        "including nu 1, with its 95% interval. Of many intervals, one in twenty misses the truth by chance. "
        "{intervals} Data: {source}.",
        draw=maps.forest_zero,
    ),
    "pairings": FigureKind(
        title="{score} by pairing",
        caption="{score} against rho, one line per pairing; irrelevant noise is from the paper's appendix B3. "
        "Misregistered pairs have no nu, so their line is the same at each. " + _LEVELS,
        draw=spread.pairings,
    ),
    "nu": FigureKind(title="{score} by measured nu", caption=_MEASURED, draw=measured_nu.score_by_measured_nu),
    "nu-levels": FigureKind(
        title="{score} by measured nu and {varied}",
        caption=_MEASURED,
        draw=measured_nu.score_by_measured_nu,
        levels=True,
    ),
    "seeds": FigureKind(
        title="Spread over seeds",
        caption="{score} of each cell, one dot per seed; the baselines are the same in all panels. If the dots of a "
        "seed move together, pairing by seed removes this variation. Data: {source}.",
        draw=spread.seeds,
    ),
    "curves": FigureKind(
        title="Learning curves",
        caption="Noise-free validation loss of pretraining with its plateau (the loss if all features are equal: "
        "nothing learnt), and macro F1 of the probe on validation images; one line per cell, the mean over its seeds. "
        "Data: {source}.",
        draw=curves.curves,
    ),
    "predictions": FigureKind(
        title="Predictions",
        caption="Test images, their true classes, and the predictions of the probe of each cell; F1 is that of the "
        "cell on all test images. The cells were selected, not drawn at random. Data: {source}.",
        draw=predictions.predictions,
    ),
    "interaction": FigureKind(
        title="The effect of noisy pairs by {varied}",
        caption="{score} with noisy pairs minus that without (rho 0), and minus that with mere exposure, for the same "
        "loss and seed, in points: the mean over the grid at each value of {varied}, one line per loss. A loss that "
        "does not use a setting has the same point at all its values. {intervals} Data: {source}.",
        draw=interaction.effect_by_setting,
        levels=True,
    ),
}


def draw_all(
    records: pd.DataFrame, folders: Sequence[Path], *, only: Sequence[str] = (), cells: Sequence[str] = ()
) -> list[Drawn]:
    """Draw the figures of every study, and of all levels of varied settings; one that cannot be drawn has a reason.

    Args:
        records: as from `read_records`.
        folders: of the same sweeps, with their curves and predictions; may be empty.
        only: names in `FIGURES`; by default all.
        cells: keys of the cells whose predictions are shown; by default a few of each loss.

    Raises:
        RecordsError: a name or a key does not exist. Records that cannot be compared and files that cannot be read are
            the reason of a figure instead.
    """
    if unknown := [name for name in only if name not in FIGURES]:
        raise RecordsError(f"unknown figure {', '.join(unknown)}: use some of {', '.join(FIGURES)}")
    if unknown := [key for key in cells if key not in set(records["key"])]:
        raise RecordsError(f"no record has the key {', '.join(unknown)}: use some of the records' column key")
    inputs = Inputs(folders=[Path(folder) for folder in folders], cells=cells)
    known = with_interactions(records, level=interval_level(inputs.folders))
    return [
        _drawn(study, stem, name, inputs)
        for study, stem in zip(known, _stems(known), strict=True)
        for name, kind in FIGURES.items()
        if kind.levels == bool(study.varied) and (not only or name in only)
    ]


def as_svg(figure: "Figure") -> bytes:
    """The figure as SVG that keeps text as text. The same figure always gives the same bytes."""
    return _bytes(figure, "svg")


def save_figures(drawn: Sequence[Drawn], out: Path, formats: Sequence[str] = ("svg", "png")) -> list[Path]:
    """Write the figures into the folder `out`, replacing older files, and return the paths.

    Raises `RecordsError` for an unknown format, `OSError` if a file cannot be written.
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
    """Write the figures and print one line for each. The exit code is 2 for a user error."""
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
    if not drawn:
        print(f"nothing drawn: {' '.join(options.only)} needs a sweep that varies settings (--vary)")
    for one in drawn:
        files = ", ".join(f"{one.stem}.{name}" for name in options.formats)
        print(f"not drawn {one.stem}: {one.reason}" if one.figure is None else f"{out}: {files}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis.figures", description=__doc__)
    add_folders(parser)
    parser.add_argument(
        "--out",
        type=local_path,
        metavar="FOLDER",
        help="folder to write to (default: DIR/figures; ./NAME/figures for s3://BUCKET/NAME)",
    )
    parser.add_argument("--formats", nargs="+", default=["svg", "png"], metavar="FORMAT", help=" ".join(FORMATS))
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help=" ".join(FIGURES))
    parser.add_argument("--cells", nargs="+", default=[], metavar="KEY", help="cells whose predictions are shown")
    return parser


def _drawn(study: Study, stem: str, name: str, inputs: Inputs) -> Drawn:
    kind = FIGURES[name]
    dense = "dense and other losses" if other_losses(study.records["objective"]) else "dense losses"
    words = {"score": study.score, "dense": dense, "intervals": _intervals(study), "source": study.title}
    words["varied"] = " and ".join(study.varied)
    title, caption = (text.format(**words) for text in (kind.title, kind.caption))
    result: Figure | str
    try:
        with style.context():
            result = kind.draw(study, inputs)
    except RecordsError as error:  # such as a damaged file of curves, which other figures do not need
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
    text = f"Points are means over {study.seeds} seeds (fewer if a note says so), bars are 95% t intervals over seeds"
    return f"{text}, at level {100 * study.level:.4g}% because of adaptive seeds." if study.grown else f"{text}."


def _stems(known: Sequence[Study]) -> list[str]:
    """The names of the studies in file names: data set and varied settings; if needed also recipe and a number."""
    names = [_stem(study) for study in known]
    count = Counter(names)
    names = [f"{name}-{study.recipe}" if count[name] > 1 else name for name, study in zip(names, known, strict=True)]
    twice = Counter(names)
    seen: Counter[str] = Counter()
    stems = []
    for name in names:
        seen[name] += 1
        stems.append(f"{name}-{seen[name]}" if twice[name] > 1 else name)
    return stems


def _stem(study: Study) -> str:
    """Data set and varied settings, such as `vts-pretrain.steps-960`."""
    words = [study.dataset, *study.varied, *filter(None, [settings_text(study.settings)])]
    return re.sub(r"[^\w.+:-]+", "-", "-".join(words)) if study.varied or study.settings else study.dataset


def _bytes(figure: "Figure", name: str) -> bytes:
    buffer = io.BytesIO()
    with style.context():
        # Stronger compression takes as long as drawing and saves little.
        how: dict[str, Any] = {"pil_kwargs": {"compress_level": 3}} if name == "png" else {}
        figure.savefig(buffer, format=name, dpi=300, metadata=_METADATA[name], **how)
    return buffer.getvalue()


if __name__ == "__main__":
    exit_with(main)
