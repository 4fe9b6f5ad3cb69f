"""The figures show the numbers of the records, and missing cells."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from analysis.plots import cells, curves, maps, paper_figures, spread, style
from analysis.plots.inputs import Inputs
from analysis.records.io import write_curves, write_record

NONE = Inputs()

# Half the 95% interval of three seeds that lie 1 point apart: t(2) sd / sqrt(n).
HALF = 4.302653 * 1.0 / 3**0.5


@pytest.fixture
def real(row: Callable) -> list[dict[str, Any]]:
    """Real pairs: no nu, two losses, three seeds 1 point apart; noisy is 1, 2, 3 points above exposure by seed."""
    rows = []
    for seed in range(3):
        rows.append(row("random", 0.0, 0.0, "none", seed, 0.2 + 0.01 * seed, dataset="xbd"))
        for loss, base in {"moco": 0.3, "cross_image": 0.4}.items():
            rows.append(row(loss, 0.0, 0.0, "none", seed, base + 0.01 * seed, dataset="xbd"))
            for rho in (0.5, 1.0):
                low = base + 0.02 * rho + 0.01 * seed
                rows.append(row(loss, rho, 0.0, "exposure", seed, low, dataset="xbd"))
                rows.append(row(loss, rho, 0.0, "noisy", seed, low + 0.01 * (seed + 1), dataset="xbd"))
    return rows


def drawn(result: Figure | str) -> Figure:
    assert isinstance(result, Figure), result
    return result


def lines(axes: Axes) -> list[Any]:
    """The lines that connect cells, without horizontal lines and marks of absent cells."""
    return [
        line for line in axes.lines if line.get_gid() is None and len(line.get_xdata()) > 1 and line.get_marker() != "_"
    ]


def bars(axes: Axes) -> list[np.ndarray]:
    """Low and high ends of the error bars of each line, shape (points, 2)."""
    found = [c for c in axes.containers if isinstance(c, ErrorbarContainer)]
    return [np.array([segment[:, 1] for segment in c.lines[2][0].get_segments()]) for c in found]


def words(figure: Figure) -> str:
    texts = [t.get_text() for t in figure.findobj(lambda artist: hasattr(artist, "get_text"))]
    return "\n".join(texts)


def test_fig4_draws_a_line_a_nu_from_rho_zero_on_with_t_intervals(study: Callable, rows: list) -> None:
    (axes,) = drawn(paper_figures.fig4(study(rows), NONE)).axes
    first, second = [line for line in lines(axes) if line.get_linestyle() in ("-", "--") and len(line.get_xdata()) == 3]
    assert np.allclose(first.get_ydata(), [56.0, 57.0 + 0.5 - 0.75, 57.0 + 2.0 - 0.75])
    assert np.allclose(second.get_ydata(), [56.0, 57.0 + 0.5 - 3.0, 57.0 + 2.0 - 3.0])
    assert np.allclose(first.get_xdata(), [0, 0.25, 1], atol=0.03)
    assert first.get_xdata()[0] == 0
    ends = bars(axes)[0]
    assert np.allclose(ends, [[56.75 - HALF, 56.75 + HALF], [58.25 - HALF, 58.25 + HALF]], atol=1e-4)
    (level,) = (line for line in axes.lines if line.get_gid() == "rho-0")
    assert np.allclose(level.get_ydata(), 56.0)


def test_the_random_encoder_is_a_dashed_line_and_its_interval_is_said(study: Callable, rows: list) -> None:
    figure = drawn(paper_figures.fig5(study(rows), NONE))
    for axes in figure.axes:
        (line,) = (line for line in axes.lines if line.get_gid() == "random")
        assert np.allclose(line.get_ydata(), 42.0)
        assert line.get_linestyle() == "--"
    assert f"random encoder 42.0 [{42 - HALF:.1f}, {42 + HALF:.1f}]" in words(figure)


def test_a_baseline_far_off_is_said_and_does_not_stretch_the_axis(study: Callable, rows: list, row: Callable) -> None:
    figure = drawn(paper_figures.fig4(study([*rows, row("supervised", 0.0, 0.0, "none", 0, 0.99)]), NONE))
    assert "supervised 99.0, off the axis" in words(figure)
    assert figure.axes[0].get_ylim()[1] < 80
    failed = row("imagenet", 0.0, 0.0, "none", 0, None, status="failed")
    assert "ImageNet weights: failed" in words(drawn(paper_figures.fig4(study([*rows, failed]), NONE)))


def test_fig1_and_fig7_draw_a_line_a_loss(study: Callable, real: list) -> None:
    (axes,) = drawn(paper_figures.fig1(study(real), NONE)).axes
    moco, cross = lines(axes)
    assert np.allclose(moco.get_ydata(), [31, 34, 35])
    assert np.allclose(cross.get_ydata(), [41, 44, 45])
    (axes,) = drawn(paper_figures.fig7(study(real), NONE)).axes
    for line, ends in zip(lines(axes), bars(axes), strict=True):
        assert np.allclose(line.get_ydata(), 2)
        # The levels of seeds differ, but pairing by seed removes this; the differences are 1 point apart.
        assert np.allclose(ends, [2 - HALF, 2 + HALF], atol=1e-4)
    (level,) = (line for line in axes.lines if line.get_gid() == "zero")
    assert np.allclose(level.get_ydata(), 0)


def test_fig1_of_images_that_are_classified_shows_accuracy_against_false_positives(
    study: Callable, row: Callable
) -> None:
    made = [row("moco", 0.0, 0.0, "none", 0, dataset="cifar10", task="classification", test_accuracy=0.8)]
    kind = {"dataset": "cifar10", "task": "classification"}
    made += [row("moco", rho, 1.0, "false_positive", 0, **kind, test_accuracy=0.8 - rho / 2) for rho in (0.5, 1.0)]
    (axes,) = drawn(paper_figures.fig1(study(made), NONE)).axes
    assert np.allclose(lines(axes)[0].get_ydata(), [80, 55, 30])
    assert axes.get_ylabel() == "test accuracy, %"
    assert isinstance(paper_figures.fig7(study(made), NONE), str)


def test_fig8_and_fig9_draw_noisy_minus_exposure(study: Callable, rows: list) -> None:
    for figure, panels in ((paper_figures.fig8, 1), (paper_figures.fig9, 2)):
        axes = drawn(figure(study(rows), NONE)).axes
        assert len(axes) == panels
        for panel in axes:
            assert all(np.allclose(line.get_ydata(), 1) for line in lines(panel))


@pytest.mark.parametrize(("status", "kept"), [("missing", []), ("failed", [0])])
def test_a_cell_without_a_value_is_a_gap_and_a_mark(study: Callable, rows: list, status: str, kept: list) -> None:
    there = [r for r in rows if (r["objective"], r["rho"], r["nu"], r["pairing"]) != ("moco", 0.25, 1.0, "noisy")]
    gone = [r for r in rows if r not in there]
    there += [gone[i] | {"status": "failed", "test_f1_macro": None} for i in kept]
    for draw in (paper_figures.fig4, paper_figures.fig8):
        figure = drawn(draw(study(there), NONE))
        (mark,) = (line for line in figure.axes[0].lines if line.get_gid() == status)
        assert np.allclose(mark.get_xdata(), 0.25, atol=0.03)
        assert any(np.isnan(line.get_ydata()).any() for line in lines(figure.axes[0]))
        assert f"{status}: MoCo {style.point_label(0.25, 1)}" in words(figure)
    assert style.ABSENT["missing"] != style.ABSENT["failed"]
    figure = drawn(maps.difference_map(study(there), NONE))
    hatched = [p for p in figure.axes[0].patches if p.get_hatch()]
    assert len(hatched) == 1
    assert status in [t.get_text() for t in figure.axes[0].texts]
    assert status in [t.get_text() for t in drawn(maps.forest(study(there), NONE)).axes[0].texts]
    assert status in [t.get_text() for t in drawn(spread.seeds(study(there), NONE)).axes[0].texts]


def test_fewer_seeds_are_said(study: Callable, rows: list) -> None:
    last = next(i for i, r in enumerate(rows) if (r["objective"], r["rho"], r["seed"]) == ("moco", 1.0, 2))
    figure = drawn(paper_figures.fig4(study([*rows[:last], *rows[last + 1 :]]), NONE))
    assert "1 of 5 cells have fewer than 3 seeds" in words(figure)


def test_one_seed_has_points_but_no_intervals(study: Callable, rows: list) -> None:
    one = study([r for r in rows if r["seed"] == 0])
    for draw in (paper_figures.fig4, paper_figures.fig5, paper_figures.fig8, paper_figures.fig9, spread.pairings):
        figure = drawn(draw(one, NONE))
        assert not any(bars(axes) for axes in figure.axes)
        assert "one seed: no interval" in words(figure)
    assert "one seed: no interval" in words(drawn(maps.forest(one, NONE)))
    assert "sd" not in words(drawn(spread.seeds(one, NONE)))


def test_the_map_prints_value_and_seeds(study: Callable, rows: list) -> None:
    figure = drawn(maps.difference_map(study(rows), NONE))
    assert [axes.get_title() for axes in figure.axes[:3]] == ["MoCo", "within-image", "cross-image"]
    for axes in figure.axes[:3]:
        assert [t.get_text() for t in axes.texts] == ["+1.0\nn 3"] * 4
    low, high = figure.axes[3].get_ylim()
    assert np.allclose((low, high), (-1, 1))


def test_the_forest_ends_in_the_mean_over_the_grid(study: Callable, real: list) -> None:
    figure = drawn(maps.forest(study(real), NONE))
    for axes in figure.axes:
        interval, point = (line.get_xdata() for line in axes.lines if line.get_gid() == "mean")
        assert np.allclose(point, 2)
        assert np.allclose(interval, [2 - HALF, 2 + HALF], atol=1e-4)
    against = drawn(maps.forest_zero(study(real), NONE)).axes[0]
    (points,) = (line for line in against.lines if line.get_marker() == "o")
    assert np.allclose(points.get_xdata(), [3, 4])


def test_every_seed_is_a_dot(study: Callable, real: list) -> None:
    figure = drawn(spread.seeds(study(real), NONE))
    dots = {line.get_label(): line for line in figure.axes[0].lines}
    # random, rho 0, then noisy and exposure of each rho.
    assert np.allclose(dots["0"].get_xdata(), [20, 30, 32, 31, 33, 32])
    assert np.allclose(dots["2"].get_xdata(), [22, 32, 36, 33, 37, 34])
    assert [t.get_text() for t in figure.axes[0].texts] == ["sd 1.0"] * 2 + ["sd 2.0", "sd 1.0"] * 2


def test_pairings_stand_side_by_side(study: Callable, real: list, row: Callable) -> None:
    made = [*real, *(row("moco", 0.5, 0.0, "irrelevant", seed, 0.25, dataset="xbd") for seed in range(3))]
    figure = drawn(spread.pairings(study(made), NONE))
    noisy, exposure, irrelevant = (line.get_ydata() for line in lines(figure.axes[0]))
    assert np.allclose(noisy, [31, 34, 35])
    assert np.allclose(exposure, [31, 32, 33])
    assert np.allclose(irrelevant, [31, 25])
    # The other loss was not run with this pairing, so it is missing, not omitted.
    assert "missing: cross-image" in words(figure)


def test_curves_are_means_over_seeds_with_the_plateau(study: Callable, real: list, tmp_path: Path) -> None:
    for made in real:
        if made["objective"] != "random":
            points = [("pretrain", step, "val_loss", 5 - step / 100 + made["seed"]) for step in (50, 100)]
            points += [("pretrain", 100, "plateau", 7.0), ("probe", 10, "val_f1_macro", 0.3)]
            write_curves(tmp_path, made["key"], points)
    inputs = Inputs(folders=[tmp_path])
    figure = drawn(curves.curves(study(real), inputs))
    loss = figure.axes[0]
    assert all(np.allclose(line.get_ydata(), [5.5, 5.0]) for line in lines(loss) if len(line.get_xdata()) == 2)
    (plateau,) = (line for line in loss.lines if line.get_gid() == "plateau")
    assert np.allclose(plateau.get_ydata(), 7)
    assert "3 of 33 cells have no curves" in words(figure)
    assert isinstance(curves.curves(study(real), Inputs(folders=[tmp_path / "other"])), str)


def test_curves_have_a_row_for_each_kind_that_was_recorded(study: Callable, real: list, tmp_path: Path) -> None:
    looks = [("pretrain", step, "knn_val_f1_macro", step / 100) for step in (20, 40)]
    for name, points, labels in (
        ("looks", looks, ["val. F1 of knn, %"]),
        ("probe", [("probe", 10, "val_f1_macro", 0.3)], ["val. F1, %"]),
    ):
        for made in real:
            write_curves(tmp_path / name, made["key"], points)
        figure = drawn(curves.curves(study(real), Inputs(folders=[tmp_path / name])))
        assert [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()] == labels
        assert all(axes.get_title() for axes in figure.axes)
        if name == "looks":
            assert all(np.allclose(line.get_ydata(), [20, 40]) for line in lines(figure.axes[0]))


def test_of_several_folders_only_those_of_the_study_are_read(
    study: Callable, real: list, tmp_path: Path, classes: tuple
) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    for folder, data in ((other, "other"), (mine, "mine")):
        for made in real:
            write_record(folder, made | {"data": data}, classes)
    chosen = study([made | {"data": "mine"} for made in real])
    assert Inputs(folders=[other, mine]).folders_of(chosen) == [mine]


def test_losses_are_told_apart_without_colour() -> None:
    names = ("moco", "within_image", "cross_image")
    assert len({style.line_style(name).marker for name in names}) == 3
    assert len({style.line_style(name).dashes for name in names}) == 3
    assert len({(line.marker, line.dashes) for line in map(style.numbered_style, range(7))}) == 7


def test_a_difference_is_signed_and_never_minus_zero() -> None:
    assert style.signed(0.0123) == "+1.2"
    assert style.signed(-0.0123, 2) == f"{style.MINUS}1.23"
    assert style.signed(-0.00001) == "+0.0"


def test_complete_asks_each_loss_for_what_any_loss_has(study: Callable, row: Callable) -> None:
    table = cells.complete_grid(
        one := study([row("moco", 0.5, 0.25), row("moco", 1.0, 1.0), row("within_image", 0.5, 0.25)]),
        cells.scores(one, "noisy"),
        ["noisy"],
    )
    assert len(table) == 2 * 2 * 2
    assert table["state"].value_counts().to_dict() == {"missing": 5, "done": 3}
    assert table.loc[table["state"] == "done", "n"].eq(1).all()
    assert pd.isna(table.loc[table["state"] == "missing", "estimate"]).all()
