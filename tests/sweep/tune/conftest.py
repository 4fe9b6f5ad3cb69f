"""A recorder that receives events as from Tune."""

from types import SimpleNamespace

import pytest

from datasets.vts.config import CLASSES
from sweep.presets import preset
from sweep.signals import StopRequest
from sweep.storage.run_dir import RunDir
from sweep.tune.console import Console
from sweep.tune.recorder import Provenance, Recorder
from sweep.tune.tracker import TrialTracker

PROVENANCE = Provenance(
    classes=CLASSES, commit="c", version="v", data="d", source="s", task="segmentation", base=None, settings={}
)


class Silent:
    """Stands for MLflow."""

    def __getattr__(self, name):
        return lambda *what: None


@pytest.fixture
def sweep(tmp_path):
    return type(preset("vts-smoke"))(**{**vars(preset("vts-smoke")), "out": tmp_path / "out"})


@pytest.fixture
def stop(tmp_path):
    return StopRequest(RunDir(tmp_path / "stop"))


@pytest.fixture
def make_recorder(sweep, stop):
    """Provenance -> a recorder with its tracker."""

    def make(origin=PROVENANCE):
        tracker = TrialTracker()
        recorder = Recorder(sweep.run_dir, lambda cell: origin, Silent(), Console(), stop, running=tracker.running)
        tracker.listeners = [recorder]
        recorder.tracker = tracker
        return recorder

    return make


@pytest.fixture
def recorder(make_recorder):
    return make_recorder()


def trial(cell):
    return SimpleNamespace(
        trial_id=cell.key, config={"cell": vars(cell)}, error_file="e.txt", num_failures=11, max_failures=10
    )
