import io

import pandas as pd
import pytest
import yaml

from analysis.compare import main
from tests.analysis.conftest import CLASSES, grid, write_summary


def sweep(folder, rows, recipe: dict | None = None):
    write_summary(folder, rows)
    if recipe is not None:
        (folder / "sweep.yaml").write_text(yaml.safe_dump({"recipe": recipe}))
    return folder


def on(rows, data: str | None = "f00d", **changes):
    return [row | {"data": data} | changes for row in rows]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return sweep(tmp_path_factory.mktemp("reference"), on(grid(3)), {"pretrain": {"steps": 240}})


def test_the_same_records_are_the_same_numbers(reference, capsys):
    assert main([str(reference), str(reference)]) == 0
    out = capsys.readouterr().out
    assert "84 of the 84 cells in both are identical, bit for bit" in out
    assert out.rstrip().endswith("agrees: same cells, same numbers")


def test_a_run_has_records_and_a_reference_that_ships_its_summary_alone(one_seed, reference, capsys):
    assert main([str(one_seed), str(reference)]) == 0
    assert main([str(one_seed), str(reference / "summary.parquet")]) == 0
    assert "agrees" in capsys.readouterr().out


def test_what_differs_is_named_and_is_exit_code_1(reference, tmp_path, capsys):
    rows = [r | {"test_f1_macro": r["test_f1_macro"] - 0.2 * (r["objective"] == "moco")} for r in on(grid(3))]
    assert main([str(sweep(tmp_path / "run", rows)), str(reference)]) == 1
    out = capsys.readouterr().out
    conclusion = out.rstrip().split("\n")[-1]
    assert conclusion.startswith("differs, corrected for the number of comparisons, in: ")
    assert "all cells in both; moco rho 0; " in conclusion
    assert "within_image" not in conclusion
    shown = [line for line in out.split("\n") if line.startswith("  moco rho 0 ") and "minus" not in line]
    assert shown
    assert shown[0].endswith("differs")


def test_verdicts_that_are_opposite_are_named(reference, tmp_path, capsys):
    def turned(row):
        worse = row["pairing"] == "noisy" and row["objective"] != "random"
        return row | {"test_f1_macro": row["test_f1_macro"] - 0.1 * worse}

    assert main([str(sweep(tmp_path / "run", map(turned, on(grid(3))))), str(reference)]) == 1
    assert ": contradicted; in the reference supported" in capsys.readouterr().out


def test_other_data_are_said_and_compared_as_other_draws(reference, tmp_path, capsys):
    run = sweep(tmp_path / "run", on(grid(1), data="beef"))
    assert main([str(run), str(reference)]) == 0
    out = capsys.readouterr().out
    assert "the data may differ" in out
    assert "bit for bit" not in out
    assert "seeds 0; the reference's 0 1 2" in out


def test_another_device_is_said(tmp_path, capsys):
    one = sweep(tmp_path / "one", on(grid(1), device="a CPU"))
    other = sweep(tmp_path / "other", on(grid(1), device="a GPU"))
    main([str(one), str(other)])
    assert "note: device is a CPU; in the reference a GPU" in capsys.readouterr().out


def test_one_seed_of_other_data_cannot_say(tmp_path, capsys):
    one, other = (sweep(tmp_path / data, on(grid(1), data=data)) for data in ("beef", "f00d"))
    assert main([str(one), str(other)]) == 2
    assert "cannot say: no common number has an interval" in capsys.readouterr().out


def test_another_recipe_is_refused_with_what_differs(reference, tmp_path, capsys):
    run = sweep(tmp_path / "run", on(grid(1), recipe="beef"), {"pretrain": {"steps": 300}})
    assert main([str(run), str(reference)]) == 2
    said = capsys.readouterr().err
    assert "no recipe is in both" in said
    assert "pretrain.steps is 300 in the run, 240 in the reference" in said
    assert said.count("\n") == 1


def test_another_recipe_without_a_plan_is_named_by_its_fingerprint(reference, tmp_path, capsys):
    run = sweep(tmp_path / "run", on(grid(1), recipe="beef"))
    assert main([str(run), str(reference)]) == 2
    assert (
        "vts (test macro F1) of recipe beef in the run, vts (test macro F1) of recipe 00ff in the reference"
        in capsys.readouterr().err
    )


def test_what_is_not_in_both_is_counted(reference, tmp_path, capsys):
    rows = [row for row in on(grid(2)) if row["objective"] in ("moco", "random")]
    assert main([str(sweep(tmp_path / "run", rows)), str(reference)]) == 0
    out = capsys.readouterr().out
    assert "20 of the 20 cells in both" in out
    assert "only in one, or on other data: 0 cells of the run, 64 of the reference" in out
    assert "same cells" not in out


def test_cells_that_failed_are_a_difference(reference, tmp_path, capsys):
    broken = {"status": "failed", "error": "ValueError: no", **{f"test_f1_{name}": None for name in CLASSES}}
    broken |= {"test_f1_macro": None, "test_miou": None, "test_accuracy": None}
    rows = [row | broken if row["objective"] == "moco" else row for row in on(grid(3))]
    assert main([str(sweep(tmp_path / "run", rows)), str(reference)]) == 1
    out = capsys.readouterr().out
    assert "27 cells failed in the run but are done in the reference" in out
    assert "differs, corrected for the number of comparisons, in: cells that failed" in out


def test_an_odd_sweep_yaml_is_a_line(reference, tmp_path, capsys):
    run = sweep(tmp_path / "run", on(grid(1), recipe="beef"))
    (run / "sweep.yaml").write_text('recipe: {"a\\e[31m\\nb": 1}')
    assert main([str(run), str(reference)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "\x1b" not in said
    (run / "sweep.yaml").write_text("recipe: [1, 2]")
    assert main([str(run), str(reference)]) == 2
    assert "of recipe beef in the run" in capsys.readouterr().err


def test_a_folder_without_records_is_a_line(reference, tmp_path, capsys):
    assert main([str(tmp_path / "none"), str(reference)]) == 2
    assert capsys.readouterr().err.startswith("error: no records in ")


def test_every_cell_is_shown_when_asked(reference, capsys):
    main([str(reference), str(reference), "--all"])
    whole = capsys.readouterr().out
    main([str(reference), str(reference)])
    part = capsys.readouterr().out
    assert "cross_image rho 0.25 nu 1 exposure" in whole
    assert "cross_image rho 0.25 nu 1 exposure" not in part
    assert "and 28 cells inside their intervals, or without an interval (show them with --all)" in part


def test_csv_is_the_table(reference, capsys):
    main([str(reference), str(reference), "--format", "csv"])
    table = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert {"name", "run", "reference", "difference", "low", "high", "p_holm", "verdict", "study"} <= {*table.columns}
    assert (table["difference"] == 0).all()
