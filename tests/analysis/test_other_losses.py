"""Losses that are not in the paper appear in every table and figure, and do not change verdicts."""

import itertools

import pandas as pd
import pytest
from matplotlib.colors import to_hex

from analysis import claims, compare, figures, names, summary
from analysis.figures import draw_all
from analysis.plots import style
from analysis.records.coverage import coverage
from analysis.records.io import compact, read_records, recorded_keys, write_record
from analysis.records.plan import read_plan
from analysis.report.__main__ import main as report
from analysis.tables import WIDTH, render
from tests.analysis.conftest import CLASSES, grid, made_up, write_summary
from tests.analysis.test_figures import _check_layout
from tests.helpers.readers import READERS

REGISTERED = "simclr"
MODULE = "my_package.losses:MyLoss"
OPTIONS = "my_package.losses:MyLoss(lr=0.3, kind='a/b')"

#: Cells of the added loss.
CELLS = 4 * (1 + 3 * 2 * 2)


def with_other(name, rows):
    """The rows, and a loss that is not in the paper, at other points and with one more seed."""
    added = [made_up(name, 0.0, 0.0, "none", seed, 0.7 + 0.01 * seed) for seed in range(4)]
    for seed, rho, nu, pairing in itertools.product(range(4), (0.25, 0.75, 1.0), (0.25, 1.0), ("noisy", "exposure")):
        added.append(made_up(name, rho, nu, pairing, seed, 0.7 - 0.2 * rho + 0.01 * seed))
    return [*rows, *added]


def write(folder, rows, classes):
    for row in rows:
        write_record(folder, row, classes)
    return folder


@pytest.fixture(scope="module", params=[REGISTERED, OPTIONS])
def name(request):
    return request.param


@pytest.fixture(scope="module")
def folder(tmp_path_factory, name):
    return write(tmp_path_factory.mktemp("sweep"), with_other(name, grid(1)), CLASSES)


def test_a_record_is_read_back_whatever_its_loss_is_called(folder, name):
    assert name in set(read_records(folder)["objective"])
    assert len(recorded_keys(folder).status) == len(with_other(name, grid(1)))
    compact(folder)
    assert read_records(folder / "summary.parquet")["objective"].isin([name]).sum() == CELLS


@pytest.mark.parametrize("read", READERS)
def test_each_reader_decodes_its_name(folder, name, read):
    assert [row["objective"] for row in read(folder / "records")].count(name) == CELLS


def test_a_path_holds_no_sign_that_a_shell_or_a_file_system_minds(folder):
    for path in (folder / "records").rglob("*"):
        assert not set(path.name.replace("=", "", 1)) & set(":()='/, \\*?\"<>|")


def test_verdicts_are_those_without_it(frame, name):
    without = claims.claims_table(claims.judge(frame(grid())))
    pd.testing.assert_frame_equal(claims.claims_table(claims.judge(frame(with_other(name, grid())))), without)
    parts = [claims.parts_table(claims.judge(frame(rows))) for rows in (grid(), with_other(name, grid()))]
    pd.testing.assert_frame_equal(*parts)


def test_ones_own_data_are_judged_by_the_papers_losses_too(frame, name):
    def judged(rows):
        return claims.claims_table(claims.judge(frame([{**row, "dataset": "mine"} for row in rows])))

    pd.testing.assert_frame_equal(judged(with_other(name, grid())), judged(grid()))


def test_a_study_without_the_papers_losses_has_no_verdict(frame, name):
    rows = with_other(name, [])
    assert {j.verdict for j in claims.judge(frame(rows))} == {"not applicable"}
    assert {j.verdict for j in claims.judge(frame([{**row, "dataset": "mine"} for row in rows]))} == {"not applicable"}


def test_tables_have_it_behind_the_papers(frame):
    text = render(frame(with_other(REGISTERED, grid())))
    first = [line.split()[0] for line in text.splitlines() if line.startswith("  ") and line.strip("- ")]
    assert [*dict.fromkeys(word for word in first if word in (*names.OBJECTIVES, REGISTERED))] == [
        *("random", "moco", "within_image", "cross_image"),
        REGISTERED,
    ]
    assert text.count(f"\n  {REGISTERED} ") == 4  # scores, noisy minus exposure, against random, plateaus


def test_long_names_leave_room_for_numbers(frame):
    rows = with_other("a_rather_long_package.with_modules.losses:MyLoss(temperature=0.07)", grid())
    lines = render(frame(rows)).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert sum("MyLoss(temperature=0.07)" in line for line in lines) == 4


