"""The score against the measured nu; and misregistered pairs in figures and claims that show others."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.findings.verdicts import judge
from analysis.plots import cells, paper_figures, spread
from analysis.plots.inputs import Inputs
from analysis.plots.measured_nu import score_by_measured_nu
from analysis.records.studies import studies, with_interactions

NONE = Inputs()


def mixed(row: Callable[..., dict[str, Any]], **changes: Any) -> list[dict[str, Any]]:
    """MoCo at rho 0, with noise at two nu, and misregistered."""
    made = []
    for seed in range(2):
        shift = 0.01 * seed
        made.append(row("moco", 0.0, 0.0, "none", seed, 0.5 + shift, **changes))
        for rho in (0.5, 1.0):
            for nu in (0.25, 1.0):
                score = 0.5 - 0.1 * nu * rho + shift
                made.append(row("moco", rho, nu, "noisy", seed, score, nu_measured=nu - shift, **changes))
            made.append(row("moco", rho, 0.0, "misregistration", seed, 0.4 * rho, nu_measured=0.1, **changes))
    return made


def drawn(result: Figure | str) -> Figure:
    assert isinstance(result, Figure), result
    return result


def lines(axes: Axes) -> list[Any]:
    """The lines of cells, without the caps of their intervals."""
    return [line for line in axes.lines if line.get_marker() != "_"]


def test_points_are_the_scores_at_the_largest_rho_at_their_measured_nu(row: Callable) -> None:
    (study,) = studies(pd.DataFrame(mixed(row)))
    (axes,) = drawn(score_by_measured_nu(study, NONE)).axes
    noisy, misregistered, zero = lines(axes)
    np.testing.assert_allclose(noisy.get_xdata(), [0, 24.5, 99.5])
    np.testing.assert_allclose(noisy.get_ydata(), [50.5, 48, 40.5])
    np.testing.assert_allclose(misregistered.get_xdata(), [0, 10])
    np.testing.assert_allclose(misregistered.get_ydata(), [50.5, 40])
    np.testing.assert_allclose(zero.get_ydata(), [50.5])


def test_all_amounts_of_a_sweep_that_varies_them_are_in_one_figure(row: Callable) -> None:
    made = []
    for number, amount in enumerate((2.0, 4.0)):
        level = {"recipe": f"{number:016x}", "base": "00ff", "data.shift": amount}
        made.append(row("moco", 0.0, 0.0, "none", 0, 0.5, **level))
        made.append(row("moco", 1.0, 0.0, "misregistration", 0, 0.4 - number / 10, nu_measured=amount / 10, **level))
    (whole, *levels) = with_interactions(pd.DataFrame(made))
    assert whole.varied == ("data.shift",)
    (axes,) = drawn(score_by_measured_nu(whole, NONE)).axes
    np.testing.assert_allclose(lines(axes)[0].get_xdata(), [0, 20, 40])
    np.testing.assert_allclose(lines(axes)[0].get_ydata(), [50, 40, 30])
    assert len(levels) == 2


def test_records_without_it_have_no_such_figure(row: Callable) -> None:
    made = pd.DataFrame(mixed(row))
    for older in (made.drop(columns="nu_measured"), made.assign(nu_measured=None)):
        (study,) = studies(older)
        assert "no record has a measured nu" in str(score_by_measured_nu(study, NONE))


def test_misregistered_cells_are_in_each_panel_and_alone_they_are_the_noisy_ones(row: Callable) -> None:
    (study,) = studies(pd.DataFrame(mixed(row)))
    assert [block.nu for block in cells.blocks(study)] == [0.25, 1.0]
    for panel in drawn(spread.pairings(study, NONE)).axes:
        np.testing.assert_allclose(lines(panel)[1].get_ydata(), [50.5, 20, 40])
    assert cells.pairing_of(study) == "noisy"
    (alone,) = studies(pd.DataFrame([one for one in mixed(row) if one["pairing"] != "noisy"]))
    assert cells.pairing_of(alone) == "misregistration"
    np.testing.assert_allclose(lines(drawn(paper_figures.fig1(alone, NONE)).axes[0])[0].get_ydata(), [50.5, 20, 40])


@pytest.mark.parametrize("dataset", ["vts", "xbd"])
def test_no_claim_is_about_misregistered_pairs(row: Callable, dataset: str) -> None:
    made = mixed(row, dataset=dataset)
    said = []
    for rows in (made, [one for one in made if one["pairing"] != "misregistration"]):
        judged = judge(pd.DataFrame(rows))
        said.append(
            [(j.finding.key, j.verdict, str(j.p), j.values, [str(part.estimate) for part in j.parts]) for j in judged]
        )
    assert said[0] == said[1]
    assert any(values for *_, values, _ in said[0])
