"""The numbers of a page of reading, held against sums by hand."""

import pandas as pd
import pytest

from analysis.records.io import read_records, write_record
from analysis.records.studies import studies
from benchmarks.reference.means import contrasts, main, render
from tests.analysis.conftest import CLASSES, grid, made_up


def only(rows):
    (study,) = studies(pd.DataFrame(rows))
    return study


def row_of(text: str, start: str) -> str:
    """The first such line, with single spaces: means over the grid stand above widths and cells."""
    return next(" ".join(line.split()) for line in text.splitlines() if line.strip().startswith(start))


def test_means_and_intervals_by_hand():
    """Seeds 0 and 1 move a cell by 2 and 4 points: 3 +- t(.975, 1 df) times their half difference, 12.7062 times 1."""
    rows = [made_up("moco", 0.0, 0.0, "none", seed, 0.5) for seed in (0, 1)]
    rows += [
        made_up("moco", rho, 0.5, "noisy", seed, 0.5 + (0.02, 0.04)[seed] + shift)
        for seed in (0, 1)
        for rho, shift in ((0.5, 0.01), (1.0, -0.01))
    ]
    text = render(only(rows))
    assert row_of(text, "noisy (nu 0.5) minus rho 0") == "noisy (nu 0.5) minus rho 0 +3.0 [-9.7, +15.7]"
    cells = [" ".join(line.split()) for line in text.splitlines() if line.strip().startswith("noisy minus rho 0  ")]
    assert "noisy minus rho 0 0.5 0.5 +4.0 [-8.7, +16.7]" in cells
    assert "noisy minus rho 0 1 0.5 +2.0 [-10.7, +14.7]" in cells
    assert "noisy minus rho 0 12.7" in cells


def test_a_loss_that_has_no_such_pairs_has_a_dash():
    rows = [*grid(2), made_up("supervised", 0.0, 0.0, "none", 0, 0.8), made_up("supervised", 0.0, 0.0, "none", 1, 0.8)]
    text = render(only(rows))
    assert row_of(text, "rho 0 minus random").startswith("rho 0 minus random +38.5 [")
    assert row_of(text, "noisy (nu 1) minus exposure").startswith("noisy (nu 1) minus exposure - +1.0 [")


def test_many_losses_are_in_tables_one_below_the_other():
    losses = ["moco", "within_image", "cross_image", "byol", "simsiam", "vicreg"]
    rows = [made_up(loss, 0.0, 0.0, "none", 0, 0.5) for loss in losses]
    rows += [made_up(loss, 1.0, 0.5, "noisy", 0, 0.5 + index / 100) for index, loss in enumerate(losses)]
    rows += [made_up("vicreg", 1.0, 0.5, "exposure", 0, 0.5)]
    lines = [" ".join(line.split()) for line in render(only(rows)).splitlines()]
    assert [line for line in lines if "moco" in line or "vicreg" in line] == [
        "moco within_image cross_image byol",
        "simsiam vicreg",
        "rho nu moco within_image cross_image byol",
        "rho nu simsiam vicreg",
    ]
    assert "noisy (nu 0.5) minus rho 0 +0.0 +1.0 +2.0 +3.0" in lines
    assert "noisy (nu 0.5) minus rho 0 +4.0 +5.0" in lines
    assert [line for line in lines if line.startswith("exposure (nu 0.5) minus rho 0")] == [
        "exposure (nu 0.5) minus rho 0 - +0.0"
    ]


def test_both_differences_of_noisy_pairs_are_means_over_one_grid():
    rows = [made_up("moco", 0.0, 0.0, "none", 0, 0.5)]
    rows += [made_up("moco", 1.0, nu, "noisy", 0, 0.5 - 0.1 * nu) for nu in (0.5, 1.0)]
    rows += [made_up("moco", 1.0, nu, "exposure", 0, 0.42 if nu == 1 else 0.4) for nu in (0.5, 1.0)]
    text = render(only(rows))
    assert row_of(text, "noisy (nu 0.5) minus rho 0") == "noisy (nu 0.5) minus rho 0 -5.0"
    assert row_of(text, "noisy (nu 0.5) minus exposure") == "noisy (nu 0.5) minus exposure +5.0"
    assert row_of(text, "noisy (nu 1) minus exposure") == "noisy (nu 1) minus exposure -2.0"
    assert "collapsed" not in text


def test_it_says_how_many_values_rest_on_collapsed_cells():
    rows = [row | {"collapsed": row["objective"] == "moco" and row["rho"] == 0 and row["seed"] == 0} for row in grid()]
    lines = [" ".join(line.split()) for line in render(only(rows)).split("Median")[0].splitlines()]
    resting = lines[lines.index("Values that rest on a collapsed cell") :]
    assert resting[1:4:2] == ["moco", "rho 0 minus random 1 of 3"]
    assert "noisy (nu 0.25) minus rho 0 2 of 6" in resting
    assert not any("noisy (nu 0.25) minus exposure" in line for line in resting)


def test_false_positives_are_held_against_nu_one():
    rows = [made_up("moco", 0.0, 0.0, "none", 0, 0.5)]
    rows += [made_up("moco", 1.0, nu, "noisy", 0, 0.5 - 0.1 * nu) for nu in (0.5, 1.0)]
    rows += [made_up("moco", 1.0, 1.0, "false_positive", 0, 0.3)]
    table = contrasts(only(rows))["noisy minus false_positive"]
    assert table["nu"].tolist() == [1.0]
    assert table["difference"].tolist() == pytest.approx([0.1])
    assert [*contrasts(only(rows))] == [
        "noisy (nu 0.5) minus rho 0",
        "noisy (nu 1) minus rho 0",
        "false_positive minus rho 0",
        "noisy minus false_positive",
    ]


def test_a_cell_that_failed_is_in_no_difference():
    rows = [made_up("moco", 0.0, 0.0, "none", seed, 0.5) for seed in range(3)]
    rows += [made_up("moco", 1.0, 0.5, "noisy", seed, 0.51) for seed in range(2)]
    rows += [made_up("moco", 1.0, 0.5, "noisy", 2, status="failed")]
    assert "+1.0 [+1.0, +1.0]" in row_of(render(only(rows)), "noisy (nu 0.5) minus rho 0")


def test_one_seed_has_no_interval():
    text = render(only(grid(1)))
    assert row_of(text, "noisy (nu 1) minus exposure") == "noisy (nu 1) minus exposure +1.0 +1.0 +1.0"
    assert "half-width" not in text


def test_what_cannot_be_read_is_a_line(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_folders_are_joined(tmp_path, capsys):
    """Noisy pairs in one sweep, other pairs in another: the difference is there when both are named."""
    first = [row for row in grid(2) if row["pairing"] != "exposure"]
    second = [row for row in grid(2) if row["pairing"] == "exposure"]
    for name, rows in {"first": first, "second": second}.items():
        for row in rows:
            write_record(tmp_path / name, row, CLASSES)
    assert len(read_records(tmp_path / "first")) == len(first)
    assert main([str(tmp_path / "first")]) == 0
    assert "minus exposure" not in capsys.readouterr().out
    assert main([str(tmp_path / "first"), str(tmp_path / "second")]) == 0
    assert "+1.0 [+1.0, +1.0]" in row_of(capsys.readouterr().out, "noisy (nu 1) minus exposure")
