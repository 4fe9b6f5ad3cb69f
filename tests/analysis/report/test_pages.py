"""The documentation of records is correct: the table of columns, and all examples of docs/records.md run."""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from analysis.records.io import compact, write_curves, write_record
from analysis.records.schema import columns_markdown
from analysis.stats.groups import STATISTICS
from analysis.summary import main
from tests.analysis.conftest import CLASSES, grid, made_up

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "records.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    results = tmp_path_factory.mktemp("pages") / "results"
    rows = grid(1)
    for each in [*rows, made_up("moco", 1.0, 1.0, "noisy", 9, status="failed")]:
        each["val_f1_macro"] = each["test_f1_macro"]
        write_record(results / "vts-quick", each, CLASSES)
    points = [("pretrain", step, "train_loss", 5.0 - step) for step in range(3)]
    write_curves(results / "vts-quick", rows[1]["key"], points)
    photos = {"source": "folder textures (bark, moss)", "data": "ab", "recipe": "11ee", "classes": ("bark", "moss")}
    for point in (("moco", 0.0, 0.0, "none"), ("moco",), ("moco", 0.5, 0.25, "exposure")):
        write_record(results / "photos", made_up(*point, **photos), ("bark", "moss"))
    compact(results / "vts-quick")
    return results


@pytest.fixture
def results(written, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(written, tmp_path / "results")


def test_the_table_of_columns_is_the_schema():
    assert PAGE.endswith(f"\n\n{columns_markdown()}\n")


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_examples_in_python_run_and_show_something(results, number, capsys):
    code = blocks("python")[number]
    assert "analysis" in code or not re.search(r"import (?!pandas|duckdb|pyarrow)", code)
    exec(compile(code, f"docs/records.md, example {number}", "exec"), {})
    out = capsys.readouterr().out
    assert out.strip()
    assert "Empty" not in out


def test_examples_on_the_command_line_run(results, capsys):
    (block,) = blocks("sh")
    for line in block.splitlines():
        program, *arguments = shlex.split(line.removeprefix("python -m "))
        assert program == "analysis.summary"
        assert main(arguments) == 0, capsys.readouterr().err
    assert {path.name for path in results.iterdir() if path.is_file()} == {"both.parquet", "miou.csv", "points.parquet"}


def shown(results, word):
    """The objects that the first example with this word prints."""
    found = []
    exec(next(code for code in blocks("python") if word in code), {"print": found.append})
    return found[-1]


def test_noisy_minus_exposure_is_one_point_in_each_made_up_cell(results):
    by_hand = shown(results, "# points")
    assert by_hand.to_dict() == pytest.approx(dict.fromkeys(["moco", "within_image", "cross_image"], 1.0))
    in_sql = shown(results, "as pairs").fetchall()
    assert len(in_sql) == 3 * 2
    assert [points for *_, points, _ in in_sql] == pytest.approx([1.0] * 6)
    assert {pairs for *_, pairs in in_sql} == {2}  # two rho, one seed


def test_the_best_encoder_of_each_seed_is_the_best_made_up_one(results, rows):
    best = {}
    for each in rows[:28]:
        if each["objective"] != "random":
            best[each["seed"]] = max(best.get(each["seed"], 0), each["test_f1_macro"])
    assert {seed: f1 for seed, _, f1 in shown(results, "arg_max").fetchall()} == pytest.approx(best)


def test_the_page_explains_each_column_of_the_groups():
    assert all(f"`{name}`" in PAGE for name in STATISTICS)
