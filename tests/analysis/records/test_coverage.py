"""Missing cells of a grid, by the written plan and by the recorded grid."""

import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.records.coverage import COORDINATES, coverage
from analysis.records.plan import read_plan
from sweep.config.grid import Axes, expand
from trainables.recipe import Recipe

SHARES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=3, unique=True)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from(["moco", "cross_image", "random", "supervised"]), min_size=1, unique=True),
    SHARES,
    SHARES,
    st.lists(st.sampled_from(["noisy", "exposure", "false_positive", "misregistration"]), min_size=1, unique=True),
    st.lists(st.integers(0, 3), min_size=1, max_size=2, unique=True),
)
def test_a_plan_spans_the_cells_that_the_sweep_would_run(objectives, rho, nu, pairings, seeds):
    axes = Axes(tuple(objectives), tuple(rho), tuple(nu), tuple(pairings), tuple(seeds))
    cells = expand(axes, dataset="vts", recipe=Recipe())
    wanted = {tuple(getattr(cell, name) for name in COORDINATES) for cell in cells}
    plan = {"objectives": objectives, "rho": rho, "nu": nu, "pairings": pairings, "seeds": seeds}
    none = pd.DataFrame([{"dataset": "vts", "status": "done", "error": None} | vars(cells[0])])
    found = coverage(none, [plan])
    assert set(found[COORDINATES].itertuples(index=False, name=None)) == wanted
    assert len(found) == len(wanted)
    assert (found.status == "missing").sum() == len(wanted) - 1


def test_a_point_that_another_loss_has_is_missing_of_a_loss_that_lacks_it(rows, frame):
    records = frame([one for one in rows if not (one["objective"] == "moco" and one["rho"] == 1)])
    found = coverage(records)
    missing = found[found.status == "missing"]
    assert set(zip(missing.objective, missing.rho, strict=True)) == {("moco", 1.0)}
    assert len(missing) == 2 * 2 * 3


def test_data_of_real_pairs_have_no_nu(row, frame):
    records = frame([row(rho=0.5, nu=0.0, dataset="xbd")])
    plan = {"objectives": ["moco"], "rho": [0, 0.5, 1], "nu": [], "pairings": ["noisy", "exposure"], "seeds": [0]}
    found = coverage(records, [plan])
    assert found.value_counts("status").to_dict() == {"missing": 4, "done": 1}
    assert set(found.nu) == {0.0}


def test_without_a_plan_the_recorded_grid_tells(rows, frame):
    records = frame(rows)
    gone = (records.objective == "moco") & (records.rho == 1) & (records.seed == 2)
    records.loc[records.index[0], ["status", "error"]] = ["failed", "ValueError: no"]
    found = coverage(records[~gone])
    assert found.value_counts("status").to_dict() == {"done": 84 - 4 - 1, "missing": 4, "failed": 1}
    assert set(found[found.status == "missing"].objective) == {"moco"}
    assert found.loc[found.status == "failed", "error"].tolist() == ["ValueError: no"]


@pytest.mark.parametrize(
    "text", [None, "a: [", "just words", "\xff", "rho: 0.5", "objectives: moco", "nu: [a]", "seeds: [[1]]"]
)
def test_a_plan_that_cannot_be_read_is_none(tmp_path, text):
    if text is not None:
        (tmp_path / "sweep.yaml").write_text(text, encoding="latin-1")
    assert read_plan(tmp_path) == {}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump({"preset": "vts-quick"}))
    assert read_plan(tmp_path) == {"preset": "vts-quick"}
