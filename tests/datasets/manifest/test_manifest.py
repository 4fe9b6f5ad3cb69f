"""A manifest becomes tiles whose pixels, splits and classes are those that were listed, or one line says why not."""

import pickle
import subprocess
import sys
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from datasets.errors import InputError
from datasets.manifest.config import ManifestSettings
from datasets.source import Place
from tests.helpers import fake_xbd
from tests.helpers.fake_pairs import SMALL, SPLITS, data, line, listed, load, own_store, pixels, read_rows, save, sound
from tests.helpers.real import real

FIXTURES = (data, own_store)  # pytest finds them by their names
SCALED = {"mean": (100.0,), "std": (50.0,)}


# --- settings


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": 7}, "--data.size 7"),
        ({"bands": 0}, "--data.bands 0: should be greater than or equal to 1"),
        ({"bands": 14}, "--data.bands 14: should be less than or equal to 13"),
        ({"classes": ("one",)}, "--data.classes: give 2 to 255 names"),
        ({"classes": ("a b", "c")}, "--data.classes 'a b'"),
        ({"classes": ("macro", "c")}, "--data.classes 'macro'"),
        ({"classes": ("a", "a")}, "--data.classes a a: give each value once"),
        ({"classes": ("Water", "water")}, "--data.classes Water water: give each value once, whatever its case"),
        ({"classes": ("Macro", "c")}, "--data.classes 'Macro'"),
        ({"noisy_classes": (255,)}, "--data.noisy-classes 255: classes are 0 to 254"),
        ({"noisy_classes": (-1,)}, "--data.noisy-classes -1"),
        ({"noisy_classes": (1, 1)}, "--data.noisy-classes 1 1: give each value once"),
        ({"classes": ("a", "b"), "noisy_classes": (2,)}, "--data.noisy-classes 2: classes are 0 to 1"),
        ({"mean": (1.0, 2.0), "std": (1.0, 2.0)}, "--data.mean: 2 values for 3 bands"),
        ({"mean": (1.0, 2.0, 3.0)}, "--data.mean and --data.std belong together"),
        ({"mean": (1.0,) * 3, "std": (1.0, 0.0, 1.0)}, "--data.std 0: should be greater than 0"),
        ({"mean": (1.0,) * 3, "std": (1.0, float("nan"), 1.0)}, "--data.std nan: should be"),
    ],
)
def test_settings_that_make_no_tiles_are_refused_by_their_flag(given: dict, message: str) -> None:
    with pytest.raises(InputError) as error:
        ManifestSettings(**given)
    assert message in line(error)


