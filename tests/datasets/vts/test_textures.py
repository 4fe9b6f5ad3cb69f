import io
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from datasets.errors import InputError
from datasets.vts import textures
from tests.helpers.real import real

NAMES = ("bark", "moss", "sand")


def save(path: Path, pixels: np.ndarray, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def random_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for c, name in enumerate(NAMES):
        for m in range(4):
            save(tmp_path / "set" / name / f"{m}.png", random_image(20 + m, 30, seed=10 * c + m))
    return tmp_path / "set"


@pytest.fixture(scope="module")
def bank() -> textures.TextureBank:
    return textures.make_procedural(32)


def message(error: pytest.ExceptionInfo[InputError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


# --- packing and splitting


def test_packing_gives_back_each_image() -> None:
    images = [[random_image(5 + m, 9 - c, seed=10 * c + m) for m in range(4 + c)] for c in range(3)]
    bank = textures.pack("folder", NAMES, images, enlarged=2)
    flat = [image for of_one in images for image in of_one]
    assert len(bank.offset) == len(flat) == 15
    for m, image in enumerate(flat):
        np.testing.assert_array_equal(bank.image(m), image)
        assert np.shares_memory(bank.image(m), bank.pixels)
    assert bank.category.tolist() == [0] * 4 + [1] * 5 + [2] * 6
    assert (bank.source, bank.categories, bank.enlarged) == ("folder", NAMES, 2)


def test_fingerprint_sees_names_shapes_and_pixels() -> None:
    images = [[random_image(4, 6, seed=4 * c + m) for m in range(4)] for c in range(3)]
    changed = [[image.copy() for image in of_one] for of_one in images]
    changed[2][3][0, 0, 0] ^= 1
    turned = [[image.reshape(6, 4, 3) for image in of_one] for of_one in images]
    made = [
        textures.pack("folder", NAMES, images),
        textures.pack("folder", ("bark", "moss", "silt"), images),
        textures.pack("folder", NAMES, changed),
        textures.pack("folder", NAMES, turned),
    ]
    assert len({bank.fingerprint for bank in made}) == 4
    assert all(len(bank.fingerprint) == 16 and int(bank.fingerprint, 16) >= 0 for bank in made)
    assert textures.pack("dtd", NAMES, images).fingerprint == made[0].fingerprint


def test_split_of_120_is_60_36_24(bank: textures.TextureBank) -> None:
    split = textures.split_images(bank, np.random.default_rng(0))
    assert {part: [len(chosen) for chosen in by_category] for part, by_category in split.items()} == {
        "train": [60] * 4,
        "val": [36] * 4,
        "test": [24] * 4,
    }


@given(st.tuples(*[st.integers(4, 60)] * 3), st.integers(0, 2**32))
def test_splits_are_disjoint_cover_all_and_lack_no_category(counts: tuple[int, int, int], seed: int) -> None:
    bank = textures.pack("folder", NAMES, [[np.zeros((1, 1, 3), np.uint8)] * n for n in counts])
    split = textures.split_images(bank, np.random.default_rng(seed))
    again = textures.split_images(bank, np.random.default_rng(seed))
    for c in range(3):
        parts = [split[part][c] for part in ("train", "val", "test")]
        assert min(map(len, parts)) >= 1
        assert sorted(np.concatenate(parts)) == np.flatnonzero(bank.category == c).tolist()
        assert all(np.array_equal(split[part][c], again[part][c]) for part in split)


def test_three_images_cannot_be_split() -> None:
    with pytest.raises(InputError, match=r"'moss' has 3 images.*at least 4") as error:
        textures.pack("folder", NAMES, [[random_image(2, 2)] * n for n in (4, 3, 4)])
    message(error)


# --- a folder of one's own


def test_folder_reads_sorted_whatever_the_extension(root: Path) -> None:
    save(root / "moss" / "0b.PNG", random_image(20, 20, seed=99))
    save(root / "moss" / "z.JpEg", random_image(20, 20))
    (root / "moss" / "notes.txt").write_text("no image")
    (root / "moss" / ".0.png").write_text("what macOS leaves behind")
    bank = textures.load_folder(root, ("moss", "bark", "sand"), min_side=16)
    assert np.bincount(bank.category).tolist() == [6, 4, 4]
    assert bank.height[:6].tolist() == [20, 20, 21, 22, 23, 20]
    np.testing.assert_array_equal(bank.image(1), random_image(20, 20, seed=99))
    np.testing.assert_array_equal(bank.image(6), random_image(20, 30, seed=0))
    assert (bank.source, bank.enlarged) == ("folder", 0)


def test_no_names_take_the_three_subfolders(root: Path) -> None:
    (root / "readme.txt").write_text("a file is no category")
    assert textures.load_folder(root, (), min_side=8).categories == NAMES
    (root / "extra").mkdir()
    with pytest.raises(InputError, match="bark, extra, moss, sand") as error:
        textures.load_folder(root, (), min_side=8)
    message(error)


def test_what_is_not_read_is_said(root: Path) -> None:
    assert textures.load_folder(root, NAMES, min_side=8).notes == (
        "these are not the images of DTD: results on them are not results on DTD",
    )
    save(root / "moss" / "a.webp", random_image(20, 20))
    save(root / "moss" / "b.TIF", random_image(20, 20))
    save(root / "moss" / "more" / "0.png", random_image(20, 20))  # a folder in a category
    save(root / "clay" / "0.png", random_image(20, 20))  # a category that nobody named
    save(root / ".cache" / "0.png", random_image(20, 20))
    bank = textures.load_folder(root, NAMES, min_side=8)
    assert np.bincount(bank.category).tolist() == [4, 4, 4]
    assert bank.notes[-1] == (
        "images that are not read: 1 in clay (such as 0.png), 2 in moss (such as a.webp), 1 in moss/more "
        "(such as 0.png)"
    )


def test_a_category_of_other_files_says_what_there_is(root: Path) -> None:
    for path in (root / "moss").iterdir():
        path.rename(path.with_suffix(".tif"))
    with pytest.raises(
        InputError, match=r"moss has no images that are read, but 4 files such as 0\.tif; put \.jpg"
    ) as error:
        textures.load_folder(root, NAMES, min_side=8)
    message(error)


def test_every_kind_of_image_becomes_rgb(root: Path) -> None:
    colour = random_image(20, 30)
    grey = colour[..., 0]
    alpha = np.dstack([colour, np.full((20, 30), 128, np.uint8)])
    save(root / "bark" / "0.png", grey)
    save(root / "bark" / "1.png", alpha)
    save(root / "bark" / "2.png", grey.astype(np.uint16) * 257)
    Image.fromarray(colour).quantize(4).save(root / "bark" / "3.png", transparency=b"\0\x80\xff\xff")
    bank = textures.load_folder(root, NAMES, min_side=8)
    np.testing.assert_array_equal(bank.image(0), np.repeat(grey[..., None], 3, 2))
    np.testing.assert_array_equal(bank.image(1), colour)
    np.testing.assert_array_equal(bank.image(2), bank.image(0))
    assert bank.image(3).shape == (20, 30, 3)


def test_exif_rotation_is_applied(root: Path) -> None:
    pixels = random_image(20, 30)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown after a quarter turn clockwise
    save(root / "bark" / "0.png", pixels, exif=exif)
    np.testing.assert_array_equal(textures.load_folder(root, NAMES, min_side=8).image(0), np.rot90(pixels, -1))


def test_small_images_are_enlarged_to_min_side_and_counted(root: Path) -> None:
    bank = textures.load_folder(root, NAMES, min_side=22)  # heights are 20, 21, 22, 23 in each category
    assert bank.enlarged == 6
    assert bank.height[:4].tolist() == [22, 22, 22, 23]
    assert bank.width[:4].tolist() == [33, 31, 30, 30]


def test_scale_shrinks_before_enlarging(root: Path) -> None:
    save(
        root / "bark" / "0.png",
        np.indices((40, 60)).sum(0).astype(np.uint8)[..., None].repeat(3, 2) % 2 * 255,
    )
    bank = textures.load_folder(root, NAMES, min_side=10, scale=0.5)
    assert (bank.height[0], bank.width[0]) == (20, 30)
    assert bank.image(0)[4:-4, 4:-4].std() < 10  # antialiased: a checkerboard of single pixels turns grey
    assert textures.load_folder(root, NAMES, min_side=20, scale=0.5).enlarged == 11


def damage_missing_root(root: Path) -> str:
    shutil.rmtree(root)
    return str(root)


def damage_root_is_a_file(root: Path) -> str:
    shutil.rmtree(root)
    root.write_text("")
    return f"{root} is a file"


def damage_missing_category(root: Path) -> str:
    (root / "moss").rename(root / "lichen")
    return "moss; it has bark, lichen, sand"


def damage_empty_category(root: Path) -> str:
    for path in (root / "moss").iterdir():
        path.unlink()
    return f"{root / 'moss'} has no images"


def damage_three_images(root: Path) -> str:
    (root / "sand" / "3.png").unlink()
    return "sand' has 3 images"


def damage_truncated(root: Path) -> str:
    path = root / "sand" / "1.png"
    path.write_bytes(path.read_bytes()[:200])
    return str(path)


def damage_two_broken(root: Path) -> str:
    for path in (root / "sand" / "1.png", root / "moss" / "2.png"):
        path.write_text("not an image")
    return f"2 texture images cannot be read, the first {root / 'moss' / '2.png'}"


def damage_narrow(root: Path) -> str:
    save(root / "bark" / "1.png", np.zeros((1, 60_000, 3), np.uint8))  # would be 100 x 6,000,000
    return str(root / "bark" / "1.png")


DAMAGES = (
    damage_missing_root,
    damage_root_is_a_file,
    damage_missing_category,
    damage_empty_category,
    damage_three_images,
    damage_truncated,
    damage_two_broken,
    damage_narrow,
)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__.removeprefix("damage_"))
def test_folder_names_what_is_wrong(root: Path, damage) -> None:
    expected = damage(root)
    with pytest.raises(InputError) as error:
        textures.load_folder(root, NAMES, min_side=100)
    assert expected in message(error)


@pytest.mark.parametrize("limit", [150, 400], ids=["error", "warning"])  # Pillow warns at once, raises at twice
def test_decompression_bombs_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(InputError, match=r"0\.png \(DecompressionBomb") as error:
        textures.load_folder(root, NAMES, min_side=8)
    message(error)


@pytest.mark.parametrize("options", [{"min_side": 0}, {"min_side": 8, "scale": 0.0}, {"min_side": 8, "scale": 1.5}])
def test_folder_refuses_settings_out_of_range(root: Path, options: dict) -> None:
    with pytest.raises(InputError, match=r"min_side|scale"):
        textures.load_folder(root, NAMES, **options)


def test_a_category_named_twice_is_refused(root: Path) -> None:
    with pytest.raises(InputError, match="repeat"):
        textures.load_folder(root, ("bark", "moss", "bark"), min_side=8)


# --- DTD


def test_absent_dtd_names_both_ways_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--download.*dtd-r1\.0\.1\.tar\.gz") as error:
        textures.load_dtd(tmp_path, min_side=8)
    assert str(tmp_path / "dtd" / "dtd" / "images") in message(error)
    assert list(tmp_path.iterdir()) == []  # nothing is fetched unasked


def test_dtd_loads_its_four_categories_from_torchvisions_layout(tmp_path: Path) -> None:
    dtd(tmp_path)
    bank = textures.load_dtd(tmp_path, min_side=9, download=True)  # already there: nothing to download
    assert (bank.source, bank.categories) == ("dtd", ("stratified", "veined", "matted", "dotted"))
    assert np.bincount(bank.category).tolist() == [120, 120, 120, 120]
    assert bank.notes == ()  # that woven is not read goes without saying


def test_other_categories_of_dtd_may_be_named_and_unknown_ones_are_refused(tmp_path: Path) -> None:
    dtd(tmp_path)
    bank = textures.load_dtd(tmp_path, ("woven", "dotted", "matted"), min_side=9)
    assert bank.title == "dtd textures (woven, dotted, matted)"
    with pytest.raises(InputError, match="lacks the category vained; it has dotted, matted, ") as error:
        textures.load_dtd(tmp_path, ("vained", "dotted", "matted"), min_side=9)
    message(error)


def dtd(root: Path) -> Path:
    """DTD with pictures of our own, as the archive unpacks: the categories that are read, and another."""
    content = io.BytesIO()
    Image.fromarray(random_image(12, 9)).save(content, "JPEG")
    folder = root / "dtd" / "dtd"
    (folder / "labels").mkdir(parents=True)
    for name in (*textures.FAMILIES, "woven"):
        (folder / "images" / name).mkdir(parents=True)
        files = [f"{name}/{name}_{m:04}.jpg" for m in range(120)]
        for file in files:
            (folder / "images" / file).write_bytes(content.getvalue())
        for k, split in enumerate(("train", "val", "test")):
            with (folder / "labels" / f"{split}1.txt").open("a") as lists:
                lists.writelines(f"{file}\n" for file in files[k::3])
    return folder


@pytest.mark.parametrize("given", ["dtd", "dtd/dtd"])
def test_dtd_may_be_unpacked_by_hand(tmp_path: Path, given: str) -> None:
    dtd(tmp_path)
    expected = textures.load_dtd(tmp_path, min_side=9)
    assert textures.load_dtd(tmp_path / given, min_side=9, download=True).fingerprint == expected.fingerprint


def test_a_part_of_dtd_is_not_taken_for_dtd(tmp_path: Path) -> None:
    folder = dtd(tmp_path)
    for m in range(5, 120):
        (folder / "images" / "veined" / f"veined_{m:04}.jpg").unlink()
    with pytest.raises(InputError, match="120 images in each category: stratified 120, veined 5, matted 120") as error:
        textures.load_dtd(tmp_path, min_side=9)
    assert re.search(r"missing: veined/veined_\d{4}\.jpg, .*, \.\.\.\)", message(error))
    assert f"--data.textures folder --data-root {folder / 'images'} --data.categories stratified veined" in str(
        error.value
    )
    shutil.rmtree(folder / "labels")  # then nobody knows the names
    with pytest.raises(InputError, match="veined 5, matted 120, dotted 120; unpack DTD again"):
        textures.load_dtd(tmp_path, min_side=9)
    bank = textures.load_folder(folder / "images", textures.FAMILIES, min_side=9)
    assert "not results on DTD" in bank.notes[0]
    assert "dtd" not in bank.title


@pytest.mark.parametrize("category", ["dotted", "veined"])
def test_one_image_more_or_under_another_name_is_not_dtd(tmp_path: Path, category: str) -> None:
    images = dtd(tmp_path) / "images" / category
    first = images / f"{category}_0000.jpg"
    shutil.copy(first, images / "mine.jpg")
    with pytest.raises(InputError, match=f"{category} 121"):
        textures.load_dtd(tmp_path, min_side=9)
    first.unlink()
    with pytest.raises(InputError, match=rf"missing: {category}/{category}_0000\.jpg\)"):
        textures.load_dtd(tmp_path, min_side=9)


def test_a_failed_download_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(root: str, download: bool) -> None:
        raise OSError("no route to host")

    monkeypatch.setitem(sys.modules, "torchvision.datasets", SimpleNamespace(DTD=refuse))
    with pytest.raises(InputError, match="no route to host") as error:
        textures.load_dtd(tmp_path, min_side=8, download=True)
    message(error)


# --- real photographs


@pytest.mark.realdata
def test_real_photographs_load() -> None:
    bank = textures.load_folder(real("textures"), (), min_side=128, scale=0.5)
    assert min(bank.height.min(), bank.width.min()) >= 128
    assert np.bincount(bank.category).min() >= 4
