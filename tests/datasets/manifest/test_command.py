"""`check` tells every fault, or what there is and how to go on."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from datasets.manifest import __main__
from datasets.manifest.__main__ import band_statistics, main
from datasets.manifest.config import ManifestSettings
from datasets.manifest.source import load
from datasets.source import Place
from sweep.cli import parse
from tests.helpers.fake_pairs import faulty, listed, pixels, save, sound


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def table(output: str, first: str) -> list[str]:
    """The words of the line that begins with a word."""
    return next(line.split() for line in output.splitlines() if line.startswith(first))


def test_a_sound_manifest_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = listed(tmp_path / "pairs.csv", sound(tmp_path))
    assert main(["check", str(path), "--size", "16"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("pairs.csv (6 pairs, 24 tiles of 16 px)")
    assert table(output, "north") == ["north", "3", "0", "0"]
    assert table(output, "south") == ["south", "0", "2", "1"]
    assert table(output, "all pairs")[2:] == ["3", "2", "1"]
    assert table(output, "train ") == ["train", "12", "4", "8", "66.7", "100.0"]
    assert table(output, "val ") == ["val", "8", "4", "4", "50.0", "100.0"]
    assert table(output, "test ") == ["test", "4", "4", "0", "0.0", "100.0"]
    # Of three training pairs two are noisy: half of each mask is class 1, the other half class 2 or, if clean, 0.
    assert [table(output, f"class_{label}")[1] for label in range(3)] == ["16.667", "50.000", "33.333"]


@pytest.mark.parametrize(
    ("bands", "dtype", "ending"), [(3, "uint8", ".png"), (1, "uint16", ".png"), (4, "uint16", ".tif")]
)
def test_mean_and_deviation_are_those_of_the_training_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bands: int, dtype: str, ending: str
) -> None:
    path = listed(tmp_path / "pairs.csv", sound(tmp_path, bands=bands, dtype=dtype, ending=ending))
    assert main(["check", str(path), "--size", "16", "--bands", str(bands)]) == 0
    output = capsys.readouterr().out
    words = table(output, "--data.mean")
    training = np.concatenate([pixels(seed, 32, bands, dtype).reshape(-1, bands) for seed in range(6)]).astype(float)
    np.testing.assert_allclose([float(word) for word in words[1 : 1 + bands]], training.mean(axis=0), rtol=1e-4)
    np.testing.assert_allclose([float(word) for word in words[2 + bands :]], training.std(axis=0), rtol=1e-4)
    command = output.rstrip().splitlines()[-1]
    assert (" ".join(words) in command) == (bands != 3 or dtype == "uint16")


def test_a_band_that_is_the_same_everywhere_gets_a_deviation_of_one(tmp_path: Path) -> None:
    rows = sound(tmp_path)
    for number, row in enumerate(rows):
        for column, seed in (("image", 2 * number), ("partner", 2 * number + 1)):
            image = pixels(seed)
            image[..., 1] = 77
            save(tmp_path / row[column], image)
    source = load(ManifestSettings(size=16), Place(root=listed(tmp_path / "pairs.csv", rows)))
    mean, deviation, constant = band_statistics(source.store, np.flatnonzero(source.split == 0))
    assert (mean[1], deviation[1], constant) == (77, 1, [2])
    assert deviation[0] > 50


def test_of_a_large_set_some_tiles_give_the_scale(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = listed(tmp_path / "pairs.csv", sound(tmp_path))
    told = []
    for enough in (12, 5, 0):
        monkeypatch.setattr(__main__, "ENOUGH", enough * 2 * 16 * 16 * 3)
        assert main(["check", str(path), "--size", "16"]) == 0
        told.append(re.search(r"mean and std of each band of (.*) training tiles", capsys.readouterr().out).group(1))
    assert told == ["all", "5 of 12", "1 of 12"]
    rows = np.arange(3, 90, 3)
    few = __main__.sample_rows(rows, 7)
    assert len(set(few.tolist()) & set(rows.tolist())) == 7


@pytest.mark.parametrize(
    ("sample", "flags", "names"),
    [
        ({}, [], None),
        ({"bands": 1}, ["--bands", "1"], None),
        ({"bands": 5, "dtype": "uint16", "ending": ".tif"}, ["--data.bands", "5"], None),
        ({}, ["--noisy-classes", "2", "--classes", "soil", "house", "ruin"], ("soil", "house", "ruin")),
    ],
)
def test_the_command_that_comes_next_is_one_that_the_sweep_takes(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    sample: dict,
    flags: list[str],
    names: tuple[str, ...] | None,
) -> None:
    path = listed(tmp_path / "my pairs.csv", sound(tmp_path, **sample))
    store = tmp_path / "stores"
    assert main(["check", str(path), "--size", "16", "--store", str(store), "--skip-bad", *flags]) == 0
    words = shlex.split(capsys.readouterr().out.rstrip().splitlines()[-1])
    assert words[:3] == ["python", "-m", "sweep.run"]
    sweep = parse(words[3:]).sweep
    before = {file: file.stat().st_mtime_ns for file in store.rglob("*.npy")}
    source = load(sweep.recipe.data, sweep.place)
    assert before == {file: file.stat().st_mtime_ns for file in store.rglob("*.npy")}  # what was made is used
    assert source.store.size == 16
    assert source.classes == (names or ("class_0", "class_1", "class_2"))
    assert sweep.skip_bad


def test_without_noisy_pairs_the_next_command_has_rho_0_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{**row, "noisy": "no"} for row in sound(tmp_path)]
    assert main(["check", str(listed(tmp_path / "pairs.csv", rows)), "--size", "16"]) == 0
    words = shlex.split(capsys.readouterr().out.rstrip().splitlines()[-1])
    assert parse(words[3:]).sweep.rho == (0.0,)


def test_listings_headers_and_pixels_are_told_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = faulty(tmp_path)
    assert main(["check", str(path), "--size", "16"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    lines = told.err[told.err.index("datasets.manifest: ") :].splitlines()
    assert lines[0].startswith(f"datasets.manifest: {path}: 3 problems; ")
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["row 2", "row 4", "row 5"]
    assert "does not exist" in lines[1]
    assert "after/2.png: is cut off" in lines[2]
    assert "noisy 'maybe'" in lines[3]


def test_bad_rows_are_left_out_and_named_if_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(faulty(tmp_path)), "--size", "16", "--skip-bad"]) == 0
    output = capsys.readouterr().out
    assert [line.split(":")[1].strip() for line in output.splitlines() if line.startswith("left out")] == [
        "row 2",
        "row 4",
        "row 5",
    ]
    assert "pairs.csv (9 pairs" in output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["check", "absent.csv"], "absent.csv: cannot be read"),
        (["check", "absent.csv", "--bands", "14"], "--data.bands 14: should be less than or equal to 13"),
        (["preview", "absent.csv", "--out", "a.png", "--pairs", "51"], "--pairs 51: must be from 1 to 50"),
        (["preview", "absent.csv", "--out", "a.png", "--seed", "-1"], "--seed -1"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    told = capsys.readouterr()
    assert told.err.startswith("datasets.manifest: ")
    assert message in told.err
    assert told.err.count("\n") == 1
