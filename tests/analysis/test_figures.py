"""The registry of figures, their files and the command line."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text

from analysis.errors import RecordsError
from analysis.figures import FIGURES, as_svg, draw_all, main, save_figures
from analysis.plots import style
from analysis.plots.style import DOUBLE, SMALL
from analysis.records.io import write_record
from tests.analysis.conftest import write_summary

SOURCE = "procedural textures (stratified, veined, matted, dotted) and a rather long source's name"


@pytest.fixture
def whole(row: Callable) -> list[dict[str, Any]]:
    """The grid of the paper with three seeds, all pairings and baselines; a cell is missing and one failed."""
    random = np.random.default_rng(0)
    made = []
    for seed in range(3):
        made += [
            row(name, 0.0, 0.0, "none", seed, level, source=SOURCE)
            for name, level in {"random": 0.41, "imagenet": 0.5, "supervised": 0.7}.items()
        ]
        for loss in ("moco", "within_image", "cross_image"):
            made.append(row(loss, 0.0, 0.0, "none", seed, 0.6, source=SOURCE))
            levels = (0.25, 0.5, 0.75, 1.0)
            for rho, nu, pairing in itertools.product(levels, levels, ("noisy", "exposure", "irrelevant")):
                score = 0.6 + 0.02 * random.standard_normal()
                made.append(row(loss, rho, nu, pairing, seed, score, source=SOURCE, nu_measured=nu))
            made += [row(loss, rho, 1.0, "false_positive", seed, 0.5, source=SOURCE) for rho in levels]
    made[10] |= {"status": "failed", "test_f1_macro": None}
    return [one for one in made if (one["objective"], one["rho"], one["nu"]) != ("cross_image", 0.5, 0.5)]


def test_every_figure_is_there_and_legible_or_says_why(frame: Callable, whole: list) -> None:
    drawn = draw_all(frame(whole), [])
    assert [one.name for one in drawn] == [name for name, kind in FIGURES.items() if not kind.levels]
    absent = {one.name: one.reason for one in drawn if one.figure is None}
    assert set(absent) == {"fig1", "fig7", "curves", "predictions"}
    assert all(absent.values())
    for one in drawn:
        assert one.study == f"vts on {SOURCE}"
        assert SOURCE in one.caption
        assert "{" not in one.title + one.caption
        assert (one.reason == "") == (one.figure is not None)
        if one.figure is not None:
            _check_layout(one.name, one.figure)


def _check_layout(name: str, figure: Figure) -> None:
    """Nothing is cut off or too small, and heading, panels, legend and notes do not overlap."""
    with style.context():
        inches = figure.get_tightbbox()
    assert figure.get_figwidth() <= DOUBLE
    assert all(text.get_fontsize() >= SMALL for text in figure.findobj(Text) if text.get_text()), name
    width, height = figure.get_size_inches()
    assert (inches.x0 >= 0, inches.y0 >= 0, inches.x1 <= width, inches.y1 <= height) == (True,) * 4, name
    heading, notes = figure.texts[:2]
    panels = [axes.get_tightbbox() for axes in figure.axes]
    stack = [heading.get_window_extent().y0, max(part.y1 for part in panels), min(part.y0 for part in panels)]
    for legend in figure.findobj(Legend):
        stack += [legend.get_window_extent().y1, legend.get_window_extent().y0]
    if notes.get_text():
        stack.append(notes.get_window_extent().y1)
    # Except the padding around a legend.
    assert all(above >= below - 2 for above, below in itertools.pairwise(stack)), (name, stack)


def test_the_same_records_give_the_same_bytes(frame: Callable, rows: list) -> None:
    texts = []
    for size in (10, 20):
        with matplotlib.rc_context({"font.size": size, "svg.fonttype": "path"}):
            before = dict(matplotlib.rcParams)
            texts.append([as_svg(one.figure) for one in draw_all(frame(rows), [], only=["fig4", "map"]) if one.figure])
            assert dict(matplotlib.rcParams) == before
    assert texts[0] == texts[1]
    assert b"noisy-pairs rate" in texts[0][0]  # text as text
    assert b"<dc:date>" not in texts[0][0]


def test_every_format_is_written(frame: Callable, rows: list, tmp_path: Path) -> None:
    drawn = draw_all(frame(rows), [], only=["fig4", "fig1"])
    paths = save_figures(drawn, tmp_path / "new", ("svg", "png", "pdf"))
    assert [path.name for path in paths] == ["vts-fig4.svg", "vts-fig4.png", "vts-fig4.pdf"]
    starts = (b"<?xml", b"\x89PNG", b"%PDF")
    assert all(path.read_bytes().startswith(start) for path, start in zip(paths, starts, strict=True))
    with pytest.raises(RecordsError, match="unknown format gif: use some of svg, png, pdf"):
        save_figures(drawn, tmp_path, ["gif"])


def failed(one: dict[str, Any]) -> dict[str, Any]:
    return one | {name: None for name in one if name.startswith("test_")} | {"status": "failed", "error": "no"}


@pytest.mark.parametrize("case", ["failed", "baselines", "no noise", "one cell", "null"])
def test_a_study_with_nothing_to_show_gives_reasons(frame: Callable, rows: list, row: Callable, case: str) -> None:
    made = {
        "failed": [failed(one) for one in rows],
        "baselines": [one for one in rows if one["objective"] == "random"],
        "no noise": [one for one in rows if one["rho"] == 0],
        "one cell": [failed(row("moco", 0.5, 0.25, "noisy"))],
        "null": [one | {"test_f1_macro": float("nan")} for one in rows],
    }[case]
    drawn = draw_all(frame(made), [])
    figures = [one.name for one in drawn if one.figure is not None]
    assert figures == (["seeds"] if case == "no noise" else [])
    assert all(one.reason for one in drawn if one.figure is None)


def test_one_pairing_has_the_paper_s_scores_but_no_differences(frame: Callable, rows: list) -> None:
    drawn = {one.name: one for one in draw_all(frame([r for r in rows if r["pairing"] != "exposure"]), [])}
    assert isinstance(drawn["fig4"].figure, Figure)
    assert isinstance(drawn["forest-zero"].figure, Figure)
    for name in ("fig8", "fig9", "map", "forest"):
        assert drawn[name].reason == "no cell of pairing exposure was run"
    assert drawn["pairings"].reason == "it has one pairing only, noisy"


def test_no_cell_without_noise_is_missing_not_a_crash(frame: Callable, rows: list) -> None:
    drawn = draw_all(frame([r for r in rows if r["rho"] > 0]), [], only=["fig4", "forest-zero"])
    assert "missing: MoCo" in "".join(text.get_text() for text in drawn[0].figure.texts)  # type: ignore[union-attr]
    assert drawn[1].reason == "none of its 12 cells is done"


def test_studies_of_one_data_set_have_files_of_their_own(frame: Callable, rows: list) -> None:
    twice = [*rows, *(r | {"recipe": "11aa", "key": f"{i:016x}"} for i, r in enumerate(rows))]
    thrice = [*twice, *(r | {"data": "other", "key": f"{i + 999:016x}"} for i, r in enumerate(rows))]
    stems = [one.stem for one in draw_all(frame(thrice), [], only=["fig4"])]
    assert stems == ["vts-00ff-1-fig4", "vts-00ff-2-fig4", "vts-11aa-fig4"]


def test_a_damaged_file_of_curves_costs_its_figure_only(frame: Callable, rows: list, tmp_path: Path) -> None:
    (tmp_path / "curves").mkdir()
    (tmp_path / "curves" / "0.parquet").write_bytes(b"PAR1")
    drawn = draw_all(frame(rows), [tmp_path], only=["curves", "fig4"])
    assert [one.figure is None for one in drawn] == [False, True]
    assert "cannot be read" in drawn[1].reason


def test_the_command_writes_figures_and_says_what_it_could_not(
    rows: list, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    sweep = str(write_summary(tmp_path, rows))
    assert main([sweep, "--only", "fig4", "fig1", "--formats", "svg"]) == 0
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["vts-fig4.svg"]
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("not drawn vts-fig1: ")
    assert second.endswith("vts-fig4.svg")
    assert main([sweep, "--only", "fig8", "--out", str(tmp_path / "other")]) == 0
    assert {path.name for path in (tmp_path / "other").iterdir()} == {"vts-fig8.svg", "vts-fig8.png"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "fig2"], "unknown figure fig2: use some of fig1, "),
        (["--formats", "gif"], "unknown format gif"),
        (["--cells", "77"], "no record has the key 77"),
    ],
)
def test_a_mistake_is_one_line(
    rows: list, classes: tuple, tmp_path: Path, capsys: pytest.CaptureFixture, arguments: list, message: str
) -> None:
    write_record(tmp_path, rows[0], classes)
    assert main([str(tmp_path), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1


def test_an_empty_folder_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: no records in ")
