"""The parent run in MLflow: differences, and lines of the score against rho."""

import warnings

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from sweep.presets import preset
from sweep.tracking.connection import connect
from sweep.tracking.parent_metrics import parent_metrics
from tests.analysis.conftest import grid, made_up


def lines(rows):
    found = parent_metrics(pd.DataFrame(rows))
    return {name: line for name, line in found.items() if isinstance(line, dict)}


def test_a_line_for_each_loss_nu_and_pairing_is_the_mean_over_seeds():
    found = lines(grid(3))
    section = "test_f1_macro by 100 rho 3 seeds/"
    assert all(name.startswith(section) for name in found)
    assert len(found) == 1 + 3 * 2 * 2
    assert found[f"{section}random"] == pytest.approx({0: 0.42, 100: 0.42})
    assert found[f"{section}moco nu 0.25 noisy"] == pytest.approx({0: 0.56, 25: 0.5675, 100: 0.5825})
    assert found[f"{section}moco nu 0.25 exposure"] == pytest.approx({0: 0.56, 25: 0.5575, 100: 0.5725})


def test_a_point_that_lacks_a_seed_is_left_out():
    rows = [row for row in grid(3) if (row["objective"], row["rho"], row["seed"]) != ("moco", 1.0, 2)]
    assert lines(rows)["test_f1_macro by 100 rho 3 seeds/moco nu 0.25 noisy"].keys() == {0, 25}


def test_pairs_without_nu_and_levels_of_a_setting_have_names_of_their_own():
    rows = [made_up("moco", rho, 0.0, "noisy" if rho else "none", dataset="xbd") for rho in (0.0, 1.0)]
    assert list(lines(rows)) == ["test_f1_macro by 100 rho 1 seed/moco noisy"]
    varied = [
        {**row, "recipe": f"0{steps}", "base": "b0", "pretrain.steps": float(steps)} for steps in (2, 4) for row in rows
    ]
    assert [name.rpartition("noisy")[2] for name in lines(varied)] == ["_pretrain.steps_2.0", "_pretrain.steps_4.0"]


@pytest.mark.filterwarnings("ignore")  # of SQLAlchemy, about MLflow's own tables
def test_mlflow_gets_each_step_once_and_a_sweep_that_grows_begins_another_section(tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    for seeds in (1, 1, 2):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tracking = connect(uri, preset("vts-smoke"), own=True)
        tracking.end(True, parent_metrics(pd.DataFrame(grid(seeds))), [])
    client = MlflowClient(uri)
    for seeds, name in ((1, "1 seed"), (2, "2 seeds")):
        name = f"test_f1_macro by 100 rho {name}/moco nu 0.25 noisy"
        points = client.get_metric_history(tracking.parent, name)
        expected = lines(grid(seeds))[name]
        assert {point.step: point.value for point in points} == pytest.approx(expected)
        assert len(points) == len(expected)
    assert "noisy_minus_exposure_moco_mean" in client.get_run(tracking.parent).data.metrics
