"""The sweep that many tests look at."""

import shutil
import time

import pytest
import torch

from sweep.tune import inline, worker
from tests.helpers.command import run
from tests.helpers.shared import made_once

SMOKE = ("vts-smoke", "--workers", 2, "--keep", "encoders")


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """The folder of a `vts-smoke` sweep with its report, and the command that made it. Tests do not change it."""
    return made_once(tmp_path_factory, "smoke", lambda folder: run(*SMOKE, "--out", folder, report=True))


@pytest.fixture
def smoke_copy(smoke, tmp_path):
    """A copy of that folder, which a test may change."""
    return shutil.copytree(smoke[0], tmp_path / "copy of smoke")


@pytest.fixture
def torch_settings_stay():
    """For `--inline` in the tests' process: cells set the number of threads of the process that runs them."""
    threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    yield
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = benchmark


@pytest.fixture
def fake_cells(monkeypatch):
    """Replace cells by a function from the cell's number and the number of its tries to its last report."""

    def replace(report_of):
        tries = {}

        def train(coordinates, job, report, *, needs_gpu, features):
            cell = worker.Cell(**coordinates)
            tries.setdefault(cell.key, []).append(time.monotonic())
            result = report_of(list(tries).index(cell.key), len(tries[cell.key]))
            if isinstance(result, Exception):
                raise result
            scores = {"test_f1_macro": 0.5, "test_miou": 0.5, "test_accuracy": 0.5, "seconds": 1.0}
            record = worker.bare_record(cell).with_values({"status": "done", **scores})
            report(result or {"record": record, "curves": [], "examples": []})

        monkeypatch.setattr(inline, "train", train)
        return tries

    return replace
