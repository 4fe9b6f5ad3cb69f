"""Every command takes `~` in a path, which shells leave as it is in `--out=~/x`, and refuses an empty path."""

import pytest

from analysis import claims, compare, figures, summary
from analysis.publish import __main__ as publish
from analysis.report import __main__ as report
from datasets.manifest import __main__ as manifest
from datasets.vts import __main__ as vts
from datasets.xbd import __main__ as xbd
from sweep import status, sync
from sweep.doctor import __main__ as doctor

COMMANDS = {
    "claims": (claims.main, ["PATH"]),
    "compare": (compare.main, ["PATH", "."]),
    "compare reference": (compare.main, [".", "PATH"]),
    "figures": (figures.main, ["PATH"]),
    "figures --out": (figures.main, [".", "--out=PATH"]),
    "publish": (publish.main, ["PATH", "--out", "x"]),
    "publish --out": (publish.main, [".", "--out", "PATH"]),
    "report": (report.main, ["PATH"]),
    "report --out": (report.main, [".", "--out", "PATH"]),
    "summary": (summary.main, ["PATH"]),
    "summary --out": (summary.main, [".", "--out", "PATH"]),
    "status": (status.main, ["PATH"]),
    "sync": (sync.main, ["PATH"]),
    "doctor --out": (doctor.main, ["--out=PATH"]),
    "doctor --data-root": (doctor.main, ["--data-root", ".", "PATH"]),
    "manifest check": (manifest.main, ["check", "PATH"]),
    "manifest check --store": (manifest.main, ["check", "pairs.csv", "--store", "PATH"]),
    "manifest preview --out": (manifest.main, ["preview", "pairs.csv", "--out", "PATH"]),
    "vts --preview": (vts.main, ["--preview", "PATH"]),
    "vts --data-root": (vts.main, ["--preview", "a.png", "--data-root", "PATH"]),
    "xbd prepare": (xbd.main, ["prepare", "PATH"]),
    "xbd prepare --store": (xbd.main, ["prepare", ".", "--store=PATH"]),
    "xbd preview --out": (xbd.main, ["preview", ".", "--out", "PATH"]),
    "xbd manifest --out": (xbd.main, ["manifest", ".", "--out", "PATH"]),
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    ("path", "message"),
    [("", "is empty: give a path"), ("~no-such-user/x", "no home folder ~no-such-user is known")],
)
def test_a_path_that_means_nothing_is_refused_before_anything_is_done(name, path, message, capsys):
    main, words = COMMANDS[name]
    with pytest.raises(SystemExit) as exited:
        main([word.replace("PATH", path) for word in words])
    assert exited.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "name",
    ["claims", "compare", "figures", "publish", "report", "summary", "status", "sync", "manifest check", "xbd prepare"],
)
def test_home_is_where_the_system_says(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    main, words = COMMANDS[name]
    assert main([word.replace("PATH", "~/nowhere") for word in words]) == 2
    assert str(tmp_path / "nowhere") in capsys.readouterr().err
