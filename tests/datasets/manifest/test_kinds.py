"""Images of floats, of many bands and with nodata: what has no data does not count, in masks and in the scale."""

import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from datasets.errors import InputError
from datasets.manifest.__main__ import main
from datasets.manifest.preview import stretch_contrast
from datasets.manifest.source import open_data
from sweep.cli import parse
from tests.helpers.fake_pairs import SMALL, Rows, data, line, listed, load, own_store, pixels, save, sound

FIXTURES = (data, own_store)  # pytest finds them by their names


def floats(folder: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """A list of six pairs of float32 with nodata of -9999 in the first rows, and the pixels by name of file."""
    rows, images = sound(folder, ending=".tif"), {}
    for number, row in enumerate(rows):
        for column in ("image", "partner"):
            image = np.random.default_rng([number, len(column)]).normal(5, 2, (32, 32, 3)).astype(np.float32)
            image[: number + 1] = -9999
            images[row[column]] = image
            tags = [(42113, "s", 0, "-9999", True)]
            tifffile.imwrite(folder / row[column], image, photometric="rgb", extratags=tags)
    return listed(folder / "pairs.csv", rows), images


def test_floats_are_kept_and_what_has_no_data_is_ignored(data: Path) -> None:
    path, images = floats(data)
    with pytest.raises(InputError, match=r"3 bands and signed or floating-point numbers need --data\.mean"):
        load(path)
    source = load(path, replace(SMALL, mean=(5.0,) * 3, std=(2.0,) * 3))
    assert source.store.dtype == "float32"
    first, mask = source.store.image()[:4], source.store.mask()[:4]
    expected = images["before/0.tif"].copy()
    expected[:1] = np.nan
    np.testing.assert_array_equal(first[0], expected[:16, :16])
    assert (mask[:2, 0] == 255).all()
    assert (mask[:2, 1:] != 255).all()
    found = open_data(SMALL, source, 0, torch.device("cpu")).validation(torch.arange(2), labelled=True)
    assert found.first.isfinite().all()
    assert (found.first[0, :, :4] == 0.5).all()  # the mean: tile 0 of pair 3, whose first four rows have no data
    assert found.first_labels is not None
    assert (found.first_labels[0, :4] == 255).all()


def test_check_gives_the_scale_of_what_has_data(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, images = floats(data)
    assert main(["check", str(path), "--size", "16"]) == 0
    command = capsys.readouterr().out.rstrip().splitlines()[-1]
    training = [(n, images[f"{side}/{n}.tif"]) for n in range(3) for side in ("before", "after")]
    known = np.concatenate([image[n + 1 :].reshape(-1, 3) for n, image in training])
    recipe = parse(shlex.split(command)[3:]).sweep.recipe
    np.testing.assert_allclose(recipe.data.mean, known.mean(axis=0), rtol=1e-3)
    np.testing.assert_allclose(recipe.data.std, known.std(axis=0), rtol=1e-3)


def test_a_preview_stretches_floats_and_shows_nodata_in_black() -> None:
    image = np.random.default_rng(0).normal(1e-4, 1e-5, (2, 16, 16, 3)).astype(np.float32)
    image[0, :3] = np.nan
    shown = stretch_contrast(image)
    assert (shown[0, :3] == 0).all()
    assert 0.4 < shown[0, 3:].mean() < 0.6
    assert (stretch_contrast(np.full_like(image, np.nan)) == 0).all()


def test_nodata_of_whole_numbers_is_what_the_flag_says(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = sound(data)
    for number, row in enumerate(rows):
        image = np.dstack([pixels(number), np.full((32, 32, 1), 255, np.uint8)])
        image[:2] = 0
        save(data / row["image"], image)
        partner = pixels(99 + number)
        partner[:, :3] = 7
        partner[5, 5, 0] = 7  # one band of three
        save(data / row["partner"], partner)
    path = listed(data / "pairs.csv", rows)
    plain = load(path)
    assert (plain.store.mask() != 255).all()
    found = load(path, replace(SMALL, nodata=("alpha", "7")))
    assert found.store.fingerprint != plain.store.fingerprint
    assert (found.store.mask()[0, :2] == 255).all()
    assert (found.store.mask()[0, 2:] != 255).all()
    assert (found.store.partner_mask()[0, :, :3] == 255).all()
    assert (found.store.partner_mask()[0, :, 3:] != 255).all()
    assert main(["check", str(path), "--size", "16", "--nodata", "alpha", "7"]) == 0
    assert "--data.nodata alpha 7 " in capsys.readouterr().out


def test_alpha_that_no_image_has_is_refused(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = listed(data / "pairs.csv", sound(data))
    assert main(["check", str(path), "--size", "16", "--nodata", "alpha"]) == 2
    assert "--data.nodata alpha, but no image has a band of alpha; leave it out" in capsys.readouterr().err


def test_negative_numbers_may_have_an_exponent(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = listed(data / "pairs.csv", sound(data))
    assert main(["check", str(path), "--size", "16", "--nodata", "-3.4e38", "-9999"]) == 0
    assert "--data.nodata -3.4e38 -9999 " in capsys.readouterr().out


def test_bands_are_chosen_by_number(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows: Rows = sound(data, bands=6, ending=".tif")
    path = listed(data / "pairs.csv", rows)
    source = load(path, replace(SMALL, select=(6, 1, 2)))
    np.testing.assert_array_equal(source.store.image()[0], pixels(0, bands=6)[:16, :16, [5, 0, 1]])
    with pytest.raises(InputError, match=r"row 2: image before/0\.tif: has 6 bands, but --data\.select names band 7"):
        load(path, replace(SMALL, select=(7, 1, 2)))
    with pytest.raises(InputError) as error:
        replace(SMALL, select=(1, 2))
    assert "--data.select 1 2: 2 bands, but --data.bands is 3" in line(error)
    with pytest.raises(InputError, match=r"--data\.nodata 'none': give a number, or alpha"):
        replace(SMALL, nodata=("none",))
    assert main(["check", str(path), "--size", "16", "--select", "6", "1", "2"]) == 0
    assert "--data.select 6 1 2 " in capsys.readouterr().out
