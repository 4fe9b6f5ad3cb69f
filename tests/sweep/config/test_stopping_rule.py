"""`--until`: its conditions, its decisions from records, and that it ends. Cells have simulated scores."""

from dataclasses import replace

import numpy as np
import pytest
import yaml

from analysis.records.coverage import COORDINATES, coverage
from analysis.records.io import read_records, recorded_keys, write_record
from analysis.records.schema import to_row
from analysis.stats.sequential import adjusted_level
from datasets.errors import InputError
from datasets.vts.config import CLASSES
from sweep.cli import parse as command
from sweep.config.stopping_rule import EXAMPLE, AddedSeeds, StoppingRule, parse_rule, seed_order
from sweep.config.yaml_io import from_yaml, to_yaml
from sweep.planning.adaptive_seeds import add_seeds, final_lines, max_added_cells, run_adaptively
from sweep.prepare import claim
from sweep.presets import preset
from sweep.signals import StopRequest
from sweep.storage.run_dir import RunDir
from sweep.tune.outcome import Outcome
from sweep.tune.retries import bare_record
from tests.helpers.command import call

PAIRS = {"pairings": ("noisy", "exposure"), "seeds": (0, 1, 2)}


def sweep_in(folder, **changes):
    """vts-smoke with both pairings: three losses and the random encoder."""
    given = PAIRS | {"out": folder, "until": "halfwidth(difference) < 0.02", "max_seeds": 6} | changes
    return replace(preset("vts-smoke"), **given)


def write(sweep, cell, score, status="done"):
    row = to_row(bare_record(cell), CLASSES)
    row |= {"status": status, "version": "v", "versions": "{}", "data": "d", "source": "s", "task": "segmentation"}
    if status == "done":
        row |= dict.fromkeys(["test_f1_macro", "test_miou", "test_accuracy"], score)
    else:
        row["error"] = "ValueError: no"
    write_record(sweep.out, row, CLASSES)


def score_of(cell, spread):
    """A score whose difference between pairings has this spread over seeds, for each loss."""
    drawn = np.random.default_rng([9, cell.seed]).standard_normal()
    return 0.5 + (spread[cell.objective] * drawn if cell.pairing == "noisy" else 0.0)


class Runs:
    """Replaces Ray: records all cells, except those that are lost; some fail."""

    def __init__(self, spread, *, lost=lambda cell: False, fails=lambda cell: False, most=None):
        self.spread, self.lost, self.fails, self.most = spread, lost, fails, most
        self.rounds, self.claimed = [], []

    def __call__(self, sweep, cells):
        self.rounds.append(list(cells))
        for cell in cells:
            if self.most == 0:
                stop = StopRequest(sweep.run_dir)
                stop.signal = 2
                return Outcome(stop=stop)
            self.most = None if self.most is None else self.most - 1
            if not self.lost(cell):
                write(sweep, cell, score_of(cell, self.spread), "failed" if self.fails(cell) else "done")
        return Outcome(counts={"lost": sum(map(self.lost, cells))})


def end(sweep, runs):
    """Like the driver: run missing cells and added seeds; return the final sweep."""
    sweep, _ = add_seeds(sweep)
    known = recorded_keys(sweep.out).status
    missing = [cell for cell in sweep.cells() if cell.key not in known]
    if not missing:
        return sweep
    return run_adaptively(sweep, missing, runs, runs.claimed.append)[0]


