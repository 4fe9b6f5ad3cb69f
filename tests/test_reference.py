"""The results that ship are those of today's presets, and everything shown follows from their summary."""

import base64
import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis.records.io import compact, read_records, write_record
from benchmarks.reference import __main__
from benchmarks.reference.__main__ import PROBE, PROBES, REFERENCES, command, main, probe_command, show, texts
from benchmarks.reference.verdicts import judged, verdicts
from benchmarks.reference.verdicts import shipped as shipped_in
from sweep.cli import parse
from sweep.config.yaml_io import from_yaml
from sweep.probe import parse as parse_probe
from sweep.probe import probe_of
from tests.analysis.conftest import CLASSES, grid
from tests.helpers.varied import STEPS, TEMPERATURE, sweep, write

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
SHIPPED = shipped_in(RESULTS)

shipped = pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)


def asked(name: str):
    """The sweep that `make reference` runs."""
    return parse(command(name, "images" if REFERENCES[name].needs else None)[3:]).sweep


@pytest.mark.parametrize("name", REFERENCES)
def test_its_command_is_one_that_sweep_run_takes(name):
    sweep = asked(name)
    assert sweep.seeds == (*REFERENCES[name].seeds,)
    assert str(sweep.out) == f"results/reference/{name}"
    assert {"random", "supervised"} <= {*sweep.objectives}


def test_the_page_of_claims_names_each_sweep_and_option_of_a_command_once():
    commands = re.findall(r'ARGS="(.*)"', (RESULTS / "claims.md").read_text(encoding="utf-8"))
    assert commands
    for words in (line.replace(" DIR", "").split() for line in commands):
        assert len(words) == len({*words})


@shipped
def test_results_are_those_of_todays_preset(folder):
    records = read_records(folder / "summary.parquet")
    plan = from_yaml(folder / "sweep.yaml")
    sweep = asked(folder.name)
    assert plan.recipe == sweep.recipe
    assert set(records["recipe"]) == set(sweep.recipes)  # one for each level of a sweep that varies settings
    assert plan.data_root is None
    assert str(plan.out) == f"results/reference/{folder.name}"


@shipped
def test_results_are_whole(folder):
    records = read_records(folder / "summary.parquet")
    assert {*records["key"]} == {cell.key for cell in from_yaml(folder / "sweep.yaml").cells()}
    assert set(records["status"]) == {"done"}
    assert records["commit"].nunique() == 1
    assert re.fullmatch("[0-9a-f]{40}", records["commit"].iloc[0])


@pytest.mark.parametrize("name", [name for name, reference in REFERENCES.items() if reference.probes])
def test_encoders_that_are_probed_further_are_kept_and_the_probes_are_whole(name):
    folder, settings = parse_probe(probe_command(name, None)[3:])
    assert str(folder) == f"results/reference/{name}"
    assert asked(name).keep == ("encoders",)
    if (RESULTS / name / PROBES).is_file():
        records = read_records(RESULTS / name / PROBES)
        assert {*records["key"]} == {cell.key for cell in probe_of(RESULTS / name, settings).cells()}
        assert set(records["status"]) == {"done"}
        assert records["commit"].nunique() == 1


@shipped
def test_tables_and_claims_follow_from_the_summary(folder):
    for name, text in texts(folder).items():
        assert (folder / name).read_text() == text, f"{folder / name}: make it anew with benchmarks.reference"


def test_the_pages_on_all_results_follow_from_the_summaries():
    """Verdicts side by side, each sentence of the paper, and what others have contributed."""
    for path, text in __main__.pages(RESULTS).items():
        assert path.read_text() == text, f"{path}: write it anew with `python -m benchmarks.reference --pages`"


def test_a_finding_that_no_sweep_speaks_of_is_left_out(tmp_path):
    for name, seeds in {"a": 2, "b": 3}.items():
        for row in grid(seeds):
            write_record(tmp_path / name, row, CLASSES)
        compact(tmp_path / name)
    lines = {line.split()[0]: line.split()[1:] for line in verdicts(judged(shipped_in(tmp_path))).splitlines()}
    assert lines["a"] == ["b"]
    assert "moco_exposure" in lines
    assert set(lines["moco_exposure"]) <= {"supported", "contradicted", "undecided"}
    assert "false_positives_hurt" not in lines


def test_levels_of_varied_settings_have_verdicts_side_by_side(tmp_path):
    (tmp_path / "budget").mkdir()
    write(tmp_path / "budget", sweep((2.0, 8.0), (0.07, 0.2), seeds=3), STEPS, TEMPERATURE)
    heading, columns, _, *rows = verdicts(judged([tmp_path / "budget"])).splitlines()
    assert heading == f"budget: {STEPS}, {TEMPERATURE}"
    assert re.split(r" {2,}", columns.strip()) == ["2, 0.07", "2, 0.2", "8, 0.07", "8, 0.2"]
    found = {row.split()[0]: row.split()[1:] for row in rows}
    assert found["full_noise_no_gain"] == ["supported"] * 4
    assert all(len(row) == 4 for row in found.values())


@shipped
def test_its_page_names_the_commit_and_shows_figures_that_are_there(folder):
    page = (folder / "README.md").read_text()
    assert read_records(folder / "summary.parquet")["commit"].iloc[0][:7] in page
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", page)
    assert pictures
    assert all((folder / picture).is_file() for picture in pictures)


def test_no_image_ships():
    """Neither here nor in what others have contributed."""
    for path in RESULTS.rglob("*"):
        assert path.is_dir() or path.suffix in {".md", ".txt", ".yaml", ".parquet", ".svg", ".csv", ".json"}
        text = path.read_text() if path.suffix == ".svg" else ""
        pictures = re.findall(r'<image[^>]*base64,([^"]+)"', text)
        assert len(pictures) == text.count("<image")
        for picture in pictures:  # a colour bar, one colour a row
            pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))))
            assert (pixels == pixels[:, :1]).all(), path