def test_every_command_takes_it(tmp_path, capsys):
    name = OPTIONS
    folder = write_summary(tmp_path, with_other(name, grid()))
    assert summary.main([str(folder), "--by", "objective", "pairing"]) == 0
    assert names.table_name(name) in capsys.readouterr().out
    assert summary.main([str(folder)]) == 0
    assert claims.main([str(folder), "--all"]) == 0
    assert compare.main([str(folder), str(folder), "--all"]) == 0
    assert f"{name} rho 0" in capsys.readouterr().out
    assert report([str(folder), "--format", "md"]) == 0
    text = (tmp_path / "report.md").read_text()
    assert f"| {name} | noisy |" in text
    assert figures.main([str(folder), "--only", "pairings", "--formats", "svg"]) == 0
    assert names.display_name(name) in (tmp_path / "figures" / "vts-pairings.svg").read_text()


def test_coverage_counts_its_cells(name, frame, tmp_path):
    axes = f"rho: [0.0, 0.25]\nnu: [0.25]\npairings: [noisy]\nseeds: [0, 7]\nobjectives: [{name!r}]\n"
    axes = axes if "'" not in name else axes.replace(repr(name), '"' + name + '"')
    (tmp_path / "sweep.yaml").write_text(axes)
    cells = coverage(frame(with_other(name, grid())), [read_plan(tmp_path)])
    planned = cells[(cells["objective"] == name) & (cells["seed"] == 7)]
    assert set(planned["rho"]) == {0.0, 0.25}
    assert set(planned["status"]) == {"missing"}


def test_figures_of_four_losses_are_legible(frame):
    name = OPTIONS
    drawn = {one.name: one for one in draw_all(frame(with_other(name, grid())), [])}
    for one in drawn.values():
        if one.figure is not None:
            _check_layout(one.name, one.figure)
    assert drawn["fig5"].title == "Dense and other losses: test macro F1 by noisy-pairs rate"
    titles = [axes.get_title() for axes in drawn["fig5"].figure.axes]
    assert titles == ["within-image", "cross-image", names.display_name(name)]
    assert len(drawn["fig4"].figure.axes) == 1


def test_losses_have_colours_of_their_own_on_pairs_without_nu(frame):
    rows = [{**row, "nu": 0.0} for row in with_other(REGISTERED, grid()) if row["nu"] != 1]
    rows += [
        {**row, "objective": MODULE, "key": f"{i:016x}"}
        for i, row in enumerate(with_other(REGISTERED, []))
        if row["nu"] != 1
    ]
    rows = [{**row, "nu": 0.0, "dataset": "xbd"} for row in rows]
    (drawn,) = draw_all(frame(rows), [], only=["fig1"])
    legend = drawn.figure.legends[0]
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels[:5] == ["MoCo", "within-image", "cross-image", "MyLoss", "SimCLR"]
    handles = legend.legend_handles[:5]
    assert len({to_hex(handle.get_color()) for handle in handles}) == 5


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("moco", "MoCo"),
        ("simclr", "SimCLR"),
        ("sim_clr", "sim clr"),
        (MODULE, "MyLoss"),
        (OPTIONS, "MyLoss(lr=0.3, kind='a/b')"),
        ("simclr(weight_decay=1)", "simclr(weight_decay=1)"),
        ("simclr(kind=a:b)", "simclr(kind=a:b)"),
        ("a:Loss(" + "x" * 60 + ")", "Loss(" + "x" * 24 + "..."),
    ],
)
def test_names_are_shortened_to_what_tells_them_apart(name, shown):
    assert names.display_name(name) == shown


def test_styles_of_other_losses_differ_in_colour_and_in_grey():
    losses = [f"loss{i}" for i in range(8)]
    styles = [style.line_style(name, losses) for name in losses] + [style.line_style(name) for name in names.LOSSES]
    assert len({one.colour for one in styles}) == len({one.marker for one in styles}) == 11


ELEVEN = ("rince", "rince_within", "byol", "simsiam", "vicreg", "densecl", "pixpro", OPTIONS)


@pytest.mark.parametrize("nus", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_figures_of_eleven_losses_are_legible(frame, nus):
    rows = grid()
    for name in ELEVEN:
        rows = with_other(name, rows)
    rows = [row for row in rows if nus == 2 or row["nu"] in (0, 1)]
    for one in draw_all(frame(rows), [], only=["fig5", "seeds"] if nus == 1 else ()):
        if one.figure is not None:
            _check_layout(one.name, one.figure)
            _check_apart(one.name, one.figure)


def _check_apart(name, figure):
    """No panel, with its title, labels and ticks, reaches into another."""
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    for one, other in itertools.combinations(boxes, 2):
        across = min(one.x1, other.x1) - max(one.x0, other.x0)
        down = min(one.y1, other.y1) - max(one.y0, other.y0)
        assert min(across, down) <= 1, (name, one, other)
