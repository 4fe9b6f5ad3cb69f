"""A loss from outside the repository works with every command."""

import importlib
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from analysis.records.io import read_records
from sweep.config.yaml_io import from_yaml
from tests.helpers.command import ROOT, call
from tests.helpers.shared import made_once

OUTSIDE = Path(__file__).parents[1] / "helpers" / "outside"
LOSS = "mypackage.module:SimClr"
CHANGED = "mypackage.module:SimClr(temperature=0.2, head=('linear', 'a/b'))"
SHORT = (
    *("--pretrain.steps", 4, "--pretrain.warmup", 1, "--pretrain.evaluations", 2, "--probe.steps", 4),
    *("--data.train", 40, "--data.val", 32, "--data.test", 32, "--data.size", 32),
)
GRID = ("vts-smoke", "--rho", 0, 1, "--nu", 0.5, "--pairings", "noisy", "exposure", "--inline")


def command(module, *words):
    """Run a command that can import the outside package."""
    roots = os.pathsep.join([str(OUTSIDE), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": roots},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A sweep's folder, and what the command printed."""

    def sweep(folder):
        done = command("sweep.run", *GRID, "--losses", "random", LOSS, CHANGED, "--out", folder, "--no-report")
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return made_once(tmp_path_factory, "outside", sweep)


@pytest.fixture
def importable(monkeypatch):
    """The outside package can be imported in this process, too."""
    monkeypatch.syspath_prepend(str(OUTSIDE))


def test_it_is_trained_recorded_and_shown(swept):
    folder, text = swept
    records = read_records(folder)
    assert set(records["objective"]) == {"random", LOSS, CHANGED}
    assert records["status"].eq("done").all()
    noisy = records[(records["objective"] == LOSS) & (records["rho"] == 1)]
    assert set(noisy["pairing"]) == {"noisy", "exposure"}
    assert (noisy["noisy_pairs"] == 1).all()
    # The settings in the name are used: the loss of the same cells is another.
    for column in ("pretrain_loss", "pretrain_val_loss"):
        assert set(records.loc[records["objective"] == LOSS, column]).isdisjoint(
            records.loc[records["objective"] == CHANGED, column]
        )
    assert LOSS in text


@pytest.mark.usefixtures("importable")
def test_the_same_command_runs_nothing_more(swept):
    folder, _ = swept
    # A default that is given outright, and white space, make no other loss.
    spelt = [LOSS + "(temperature=0.5)", "mypackage.module:SimClr( head = ('linear', 'a/b'), temperature = 0.2 )"]
    again = call(*GRID, "--losses", "random", *spelt, "--out", folder)
    assert again.returncode == 0, again.stderr
    assert "all 7 cells are recorded already; nothing to run" in again.stdout


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("sweep.status", ()),
        ("sweep.sync", ("--to", "DIR/elsewhere.db")),
        pytest.param("analysis.summary", (), marks=pytest.mark.slow),
        pytest.param("analysis.claims", ("--all",), marks=pytest.mark.slow),
        pytest.param("analysis.figures", ("--out", "DIR/drawn"), marks=pytest.mark.slow),
        ("analysis.report.__main__", ("--format", "md", "--out", "DIR/report.md")),
        ("analysis.compare", ("DIR",)),
    ],
)
@pytest.mark.usefixtures("importable")
def test_every_command_takes_its_records(swept, module, words, tmp_path, capsys):
    folder = shutil.copytree(swept[0], tmp_path / "copy")
    given = [re.sub(r"^DIR/elsewhere", f"sqlite:///{folder}/elsewhere", word) for word in words]
    main = importlib.import_module(module).main
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MLflow and SQLAlchemy, about their own code
        code = main([str(folder), *(word.replace("DIR", str(folder)) for word in given)])
    text = capsys.readouterr()
    assert code == 0, text
    if module in ("sweep.status", "analysis.summary"):
        assert "SimClr" in text.out
    if module == "analysis.claims":  # the paper's claims are not about it
        assert "SimClr" not in text.out
    if module == "analysis.report.__main__":
        assert "SimClr" in (folder / "report.md").read_text()
    if module == "analysis.figures":
        assert list((folder / "drawn").iterdir())


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("mypackage.module:Nothing", "no such class in mypackage.module"),
        ("nopackage:Loss", "nopackage cannot be imported"),
        (LOSS + "(tau=1)", "unknown setting 'tau'"),
        (LOSS + "(lr=-1)", "should be greater than 0"),
        (LOSS + "(head=('linear', 'é'))", "a record cannot hold this name"),
        (LOSS + f"(head=({', '.join(50 * [repr('relu')])}))", "a record cannot hold this name"),
    ],
)
@pytest.mark.usefixtures("importable")
def test_a_mistake_in_its_name_is_one_line(loss, message, tmp_path):
    done = call(*GRID, "--losses", loss, "--out", tmp_path / "out", "--dry-run")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


@pytest.mark.slow
def test_it_is_measured_planned_and_searched(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(OUTSIDE))
    words = ("vts-quick", *SHORT, "--rho", 0, 1, "--nu", 0.5)
    planned = command("sweep.run", *words, "--losses", LOSS, "random", "--out", tmp_path / "out", "--plan")
    assert planned.returncode == 0, planned.stderr
    assert "SimClr" in planned.stdout
    rates = ("--rates", 0.03, 0.3, "--seeds", 100)
    search = command("sweep.lr_search", "vts-quick", *SHORT, "--losses", LOSS, *rates, "--out", tmp_path / "lr")
    assert search.returncode == 0, search.stdout + search.stderr
    (chosen,) = [name for name in from_yaml(tmp_path / "lr" / "chosen.yaml").objectives if "SimClr" in name]
    assert chosen in (LOSS + "(lr=0.03)", LOSS + "(lr=0.3)")