def test_what_is_shown_of_a_sweep_and_the_page_stays(tmp_path):
    for row in grid(2):
        write_record(tmp_path / "records-of", row, CLASSES)
    (tmp_path / "records-of" / "sweep.yaml").write_text(
        "preset: vts-quick\nout: /home/me/out\ndata_root: /home/me\nstore: /mine\nseeds: [0]\n"
    )
    out = tmp_path / "out"
    out.mkdir()
    (out / "README.md").write_text("by hand")
    (out / "figures").mkdir()
    (out / "figures" / "old.svg").touch()
    show(tmp_path / "records-of", out)
    assert (out / "README.md").read_text() == "by hand"
    assert (out / "sweep.yaml").read_text() == (
        "preset: vts-quick\nout: results/reference/out\ndata_root: null\nstore: null\nseeds: [0]\n"
    )
    assert {"sweep.yaml", "summary.parquet", "tables.txt", "claims.txt"} <= {path.name for path in out.iterdir()}
    drawn = {path.name for path in (out / "figures").iterdir()}
    assert "vts-map.svg" in drawn
    assert "old.svg" not in drawn
    assert "supported" in (out / "claims.txt").read_text()
    assert not (out / PROBES).exists()


def test_further_probes_of_a_sweep_are_shown_beside_it(tmp_path):
    write(tmp_path / "losses", sweep((2.0,), (0.07,)), STEPS, TEMPERATURE)
    (tmp_path / "losses" / "sweep.yaml").write_text("preset: vts-quick\n")
    (tmp_path / "losses" / PROBE).mkdir()
    write(tmp_path / "losses" / PROBE, sweep((2.0, 8.0), (0.07,)), STEPS, TEMPERATURE)
    show(tmp_path / "losses", tmp_path / "results" / "losses")
    assert (tmp_path / "results" / "losses" / PROBES).is_file()
    assert "change by steps" in (tmp_path / "results" / "losses" / "probes.txt").read_text()


def test_of_varied_settings_only_the_figures_over_all_levels_are_drawn(tmp_path):
    write(tmp_path / "budget", sweep((2.0, 8.0), (0.07,), seeds=2), STEPS, TEMPERATURE)
    (tmp_path / "budget" / "sweep.yaml").write_text("preset: vts-quick\n")
    show(tmp_path / "budget", tmp_path / "results" / "vts-budget")
    drawn = [path.name for path in (tmp_path / "results" / "vts-budget" / "figures").iterdir()]
    assert [name.rpartition("-")[2] for name in drawn] == ["interaction.svg"]


def test_what_needs_images_is_left_out_or_refused(monkeypatch, capsys):
    ran = []
    monkeypatch.setattr(__main__, "show", lambda folder, out: ran.append(out.name))
    probed = []
    monkeypatch.setattr(__main__, "_run", lambda words: probed.append(words[3]) if words[2] == "sweep.probe" else 0)
    assert main([]) == 0
    assert "vts-quick" in ran
    assert probed == ["results/reference/vts-losses"]
    assert "cifar-quick" not in ran
    assert "cifar-quick: not run, it needs images: name their folder with --cifar DIR" in capsys.readouterr().err
    assert main(["cifar-quick"]) == 2
    assert main(["cifar-quick", "--cifar", "DIR"]) == 0
    assert ran[-1] == "cifar-quick"


def test_a_sweep_that_did_not_end_well_is_not_shown(monkeypatch):
    monkeypatch.setattr(__main__, "show", lambda folder, out: pytest.fail("shown"))
    monkeypatch.setattr(__main__, "_run", lambda words: 130)
    assert main(["vts-quick"]) == 130


def test_what_cannot_be_shown_is_a_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(__main__, "_run", lambda words: 0)
    monkeypatch.setattr(__main__, "ROOT", tmp_path)
    assert main(["vts-quick"]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_a_sweep_that_is_interrupted_ends_by_itself(tmp_path):
    """It gets the same Ctrl-C, and takes a while to keep what it has."""
    kept = tmp_path / "kept"
    sweep = (
        "import os, pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "os.kill(os.getppid(), signal.SIGINT)\n"
        f"time.sleep(1); pathlib.Path({str(kept)!r}).touch(); sys.exit(130)"
    )
    maker = (
        "import signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from benchmarks.reference.__main__ import _run\n"
        f"sys.exit(_run([sys.executable, '-c', {sweep!r}]))"
    )
    ended = subprocess.run([sys.executable, "-c", maker], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 130, ended.stderr
    assert kept.exists()
    assert not ended.stderr


def test_every_reference_that_is_listed_ships():
    listed = re.findall(r"\]\(([\w-]+)/README.md\)", (RESULTS / "README.md").read_text())
    assert sorted(listed) == [folder.name for folder in SHIPPED]


def test_an_unknown_name_is_a_line(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["vts-slow"])
    assert ended.value.code == 2
    assert "unknown reference vts-slow: use some of vts-quick" in capsys.readouterr().err


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *(folder / "README.md" for folder in SHIPPED)], ids=lambda p: p.parent.name
)
def test_intervals_that_a_page_quotes_are_those_of_a_shipped_summary(page):
    """No number that was copied by hand from elsewhere, or left behind by an earlier run."""
    written = re.compile(r"[-+]\d+\.\d \[[-+]\d+\.\d, [-+]\d+\.\d\]")
    files = [path for folder in SHIPPED for path in folder.glob("*.txt")]
    shown = "".join(path.read_text() for path in files)
    quoted = written.findall(page.read_text())
    assert quoted
    assert [number for number in quoted if number not in shown] == []
