"""The figure of the interaction shows the table's numbers, a line per loss."""

import numpy as np
import pandas as pd
import pytest

from analysis.figures import draw_all
from analysis.plots.inputs import Inputs
from analysis.plots.interaction import effect_by_setting
from analysis.records.studies import with_interactions
from analysis.stats.assignments import ROLES
from tests.helpers.varied import STEPS, TEMPERATURE, sweep


def drawn(rows):
    whole = next(study for study in with_interactions(pd.DataFrame(rows)) if study.varied)
    return effect_by_setting(whole, Inputs())


def lines_of(axes):
    return {line.get_gid(): line for line in axes.lines if line.get_gid()}


def test_a_row_of_panels_per_effect_and_a_column_per_value_of_the_second_setting():
    figure = drawn(sweep())
    assert [axes.get_title() for axes in figure.axes] == ["dense.temperature 0.07", "dense.temperature 0.2", "", ""]
    for axes in figure.axes:
        found = lines_of(axes)
        assert set(found) == {"moco", "within_image", "zero"}
        assert np.allclose(found["zero"].get_ydata(), 0)
    top = lines_of(figure.axes[0])
    assert np.allclose(top["moco"].get_ydata(), [0.5, 1.5, 2.5])  # points
    assert np.allclose(lines_of(figure.axes[2])["moco"].get_ydata(), [2, 3, 4])
    # Lines lie beside each other, so that intervals do not cover each other.
    assert np.allclose(top["moco"].get_xdata(), [2, 8, 32], rtol=0.1)
    assert (top["moco"].get_xdata() < top["within_image"].get_xdata()).all()


@pytest.mark.parametrize(
    ("steps", "scale", "labels"),
    [
        ((2.0, 8.0, 32.0), "log", ["2", "8", "32"]),
        ((2.0, 4.0, 16.0), "log", ["2", "4", "16"]),  # a factor of 8
        ((2.0, 4.0, 15.0), "linear", ["2", "4", "15"]),
        ((0.0, 4.0, 100.0), "linear", ["0", "4", "100"]),
        (("cosine", "flat"), "linear", ["cosine", "flat"]),
    ],
)
def test_numbers_of_a_wide_span_have_a_logarithmic_axis_and_texts_are_side_by_side(steps, scale, labels):
    figure = drawn(sweep(steps, (0.07,)))
    (above, below) = figure.axes
    assert above.get_xscale() == below.get_xscale() == scale
    figure.draw_without_rendering()
    assert [tick.get_text() for tick in below.get_xticklabels()] == labels
    assert not [tick.get_text() for tick in below.get_xticklabels(minor=True)]
    assert below.get_xlabel() == STEPS


def test_assignments_of_categories_are_followed_by_their_mean():
    roles = ("a,b,c", "a,c,b", "b,c,a")
    rows = [{**row, ROLES: row[STEPS], STEPS: None} for row in sweep(roles, (0.07,))]
    figure = drawn([{**row, "data": row[ROLES]} for row in rows if row["objective"] != "random"])
    figure.draw_without_rendering()
    top = figure.axes[0]
    found = lines_of(top)
    assert np.allclose(found["moco"].get_ydata(), [0.5, 1.5, 2.5])
    assert np.allclose(found["moco mean"].get_ydata(), [1.5])
    assert found["moco mean"].get_xdata() > 2.5
    assert [tick.get_text() for tick in figure.axes[-1].get_xticklabels()] == ["a\nb\nc", "a\nc\nb", "b\nc\na", "mean"]
    assert any("over 3 assignments, which are few" in text.get_text() for text in figure.texts)


def test_a_loss_that_does_not_use_the_setting_is_level():
    rows = [{**row, STEPS: None, "recipe": row["recipe"]} for row in sweep((2.0,), (0.07, 0.2, 0.5))]
    figure = drawn(rows)
    assert figure.axes[1].get_xlabel() == TEMPERATURE
    found = lines_of(figure.axes[0])
    assert np.allclose(found["moco"].get_ydata(), [0.5, 0.5, 0.5])


def test_a_loss_without_exposure_is_in_the_other_panels_only():
    figure = drawn([row for row in sweep() if (row["objective"], row["pairing"]) != ("moco", "exposure")])
    assert [("moco" in lines_of(axes)) for axes in figure.axes] == [True, True, False, False]


def test_nothing_to_compare_is_a_reason_and_so_are_too_many_panels():
    assert drawn([row for row in sweep() if row["rho"] == 0]).startswith("no loss has cells both")
    assert "7 columns of panels" in drawn(sweep((2.0, 8.0), tuple(0.1 * i for i in range(1, 8))))


def test_it_is_drawn_once_and_each_level_has_files_of_its_own():
    found = draw_all(pd.DataFrame(sweep(seeds=1)), [], only=["interaction", "fig4"])
    assert [one.name for one in found] == ["interaction", *["fig4"] * 6]
    assert len({one.stem for one in found}) == 7
    assert found[0].stem == "vts-pretrain.steps-dense.temperature-interaction"
    assert found[1].stem == "vts-pretrain.steps-2-dense.temperature-0.07-fig4"
    assert "{" not in found[0].caption + found[0].title