SPREAD = {"moco": 0.01, "within_image": 0.0001, "cross_image": 5.0, "random": 0.0}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (EXAMPLE, StoppingRule("difference", 0.01)),
        ("  halfwidth( against_clean )<1e-3 ", StoppingRule("against_clean", 0.001)),
    ],
)
def test_a_condition_is_read(text, found):
    assert parse_rule(text) == found


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--until", "width < 1"], 'write it as "halfwidth(difference) < 0.01", with one of difference, against_clean'),
        (["--until", "halfwidth(difference) > 0.01"], "write it as"),
        (["--until", "halfwidth(difference) < 0.01 and x"], "write it as"),
        (["--until", "halfwidth(f1) < 0.01"], "unknown quantity 'f1', choose from difference, against_clean"),
        (["--until", "halfwidth(difference) < 1"], "1 should be a number between 0 and 1"),
        (["--until", "halfwidth(difference) < nan"], "nan should be a number between 0 and 1"),
        (["--until", "halfwidth(difference) < 1%"], "0.01 is one percentage point"),
        (["--until", EXAMPLE, "--seeds", "0"], "one seed has no interval: start with at least two"),
        (["--until", EXAMPLE, "--seeds", "4", "4"], "one seed has no interval"),
        (
            ["--until", EXAMPLE, "--max-seeds", "0"],
            "--until without --max-seeds: give the largest total number of seeds",
        ),
        (["--until", EXAMPLE, "--max-seeds", "2"], "--max-seeds 2: give the largest total number of seeds, from 3"),
        (["--until", EXAMPLE, "--max-seeds", "9999"], "(--seeds) to 100"),
        (["--until", EXAMPLE, "--seeds", "0", str(2**63 - 4)], "too close to 2^63"),
        (["--until", ""], "--max-seeds 6: only with --until"),
        (["--until", EXAMPLE, "--losses", "random"], "names only baselines"),
        (["--until", EXAMPLE, "--pairings", "noisy"], "needs --pairings noisy exposure, not noisy"),
        (
            ["--until", "halfwidth(against_clean) < .1", "--pairings", "exposure"],
            "needs --pairings noisy, false_positive or",
        ),
        (["--until", "halfwidth(against_clean) < .1", "--rho", "1"], "needs a rate above 0 and 0 in --rho"),
        (["--until", EXAMPLE, "--rho", "0"], "needs a rate above 0 in --rho"),
    ],
)
def test_a_mistake_is_one_line(words, message):
    given = ["vts-quick", "--seeds", "0", "1", "2", "--max-seeds", "6"]
    with pytest.raises(InputError) as error:
        command([*given, *words])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_seeds_go_on_after_the_largest_given():
    assert seed_order((0, 1, 2), 6) == (0, 1, 2, 3, 4, 5)
    assert seed_order((7, 3, 3), 4) == (7, 3, 8, 9)
    assert seed_order((0, 1), 2) == (0, 1)


def test_losses_get_as_many_seeds_as_they_need(tmp_path, capsys):
    runs = Runs(SPREAD)
    sweep = end(sweep_in(tmp_path), runs)
    said = capsys.readouterr().out
    seeds = {name: set(part.seed) for name, part in read_records(tmp_path).groupby("objective")}
    assert seeds["within_image"] == {0, 1, 2}
    assert seeds["cross_image"] == seeds["random"] == set(range(6))
    assert seeds["moco"] == set(range(5))
    # Each round adds one seed, without cells of a loss that is narrow enough.
    assert [{cell.seed for cell in cells} for cells in runs.rounds] == [{0, 1, 2}, {3}, {4}, {5}]
    assert not any(cell.objective == "within_image" for cells in runs.rounds[1:] for cell in cells)
    # The plan is written before it runs, and equals what has run in the end.
    assert [len(one.cells()) for one in runs.claimed[:3]] == list(np.cumsum(list(map(len, runs.rounds)))[1:])
    assert {cell.key for cell in sweep.cells()} == set(read_records(tmp_path).key)
    assert sweep.grown.level == adjusted_level(3, 6)
    assert "cross_image: half-width" in said
    assert "not below 2: seed 3 is added" in said
    assert said.count("within_image: half-width 0.0") == 1
    ended = final_lines(sweep)
    assert "and --max-seeds is 6: no further seed" in ended
    assert "14 seeds were used, all losses together; 6 seeds for every loss would have been 18" in ended


def test_the_decision_depends_on_records_alone(tmp_path):
    whole = end(sweep_in(tmp_path / "whole"), Runs(SPREAD))
    cells = whole.cells()
    first = len(whole.grid(whole.objectives, (0, 1, 2)))
    # Interrupted after so many cells, with and without the written plan.
    for count, keep in ((5, True), (first, False), (len(cells) - 3, True)):
        folder = tmp_path / str(count)
        cut = end(sweep_in(folder), Runs(SPREAD, most=count))
        again = sweep_in(folder, grown=cut.grown if keep else AddedSeeds())
        assert end(again, Runs(SPREAD)).grown == whole.grown
        there, here = (read_records(one).set_index("key").test_f1_macro for one in (whole.out, folder))
        assert there.sort_index().equals(here.sort_index())
    # Repeating the command does nothing.
    runs = Runs(SPREAD)
    assert end(replace(whole, grown=whole.grown), runs).grown == whole.grown
    assert end(sweep_in(whole.out), runs).grown == whole.grown
    assert runs.rounds == []


def test_a_loss_that_fails_gets_no_seeds_and_one_whose_cell_is_lost_waits(tmp_path, capsys):
    runs = Runs(
        SPREAD,
        fails=lambda cell: cell.objective == "cross_image" and cell.rho > 0,
        lost=lambda cell: cell.objective == "moco" and cell.seed == 3,
    )
    sweep = end(sweep_in(tmp_path), runs)
    assert sweep.grown.added == {"moco": (3,), "random": (3,)}
    assert len(runs.rounds) == 2
    said = capsys.readouterr().out
    assert "cross_image: no value after 3 seeds, so further seeds would not help" in said
    # The next command tries the lost ones again, and then goes on.
    after = end(sweep_in(tmp_path), Runs(SPREAD))
    assert set(after.grown.added["moco"]) > {3}
    assert "cross_image" not in after.grown.added