def test_neither_settings_nor_loading_need_torch(data: Path) -> None:
    path = listed(data.parent / "pairs.csv", sound(data.parent))
    code = (
        "import sys; from pathlib import Path; from datasets.manifest.config import ManifestSettings;"
        "from datasets.registry import load;"
        "from datasets.source import Demands, Place;"
        "demands = Demands(rho=(), pairings=(), labels=False, batch=2, supervised_batch=0, probe_batch=2);"
        f"load(ManifestSettings(size=16), Place(root=Path({str(path)!r})), demands);"
        "sys.exit(' '.join({'torch', 'ray', 'mlflow'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- what is listed is what is loaded


@pytest.mark.parametrize("manifest", ["pairs.csv", "pairs.parquet"])
@pytest.mark.parametrize(
    ("bands", "dtype", "ending"),
    [
        (1, "uint8", ".png"),
        (3, "uint8", ".tif"),
        (3, "uint16", ".png"),
        (1, "uint16", ".png"),
        (4, "uint16", ".tiff"),
        (13, "uint16", ".tif"),
        (13, "uint8", ".tif"),
    ],
)
def test_tiles_are_the_pixels_of_the_files(data: Path, manifest: str, bands: int, dtype: str, ending: str) -> None:
    path = listed(data / manifest, sound(data, bands=bands, dtype=dtype, ending=ending))
    scaled = {name: values * bands for name, values in SCALED.items()}
    source = load(path, ManifestSettings(size=16, bands=bands, **scaled))
    tiles, image, partner = source.store.tiles, source.store.image(), source.store.partner()
    assert image.dtype == partner.dtype == dtype
    assert len(image) == 4 * len(SPLITS)
    for number, split in enumerate(SPLITS):
        rows = tiles[tiles["pair"] == f"before/{number}{ending}"]
        assert set(rows["split"]) == {split}
        assert rows["noisy"].tolist() == [number % 2 == 0] * 4
        for row in rows.itertuples():
            window = np.s_[row.top : row.top + 16, row.left : row.left + 16]
            np.testing.assert_array_equal(image[row.number], pixels(2 * number, 32, bands, dtype)[window])
            np.testing.assert_array_equal(partner[row.number], pixels(2 * number + 1, 32, bands, dtype)[window])
    assert [("train", "val", "test")[place] for place in source.split] == tiles["split"].tolist()
    assert source.classes == ("class_0", "class_1", "class_2")
    assert (source.mean, source.std) == (scaled["mean"], scaled["std"])


def test_jpegs_are_read_and_need_no_scale(data: Path) -> None:
    source = load(listed(data / "pairs.csv", sound(data, ending=".jpg")))
    assert source.store.dtype == "uint8"
    assert source.mean is None
    assert source.std is None


def test_csv_parquet_and_absolute_paths_hold_the_same_content(data: Path, tmp_path: Path) -> None:
    rows = sound(data)
    absolute = [{**row, "image": str(data / row["image"]), "mask": str(data / row["mask"])} for row in rows]
    other = [{**row, "split": "val" if row["split"] == "test" else "test"} for row in rows[3:]]
    sources = [
        load(listed(data / "pairs.csv", rows)),
        load(listed(data / "pairs.parquet", rows)),
        load(listed(data / "absolute.csv", absolute)),
        load(listed(data / "other.csv", rows[:3] + other)),
    ]
    data.rename(tmp_path / "moved")
    sources.append(load(tmp_path / "moved" / "pairs.csv"))
    assert len({source.fingerprint for source in sources}) == 2
    assert sources[3].fingerprint != sources[0].fingerprint
    assert all(pickle.loads(pickle.dumps(source)).fingerprint == source.fingerprint for source in sources)


def test_tiles_are_made_once_however_the_file_is_named(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = listed(data / "pairs.csv", sound(data))
    load(path)
    assert "building the store" in capsys.readouterr().err
    monkeypatch.chdir(data)
    load(Path("pairs.csv"))
    assert capsys.readouterr().err == ""


def test_noisy_is_read_in_every_way_it_may_be_written(data: Path) -> None:
    words = ("TRUE", "no", "1.0", "0", "Yes", "")
    rows = [{**row, "noisy": word} for row, word in zip(sound(data), words, strict=True)]
    pairs, problems = read_rows(listed(data / "pairs.csv", rows))
    assert [pair.noisy for pair in pairs] == [True, False, True, False, True, None]
    assert not problems


def test_noise_by_masks_is_of_single_tiles_where_the_column_is_empty(data: Path) -> None:
    rows = [{**row, "noisy": ""} for row in sound(data)]
    rows[0]["noisy"] = "no"  # what is said wins over the masks
    del rows[4]["mask"]  # what a mask might have shown nobody knows
    for row in rows:
        row.setdefault("mask", "")
    source = load(listed(data / "pairs.csv", rows), replace(SMALL, noisy_classes=(2,)))
    tiles = source.store.tiles
    noisy = tiles[tiles["noisy"]]
    assert noisy["pair"].unique().tolist() == ["before/2.png"]
    assert set(noisy["left"]) == {16}  # only the right half of the mask is class 2
    assert any("1 of 6 pairs are assumed to be clean" in note for note in source.notes)


def test_xbd_label_files_are_masks(data: Path) -> None:
    rows = sound(data)
    for number, row in enumerate(rows):
        damage = "destroyed" if row["noisy"] == "yes" else "no-damage"
        fake_xbd.label(data / f"{number}_pre.json", [(fake_xbd.HOUSE, None)], 32)
        fake_xbd.label(data / f"{number}_post.json", [(fake_xbd.HOUSE, damage)], 32)
        row |= {"mask": f"{number}_pre.json", "partner_mask": f"{number}_post.json", "noisy": ""}
    source = load(listed(data / "pairs.csv", rows), ManifestSettings(size=32, noisy_classes=(2, 3, 4)))
    assert source.store.tiles["noisy"].tolist() == [True, False] * 3
    assert source.store.class_counts[0].tolist() == [32 * 32 - 80, 0, 0, 0, 80]


# --- what is said


def test_notes_say_what_the_pairs_cannot_tell(data: Path) -> None:
    rows = [{**row, "noisy": ""} for row in sound(data, side=40)]
    source = load(listed(data / "pairs.csv", rows))
    assert source.notes == (
        "tiles of 16 px leave out 36.0% of the pixels, at the right and at the bottom",
        "6 of 6 pairs are assumed to be clean: their column noisy is empty, and --data.noisy-classes is not given",
        "no pair of split train is noisy: only --rho 0 is possible, or --pairings misregistration",
        "no mask of split test shows class_2; test scores are means over the other classes",
        "6 of 12 training tiles show two classes (at least 1 % in each mask): perhaps too few; 240 were enough in our "
        "trials on xBD, fewer were not tried (METHOD.md)",
        "3 training pairs are few: differences may be chance, so run several seeds (--seeds 0 1 2)",
    )
    assert source.title == "pairs.csv (6 pairs, 24 tiles of 16 px), test scores over 2 of 3 classes"


def test_images_that_no_row_names_are_noted(data: Path) -> None:
    rows = sound(data)
    path = listed(data / "pairs.csv", [*rows[:2], {**rows[2], "image": "./before/../before/2.png"}, *rows[3:]])
    assert not any("not read" in note for note in load(path).notes)  # however a row writes a name
    for name in ("before/90.png", "before/91.TIF", "masks/92.png"):
        save(data / name, pixels(3))
    (data / "before" / "readme.txt").touch()
    (line,) = (note for note in load(path).notes if "not read" in note)
    assert line == ("images that are not read: 2 in before (such as 90.png), 1 in masks (such as 92.png)")


def test_classes_that_no_mask_shows_are_told_and_change_the_fingerprint(data: Path) -> None:
    rows = sound(data)
    save(data / rows[-1]["partner_mask"], np.repeat(np.uint8([[0, 1, 2, 2]]), 8, axis=1).repeat(32, axis=0))
    complete = load(listed(data / "pairs.csv", rows))
    # Of data that show all classes, the fingerprint is what it was before scores left out classes.
    before = blake2b(complete.store.fingerprint.encode() + complete.split.tobytes(), digest_size=8).hexdigest()
    assert complete.fingerprint == before
    assert "scores" not in " ".join((complete.title, *complete.notes))
    named = load(data / "pairs.csv", replace(SMALL, classes=("ground", "house", "ruin", "road")))
    assert named.fingerprint != before
    assert named.title == f"{complete.title}, test scores over 3 of 4 classes"
    assert "no mask shows road; val and test scores are means over the other classes" in named.notes
    for row in rows:
        for column in ("mask", "partner_mask"):
            save(data / row[column], np.asarray(Image.open(data / row[column])) * 10)
    for column in ("mask", "partner_mask"):  # the test pair, without its ruin
        save(data / rows[-1][column], np.repeat(np.uint8([[0, 10]]), 16, axis=1).repeat(32, axis=0))
    gaps = load(data / "pairs.csv")
    assert gaps.title.endswith(", test scores over 2 of 21 classes")
    told = "no mask shows class_1, class_2, class_3, class_4, class_5, 13 more; val and test scores are means over"
    assert any(note.startswith(told) for note in gaps.notes)
    assert "no mask of split test shows class_20; test scores are means over the other classes" in gaps.notes


def test_ignored_pixels_change_the_fingerprint(data: Path) -> None:
    """With them the dense losses give other numbers than earlier versions did."""
    rows = sound(data)
    save(data / rows[-1]["partner_mask"], np.repeat(np.uint8([[0, 1, 2, 2]]), 8, axis=1).repeat(32, axis=0))
    complete = load(listed(data / "pairs.csv", rows))
    save(data / rows[-1]["partner_mask"], np.repeat(np.uint8([[0, 1, 2, 255]]), 8, axis=1).repeat(32, axis=0))
    some = load(data / "pairs.csv")
    plain = blake2b(some.store.fingerprint.encode() + some.split.tobytes(), digest_size=8).hexdigest()
    assert some.fingerprint not in (complete.fingerprint, plain)


@pytest.mark.parametrize(("ending", "dtype"), [(".tif", "uint8"), (".tif", "uint16"), (".png", "uint8")])
def test_a_band_that_is_declared_alpha_is_kept_or_told(data: Path, ending: str, dtype: str) -> None:
    rows = sound(data)
    wanted = []
    for row in rows:
        for column in ("image", "partner"):
            shown = pixels(len(wanted), 32, 4, dtype)
            wanted.append(shown)
            row[column] = f"{column}/{len(wanted)}{ending}"
            save(data / row[column], shown)
            if ending == ".tif":  # as rasterio writes it
                tifffile.imwrite(data / row[column], shown, photometric="rgb", extrasamples=["unassalpha"])
    path = listed(data / "pairs.csv", rows)
    scale = dict.fromkeys(("mean", "std"), (1.0,) * 3) if dtype == "uint16" else {}
    three = load(path, replace(SMALL, **scale))
    four = load(path, replace(SMALL, bands=4, mean=(1.0,) * 4, std=(1.0,) * 4))
    for number, (image, partner) in enumerate(zip(wanted[::2], wanted[1::2], strict=True)):
        for side, expected in (("image", image), ("partner", partner)):
            # The first of four tiles.
            assert (getattr(four.store, side)()[4 * number] == expected[:16, :16]).all()
            assert (getattr(three.store, side)()[4 * number] == expected[:16, :16, :3]).all()
    told = [note for note in three.notes if "alpha" in note]
    assert told == [
        "12 images have 3 bands and one that their files declare to be alpha, which is left out; --data.bands 4 keeps "
        "it (if it is a band like the others, such as near infrared)"
    ]
    assert not any("alpha" in note for note in four.notes)


# --- real photographs


@pytest.mark.realdata
def test_a_manifest_of_xbd_is_xbd(tmp_path: Path) -> None:
    from datasets.xbd import __main__, config
    from datasets.xbd import source as xbd_source

    root, path = real("xbd"), tmp_path / "xbd.csv"
    assert __main__.main(["manifest", str(root), "--out", str(path)]) == 0
    settings = ManifestSettings(size=512, classes=config.CLASSES, noisy_classes=config.DAMAGED, dense_labels="binary")
    listed_tiles = load(path, settings).store
    official = xbd_source.load(config.XbdSettings(), Place(root=root)).store
    for name in ("image", "partner", "mask", "partner_mask"):
        assert sorted(map(bytes, getattr(listed_tiles, name)())) == sorted(map(bytes, getattr(official, name)()))
    assert listed_tiles.tiles["noisy"].sum() == official.tiles["noisy"].sum()
