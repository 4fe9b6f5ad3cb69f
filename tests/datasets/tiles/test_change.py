"""What changed in a tile: from masks of changes, from the classes of both images, from damage; unknown in either."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.errors import InputError
from datasets.manifest import source as manifest
from datasets.manifest.__main__ import main
from datasets.registry import load as load_checked
from datasets.source import Demands, Place
from datasets.tiles.dataset import TileDataset
from datasets.tiles.source import check_change, class_pixels, labelled
from datasets.types import CHANGE, IGNORED, Target
from datasets.xbd import source as xbd
from datasets.xbd.config import DAMAGED, XbdSettings
from tests.helpers import fake_xbd
from tests.helpers.fake_pairs import SMALL, Rows, data, line, listed, load, own_store, pixels, save, sound

FIXTURES = (data, own_store)  # pytest finds them by their names
CPU = torch.device("cpu")


def demands(*targets: Target) -> Demands:
    return Demands(rho=(), pairings=(), labels=False, batch=2, supervised_batch=0, probe_batch=2, targets=targets)


def with_random_masks(folder: Path) -> Rows:
    """Both masks show all of four labels anywhere, one of them ignored."""
    rows = sound(folder)
    generator = np.random.default_rng(0)
    for row in rows:
        for name in ("mask", "partner_mask"):
            row[name] = row[name].replace("masks", name)
            save(folder / row[name], generator.choice(np.uint8([0, 1, 2, IGNORED]), (32, 32)))
    return rows


def changing(folder: Path, *, masks: bool) -> Rows:
    """Pairs whose masks of changes show the left half of the tiles on the left; perhaps with masks of classes."""
    rows = sound(folder)
    changes = np.tile(np.uint8([1] * 8 + [0] * 24), (32, 1))
    for number, row in enumerate(rows):
        save(folder / f"changes/{number}.png", changes)
        row |= {"noisy": "", "change_mask": f"changes/{number}.png", "partner_mask": "", "mask": row["mask"] * masks}
    return rows


def test_a_pixel_changed_where_its_classes_differ_and_is_not_known_where_one_is_not(data: Path) -> None:
    source = load(listed(data / "pairs.csv", with_random_masks(data)))
    store, found = source.store, source.changes.labels(np.array([3]))[0]
    for first, second, label in zip(*(m.flat for m in (store.mask()[3], store.partner_mask()[3], found)), strict=True):
        assert label == (IGNORED if IGNORED in (first, second) else first != second)


def test_a_pair_of_equal_masks_has_not_changed(data: Path) -> None:
    rows = with_random_masks(data)
    source = load(listed(data / "pairs.csv", [*({**row, "partner_mask": row["mask"]} for row in rows[:1]), *rows[1:]]))
    assert set(np.unique(source.changes.labels(np.arange(4)))) == {0, IGNORED}
    assert not source.changes.counts[:4, 1].any()


def test_counts_are_those_of_the_labels_and_travel_with_the_source(data: Path) -> None:
    source = load(listed(data / "pairs.csv", with_random_masks(data)))
    labels = source.changes.labels(np.arange(24))
    counts = np.stack([(labels == number).sum(axis=(1, 2)) for number in (0, 1)], axis=1)
    np.testing.assert_array_equal(source.changes.counts, counts)
    aimed = source.aimed("change")
    np.testing.assert_array_equal(class_pixels(aimed, "train"), counts[source.split == 0].sum(axis=0))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(aimed)).changes.__dict__["counts"], counts)


def test_another_target_changes_neither_data_nor_pretraining(data: Path) -> None:
    source = load(listed(data / "pairs.csv", with_random_masks(data)))
    aimed = source.aimed("change")
    assert (aimed.fingerprint, aimed.store, aimed.classes) == (source.fingerprint, source.store, CHANGE)
    assert aimed.notes[-1].endswith("tiles have changed, of those for which this is known")
    pools = [TileDataset(one, CPU).pool(0.5, 0.0, "noisy", torch.Generator().manual_seed(0)) for one in (source, aimed)]
    np.testing.assert_array_equal(pools[0].tiles, pools[1].tiles)
    first, other = (one.data.pairs(np.arange(2), *torch.eye(2).bool(), labelled=True).sent() for one in pools)
    assert torch.equal(first.first_labels, other.first_labels)


def test_a_mask_of_changes_decides_and_pixels_without_data_in_either_image_are_not_known(data: Path) -> None:
    rows = changing(data, masks=False)
    for name, part in (("image", np.s_[:4]), ("partner", np.s_[12:16])):
        shown = pixels(1).clip(1)
        shown[part] = 0
        save(data / rows[0][name], shown)
    settings = replace(SMALL, nodata=("0",))
    source = load(listed(data / "pairs.csv", rows), settings)
    plain = load(data / "pairs.csv")
    expected = np.tile(np.uint8([1] * 8 + [0] * 8), (16, 1))
    np.testing.assert_array_equal(plain.changes.labels(np.array([0]))[0], expected)
    expected[:4] = expected[12:] = IGNORED
    np.testing.assert_array_equal(source.changes.labels(np.array([0]))[0], expected)
    assert source.store.tiles["changed"].equals(plain.store.tiles["changed"])
    assert source.changes.counts[0].tolist() == [64, 64]


def test_without_data_nothing_of_a_store_with_masks_of_changes_is_new(data: Path) -> None:
    """The fingerprint is that of the version before pixels without data left these masks."""
    rows = changing(data, masks=True)
    assert load(listed(data / "pairs.csv", rows)).store.fingerprint == "8afff48b9d71e672"


def test_on_xbd_a_change_is_damage(tmp_path: Path) -> None:
    root = fake_xbd.tree(tmp_path / "xbd")
    # A building that is there before alone is no damage, and an un-classified one is not known.
    after = [(fake_xbd.box(0, 0, 8, 8), "minor-damage"), (fake_xbd.box(20, 0, 28, 8), "un-classified")]
    before = [fake_xbd.box(0, 0, 8, 8), fake_xbd.box(10, 10, 20, 20)]
    fake_xbd.pair(root, "train", "blue-flood_99999999", after, before)
    source = xbd.load(XbdSettings(size=32, unclassified="ignore"), Place(root=root))
    labels = source.changes.labels(np.arange(len(source.split)))
    partner = source.store.partner_mask()
    np.testing.assert_array_equal(labels == 1, np.isin(partner, DAMAGED))
    np.testing.assert_array_equal(labels == IGNORED, partner == IGNORED)
    counts = np.stack([(labels == number).sum(axis=(1, 2)) for number in (0, 1)], axis=1)
    np.testing.assert_array_equal(source.changes.counts, counts)
    assert {0, 1, IGNORED} == set(np.unique(labels))


@pytest.mark.parametrize("target", ["change", "classes_from_pair"])
def test_a_probe_gets_both_images_the_labelled_one_last(data: Path, target: Target) -> None:
    rows = with_random_masks(data)
    rows[0]["partner_mask"] = ""  # the probe sees the first image of this pair, whose change is not known
    tiles = TileDataset(load(listed(data / "pairs.csv", rows)).aimed(target), CPU)
    images, labels = tiles.downstream("train", torch.arange(tiles.count("train")))
    store = tiles.source.store
    given = [torch.from_numpy(side()[:12].copy()).permute(0, 3, 1, 2) / 255 for side in (store.image, store.partner)]
    if target == "change":
        expected = torch.stack(given, dim=1)[4:]
        truth = tiles.source.changes.labels(np.arange(4, 12))
    else:
        expected = torch.stack(given, dim=1)
        expected[:4] = expected[:4].flip(1)
        truth = np.concatenate([store.mask()[:4], store.partner_mask()[4:12]])
    torch.testing.assert_close(images, expected)
    np.testing.assert_array_equal(labels, truth)


# --- refusals


def test_a_split_in_which_nothing_changed_is_refused(data: Path) -> None:
    rows = sound(data)
    rows[-1] |= {"partner_mask": rows[-1]["mask"], "noisy": "no"}
    path = listed(data / "pairs.csv", rows)
    load_checked(SMALL, Place(root=path), demands("classes"))
    with pytest.raises(InputError) as error:
        load_checked(SMALL, Place(root=path), demands("classes", "change"))
    assert line(error).startswith(
        "--probe.target change: nothing changed in the 1,024 px of split test that have a mask"
    )


def test_pairs_with_one_mask_are_refused_before_and_after_images_are_read(data: Path) -> None:
    rows = sound(data)
    for row in rows[3:5]:
        row["mask"] = ""
    path = listed(data / "pairs.csv", rows)
    told = (
        "--probe.target change: no pair of split val tells what changed; fill in change_mask, or mask and partner_mask"
    )
    with pytest.raises(InputError, match=told):
        manifest.survey(SMALL, Place(root=path), demands("change"))
    manifest.survey(SMALL, Place(root=path), demands("classes"))
    with pytest.raises(InputError, match=told) as error:
        load_checked(SMALL, Place(root=path), demands("change"))
    assert line(error)


def test_masks_of_changes_alone_are_enough_for_change_and_too_little_for_classes(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = listed(data / "pairs.csv", changing(data, masks=False))
    source = load(path)
    check_change(source.aimed("change"))
    assert labelled(source.aimed("change")).all()
    assert not labelled(source).any()
    load_checked(SMALL, Place(root=path), demands("change"))
    told = r"no row of split train has a mask.*fill in partner_mask or mask, or predict what changed \(--probe.target"
    for refuse in (manifest.survey, load_checked):  # before and after images are read
        with pytest.raises(InputError, match=told) as error:
            refuse(SMALL, Place(root=path), demands("classes"))
        assert line(error)
    assert main(["check", str(path), "--size", "16"]) == 0
    said = capsys.readouterr().out
    assert "--probe.target change" in said.splitlines()[-1]
    assert "changed" in said.split("mean and std")[0]
