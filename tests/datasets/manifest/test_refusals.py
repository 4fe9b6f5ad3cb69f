"""Pairs that cannot answer the question, or fill a grid, are refused in one line that says what to do."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.errors import InputError
from datasets.manifest.config import ManifestSettings
from datasets.manifest.source import check
from datasets.manifest.source import load as manifest_load
from datasets.source import Demands, Place
from datasets.tiles.source import labelled
from tests.helpers.fake_pairs import SMALL, Rows, data, line, listed, load, own_store, save, sound

FIXTURES = (data, own_store)  # pytest finds them by their names


def test_a_wrong_number_of_bands_is_said_once(data: Path) -> None:
    path = listed(data / "pairs.csv", sound(data, bands=1))
    with pytest.raises(InputError, match=r"all images have 1 band.*set --data\.bands 1") as error:
        load(path)
    line(error)


@pytest.mark.parametrize("bands", [3, 5])
def test_alpha_is_told_with_a_wrong_number_of_bands(data: Path, bands: int) -> None:
    path = listed(data / "pairs.csv", sound(data, bands=2))
    message = rf"all images have 1 band and 1 of alpha, not {bands}; set --data\.bands 1, or 2 to keep alpha"
    with pytest.raises(InputError, match=message) as error:
        load(path, replace(SMALL, bands=bands))
    line(error)


@pytest.mark.parametrize(("bands", "dtype", "ending"), [(1, "uint8", ".png"), (3, "uint16", ".png")])
def test_a_scale_that_nobody_can_guess_must_be_given(data: Path, bands: int, dtype: str, ending: str) -> None:
    path = listed(data / "pairs.csv", sound(data, bands=bands, dtype=dtype, ending=ending))
    with pytest.raises(InputError, match=r"--data\.mean and --data\.std.*datasets\.manifest check") as error:
        load(path, ManifestSettings(size=16, bands=bands))
    line(error)


def whole_no_masks(data: Path, rows: Rows) -> str:
    for row in rows:
        if row["split"] == "val":
            row["mask"] = row["partner_mask"] = ""
    return "no row of split val has a mask, but the probe is validated on masks"


def whole_no_clean_validation(data: Path, rows: Rows) -> str:
    for row in rows:
        row["noisy"] = "yes"
    return "all tiles of split val are noisy"


def whole_one_class(data: Path, rows: Rows) -> str:
    for row in rows:
        if row["split"] == "train":
            for column in ("mask", "partner_mask"):
                save(data / row[column], np.ones((32, 32), np.uint8))
    return "the masks of split train show only class_1"


def whole_nothing_counts(data: Path, rows: Rows) -> str:
    for row in rows:
        if row["split"] == "train":
            save(data / row["partner_mask"], np.full((32, 32), 255, np.uint8))
    return "the masks of split train show no class"


def whole_nothing_to_test(data: Path, rows: Rows) -> str:
    save(data / rows[-1]["partner_mask"], np.full((32, 32), 255, np.uint8))
    return "the masks of split test show no class"


@pytest.mark.parametrize(
    "change",
    [whole_no_masks, whole_no_clean_validation, whole_one_class, whole_nothing_counts, whole_nothing_to_test],
)
def test_pairs_that_cannot_answer_the_question_are_refused(data: Path, change: Callable[[Path, Rows], str]) -> None:
    rows = sound(data)
    message = change(data, rows)
    with pytest.raises(InputError) as error:
        load(listed(data / "pairs.csv", rows))
    assert message in line(error)


def test_labels_without_a_name_are_refused_with_the_row_that_shows_them(data: Path) -> None:
    rows = sound(data)
    mask = np.zeros((32, 32), np.uint8)
    mask[5, 5] = 7  # also where only the dense losses look
    save(data / rows[4]["mask"], mask)
    path = listed(data / "pairs.csv", rows)
    with pytest.raises(
        InputError, match=r"row 6: a mask shows class 7, but --data\.classes names only 3 \(0 to 2\)"
    ) as error:
        load(path, replace(SMALL, classes=("ground", "house", "ruin")))
    line(error)
    assert load(path).classes[-1] == "class_7"


def test_noisy_classes_that_no_mask_shows_are_refused(data: Path) -> None:
    path = listed(data / "pairs.csv", sound(data))
    with pytest.raises(InputError, match=r"--data\.noisy-classes 3: no mask shows it; the largest class is 2") as error:
        load(path, replace(SMALL, noisy_classes=(3,)))
    line(error)
    named = replace(SMALL, noisy_classes=(3,), classes=("a", "b", "c", "d"))
    assert "no mask shows d; val and test scores are means over the other classes" in load(path, named).notes


def test_no_file_is_named(data: Path) -> None:
    with pytest.raises(InputError, match="--data FILE") as error:
        manifest_load(SMALL, Place())
    line(error)


DEMANDS = Demands(rho=(0.0, 0.5), pairings=("noisy",), labels=True, batch=4, supervised_batch=0, probe_batch=4)


def mixed(folder: Path) -> Rows:
    """Sound pairs whose masks are shifted, so that each tile of 16 px shows two classes."""
    rows = sound(folder)
    for row in rows:
        for column in ("mask", "partner_mask"):
            shift(folder / row[column])
    return rows


def shift(path: Path, *, add: int = 0) -> None:
    save(path, np.roll(np.asarray(Image.open(path)), 4, axis=1) + add)


@pytest.mark.parametrize(
    ("demands", "message"),
    [
        ({"batch": 5}, "--pretrain.batch 5: at rho 0 there are 4 training pairs (4 clean and 8 noisy tiles)"),
        ({"batch": 9, "rho": (1.0,)}, "--pretrain.batch 9: at rho 1 there are 8 training pairs"),
        ({"probe_batch": 13}, "--probe.batch 13: 12 training tiles have a mask"),
        ({"supervised_batch": 13}, "--pretrain.batch 13: 12 training tiles have a mask"),
        ({"rho": (0.05,)}, "--rho 0.05: 4 clean and 8 noisy training tiles are too few for this rate"),
    ],
)
def test_a_grid_that_the_tiles_cannot_fill_is_refused(data: Path, demands: dict, message: str) -> None:
    source = load(listed(data / "pairs.csv", mixed(data)))
    check(SMALL, source, DEMANDS)
    with pytest.raises(InputError) as error:
        check(SMALL, source, replace(DEMANDS, **demands))
    assert message in line(error)


@pytest.mark.parametrize("row", [0, 3])  # one that trains; a clean one that validates
def test_dense_losses_need_both_masks_of_every_pair_they_see(data: Path, row: int) -> None:
    rows = sound(data)
    rows[row]["mask"] = ""
    source = load(listed(data / "pairs.csv", rows))
    check(SMALL, source, replace(DEMANDS, labels=False))
    with pytest.raises(InputError, match=r"1 training or validation pairs lack mask.*--losses moco") as error:
        check(SMALL, source, DEMANDS)
    line(error)


def test_dense_losses_of_two_kinds_need_a_background(data: Path) -> None:
    rows = mixed(data)
    for row in rows:
        for column in ("mask", "partner_mask"):
            shift(data / row[column], add=1)
    path = listed(data / "pairs.csv", rows)
    check(SMALL, load(path), DEMANDS)
    binary = replace(SMALL, dense_labels="binary")
    check(binary, load(path, binary), replace(DEMANDS, labels=False))
    with pytest.raises(InputError, match=r"no mask of a training tile of 16 px shows class 0 and another") as error:
        check(binary, load(path, binary), DEMANDS)
    line(error)


def test_dense_losses_need_a_tile_with_two_classes(data: Path) -> None:
    path = listed(data / "pairs.csv", sound(data))  # tiles of 16 px are the halves of the masks
    check(SMALL, load(path), replace(DEMANDS, labels=False))
    with pytest.raises(
        InputError, match=r"no mask of a training tile of 16 px shows two classes.*--data\.size"
    ) as error:
        check(SMALL, load(path), DEMANDS)
    line(error)
    check(SMALL, load(listed(data / "mixed.csv", mixed(data))), DEMANDS)


def test_a_noisy_pair_that_validates_nothing_needs_no_masks_for_the_dense_losses(data: Path) -> None:
    rows = mixed(data)
    rows[4]["mask"] = ""
    check(SMALL, load(listed(data / "pairs.csv", rows)), DEMANDS)


def test_baselines_alone_need_no_pairs(data: Path) -> None:
    rows = sound(data)
    for row in rows:
        if row["split"] == "train":
            row["noisy"] = "yes"
    source = load(listed(data / "pairs.csv", rows))
    with pytest.raises(InputError, match="needs clean pairs"):
        check(SMALL, source, DEMANDS)
    check(SMALL, source, replace(DEMANDS, rho=(), batch=64, labels=False))


def test_tiles_that_show_no_class_are_not_probed(data: Path) -> None:
    rows = sound(data)
    mask = np.full((32, 32), 255, np.uint8)
    mask[:16, :16] = [[0] * 8 + [1] * 8] * 16  # one tile of four
    for row in rows[:3]:
        save(data / row["partner_mask"], mask)
    source = load(listed(data / "pairs.csv", rows))
    assert labelled(source).sum() == 3 + 3 * 4
    with pytest.raises(InputError, match=r"--probe\.batch 4: 3 training tiles have a mask"):
        check(SMALL, source, DEMANDS)


# --- groups that are held out


def test_a_group_is_held_out_whatever_its_split(data: Path) -> None:
    rows = sound(data)
    rows[0]["group"] = rows[5]["group"] = "island"
    extra = sound(data / "more")[5]  # another pair to test
    extra |= {name: f"more/{extra[name]}" for name in ("image", "partner", "mask", "partner_mask")}
    path = listed(data / "pairs.csv", [*rows, extra])
    source = load(path, replace(SMALL, ood=("island",)))
    assert ((source.split == 3) == (source.store.tiles["group"] == "island")).all()
    assert source.split.tolist().count(3) == 8


@pytest.mark.parametrize(
    ("ood", "change", "told"),
    [
        ("east", {}, "--data.ood east: .*pairs.csv has no such group; choose from north, south"),
        ("north", {}, "--data.ood north: .*pairs.csv has no train tile without them; name fewer"),
        (
            "island",
            {"partner_mask": "", "mask": ""},
            "no row of split ood has a mask, but the probe is tested",
        ),
        (
            "island",
            {"image": "before/1.png"},
            "row 2: --data.ood island: 1.png is also in row 3, which is not",
        ),
    ],
)
def test_groups_that_cannot_be_held_out_are_refused(data: Path, ood: str, change: dict[str, str], told: str) -> None:
    rows = sound(data)
    if change:
        rows[0] |= {"group": "island", **change}
    path = listed(data / "pairs.csv", rows)
    with pytest.raises(InputError, match=told) as error:
        load(path, replace(SMALL, ood=(ood,)))
    line(error)
    assert change or not (data.parent / "cache").exists()  # what the list tells is refused before images are read
