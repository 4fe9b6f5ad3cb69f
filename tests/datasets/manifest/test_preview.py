"""`preview` draws every kind of image, noisy and clean pairs, and what differs between the two images of a pair."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from datasets.manifest import preview
from datasets.manifest.__main__ import main
from datasets.manifest.config import ManifestSettings
from datasets.panels import DPI
from datasets.tiles.pairs import PairFiles
from datasets.types import IGNORED
from tests.helpers.fake_pairs import faulty, listed, load, pixels, sound


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("bands", "dtype", "masks"), [(1, "uint8", True), (3, "uint8", False), (3, "uint16", True), (13, "uint16", True)]
)
def test_every_kind_of_image_is_drawn(tmp_path: Path, bands: int, dtype: str, masks: bool) -> None:
    rows = sound(tmp_path, bands=bands, dtype=dtype, ending=".tif")
    if not masks:
        rows = [{**row, "mask": "", "partner_mask": ""} for row in rows]
    out, path = tmp_path / "new" / "preview.png", listed(tmp_path / "pairs.csv", rows)
    words = ["preview", str(path), "--size", "16", "--bands", str(bands), "--out", str(out)]
    assert main([*words, "--pairs", "2"]) == 0
    with Image.open(out) as picture:
        small = picture.size
    assert main([*words, "--pairs", "4"]) == 0
    with Image.open(out) as picture:
        assert picture.size[0] == small[0]
        assert picture.size[1] > small[1]
        assert picture.size[0] == round(3.5 * DPI) * (5 if masks else 2)


def test_preview_draws_what_can_be_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["preview", str(faulty(tmp_path)), "--size", "16", "--pairs", "12"]
    assert main([*words, "--out", str(tmp_path / "a.png")]) == 0
    told = capsys.readouterr().err
    assert "2 problems, which `check` lists" in told
    assert "left out: row 4" in told
    assert "left out: row 2" not in told
    assert main([*words, "--out", str(tmp_path / "a.nonsense")]) == 2
    assert "a.nonsense" in capsys.readouterr().err


@pytest.mark.parametrize("out", ["folder", "picture"])
def test_a_picture_has_a_name_that_says_its_format(
    tmp_path: Path, out: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = listed(tmp_path / "pairs.csv", sound(tmp_path))
    (tmp_path / "folder").mkdir()
    with pytest.raises(SystemExit) as ended:
        main(["preview", str(path), "--size", "16", "--out", str(tmp_path / out)])
    assert ended.value.code == 2
    assert f"{out}: name the picture to write, as in " in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.png.png"))
    assert not (tmp_path / "folder.png").exists()


@given(st.lists(st.sampled_from([True, False, None]), min_size=1, max_size=30), st.integers(1, 30), st.integers(0, 99))
def test_as_many_noisy_pairs_as_others_are_drawn_as_far_as_there_are(kinds, number, seed) -> None:
    pairs = [
        PairFiles(name=str(n), image=Path("a"), partner=Path("b"), split="train", noisy=noisy)
        for n, noisy in enumerate(kinds)
    ]
    chosen = preview.sample_pairs(pairs, number, seed)
    assert len({pair.name for pair in chosen}) == len(chosen) == min(number, len(pairs))
    noisy = sum(pair.noisy is True for pair in chosen)
    others = len(chosen) - noisy
    assert abs(noisy - others) <= 1 or kinds.count(True) == noisy or len(kinds) - kinds.count(True) == others
    assert chosen == preview.sample_pairs(pairs, number, seed)


def test_the_tile_that_is_shown_is_a_noisy_one_where_there_is_one(tmp_path: Path) -> None:
    rows = [{**row, "noisy": ""} for row in sound(tmp_path)]
    settings = ManifestSettings(size=16, noisy_classes=(2,))
    store = load(listed(tmp_path / "pairs.csv", rows), settings).store
    shown = store.tiles.iloc[preview.representative_tiles(store)]
    assert shown["pair"].tolist() == store.pairs["pair"].tolist()
    assert shown["noisy"].tolist() == [True, False] * 3


def test_both_images_are_stretched_alike_and_rgb_stays_as_it_is() -> None:
    dark = np.full((4, 4, 4), 1000, np.uint16)
    bright = np.full((4, 4, 4), 3000, np.uint16)
    drawn = preview.stretch_contrast(np.stack([dark, bright]))
    assert drawn.shape == (2, 4, 4, 3)
    assert drawn[0].max() == 0
    assert drawn[1].min() == 1
    flat = preview.stretch_contrast(np.stack([dark, dark]))
    assert np.isfinite(flat).all()
    rgb = np.stack([pixels(0, 4), pixels(1, 4)])
    np.testing.assert_array_equal(preview.stretch_contrast(rgb), rgb / 255)


def test_colours_of_classes_differ_from_those_of_ignored_pixels() -> None:
    assert len({preview.color(label) for label in (*range(1, 7), IGNORED)}) == 7
    assert preview.color(7) == preview.color(1)