def test_one_failed_cell_does_not_stop_a_loss(tmp_path):
    runs = Runs(SPREAD, fails=lambda cell: cell.objective == "moco" and cell.seed == 0 and cell.rho > 0)
    assert end(sweep_in(tmp_path), runs).grown.added["moco"][0] == 3


def test_stopping_ends_it(tmp_path):
    runs = Runs(SPREAD, most=4)
    _, outcome = run_adaptively(sweep_in(tmp_path), sweep_in(tmp_path).cells(), runs, runs.claimed.append)
    assert outcome.stop.asked
    assert len(runs.rounds) == 1


def test_a_folder_keeps_its_seeds_and_its_level(tmp_path):
    sweep = end(sweep_in(tmp_path), Runs(SPREAD))
    path = tmp_path / "sweep.yaml"
    path.write_text(to_yaml(sweep))
    before = from_yaml(path)
    assert before == sweep
    # A wider target, fewer seeds, other first seeds, no condition: all added seeds are kept.
    for change in (
        {"until": "halfwidth(difference) < 0.5"},
        {"max_seeds": 4},
        {"seeds": (0, 1, 2, 3)},
        {"until": "", "max_seeds": 0},
    ):
        now, _ = add_seeds(sweep_in(tmp_path, **change).continuing(before))
        assert now.grown.level == before.grown.level
        assert {cell.key for cell in before.cells()} <= {cell.key for cell in now.cells()}
    # A narrower target adds seeds, and a larger --max-seeds raises the level.
    runs = Runs(SPREAD)
    more = end(sweep_in(tmp_path, until="halfwidth(difference) < 0.0001", max_seeds=8).continuing(before), runs)
    assert more.grown.level == adjusted_level(3, 8) > before.grown.level
    assert max(more.grown.added["within_image"]) > 2
    assert end(sweep_in(tmp_path, retry_failed=True).continuing(before), runs).grown == before.grown


def test_seeds_that_are_there_already_are_looked_at_one_after_the_other(tmp_path):
    fixed = sweep_in(tmp_path, until="", max_seeds=0, seeds=tuple(range(5)))
    for cell in fixed.cells():
        write(fixed, cell, score_of(cell, SPREAD))
    runs = Runs(SPREAD)
    sweep = end(sweep_in(tmp_path), runs)
    assert {cell.seed for cells in runs.rounds for cell in cells} == {5}
    assert sweep.grown.level == adjusted_level(3, 6)


def test_what_is_added_counts_as_planned_everywhere(tmp_path, capsys):
    sweep = end(sweep_in(tmp_path), Runs(SPREAD))
    plan = yaml.safe_load(to_yaml(sweep))
    records = read_records(tmp_path)
    found = coverage(records[records.seed < 3], [plan])
    assert set(found[COORDINATES].itertuples(index=False, name=None)) == {
        tuple(getattr(cell, name) for name in COORDINATES) for cell in sweep.cells()
    }
    assert sweep.points >= len(sweep.cells())
    fresh = sweep_in(tmp_path / "new")
    assert max_added_cells(fresh) == len(fresh.grid(fresh.objectives, (3, 4, 5)))


def test_a_dry_run_counts_what_was_added_and_what_may_come(tmp_path):
    words = ("vts-smoke", "--pairings", "noisy", "exposure", "--seeds", 0, 1, 2, "--out", tmp_path, "--dry-run")
    done = call(*words, "--until", "halfwidth(difference) < 0.02", "--max-seeds", 6)
    assert done.returncode == 0, done.stderr
    assert "30 distinct cells" in done.stdout
    assert "--until 'halfwidth(difference) < 0.02' may add up to 30 cells" in done.stdout
    claim(RunDir(tmp_path), sweep_in(tmp_path), ["data"])
    end(sweep_in(tmp_path), Runs(SPREAD))
    count = len(read_records(tmp_path))
    assert f"{count} distinct cells" in call(*words, "--until", "halfwidth(difference) < 0.02", "--max-seeds", 6).stdout


@pytest.mark.parametrize("grown", [{"level": 0.5}, {"level": "x"}, {"added": {"moco": "all"}}, {"seeds": 3}])
def test_a_damaged_plan_is_one_line(tmp_path, grown):
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump({"grown": grown}))
    with pytest.raises(InputError, match="grown") as error:
        from_yaml(path)
    assert "\n" not in str(error.value)
