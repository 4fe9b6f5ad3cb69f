"""CIFAR-10: what is read and what is refused, and that a false positive is an image of another class."""

import os
import pickle
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from datasets.cifar10.config import Cifar10Settings
from datasets.cifar10.files import CHECKSUMS
from datasets.cifar10.source import load as load_images
from datasets.dataset import Draws
from datasets.errors import InputError
from datasets.registry import load, open_data
from datasets.source import Demands, Place
from tests.helpers.real import real

CPU = torch.device("cpu")
SETTINGS = Cifar10Settings(other_files=True, val=0.2)


def batch(seed: int, count: int = 10) -> dict[str, object]:
    """One image a class; its first red pixel tells its class, its first green one its batch."""
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)
    labels = [number % 10 for number in range(count)]
    pixels[:, 0], pixels[:, 1024] = labels, seed
    return {"batch_label": b"a batch", "labels": labels, "data": pixels, "filenames": ["x.png"] * count}


def write(root: Path, **others: object) -> Path:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for number, name in enumerate(CHECKSUMS):
        (folder / name).write_bytes(pickle.dumps(others.get(name, batch(number))))
    return root


def demands(**changes: object) -> Demands:
    usual = {"rho": (0.0, 1.0), "pairings": ("false_positive",), "labels": False, "batch": 8, "probe_batch": 8}
    usual |= {"supervised_batch": 0}
    return Demands(**{**usual, **changes})


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write(tmp_path_factory.mktemp("cifar"))


@pytest.fixture
def data(root):
    return open_data(SETTINGS, load(SETTINGS, Place(root=root), demands()), 0, CPU)


def test_checksums_are_those_of_torchvision():
    from torchvision.datasets import CIFAR10

    assert dict([*CIFAR10.train_list, *CIFAR10.test_list]) == CHECKSUMS


def test_images_are_the_bytes_of_the_batches_in_their_planes(root):
    source = load_images(SETTINGS, Place(root=root))
    assert source.train.shape == (50, 32, 32, 3)
    assert source.test.shape == (10, 32, 32, 3)
    assert source.train_labels.tolist() == [*range(10)] * 5
    expected = batch(2)["data"][3].reshape(3, 32, 32)
    for plane in range(3):
        np.testing.assert_array_equal(source.train[23, :, :, plane], expected[plane])
    assert "not the published" in source.notes[0]
    assert "CIFAR-10's format" in source.title
    assert load_images(SETTINGS, Place(root=root / "cifar-10-batches-py")).fingerprint == source.fingerprint


def test_another_pixel_is_another_fingerprint(root, tmp_path):
    changed = batch(1)
    changed["data"][0, 7] ^= 1
    other = write(tmp_path, data_batch_2=changed)
    assert load_images(SETTINGS, Place(root=other)).fingerprint != load_images(SETTINGS, Place(root=root)).fingerprint


class Harmful:
    """Would create a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_would_run_something_does_not(tmp_path):
    harm = tmp_path / "harm"
    write(tmp_path, data_batch_3={**batch(0), "filenames": Harmful(harm)})
    with pytest.raises(InputError, match=r"data_batch_3 is not a batch of CIFAR-10 .*mkdir.*: replace it"):
        load_images(SETTINGS, Place(root=tmp_path))
    assert not harm.exists()


@pytest.mark.parametrize(
    "content",
    [
        {"labels": [1]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": [1]},
        {"data": np.zeros((1, 3072), np.uint8), "labels": [10]},
        {"data": np.zeros((1, 3072), np.float32), "labels": [1]},
        {"data": np.zeros((0, 3072), np.uint8), "labels": []},
        [1, 2],
        "text",
    ],
)
def test_what_is_no_batch_is_refused_by_name(tmp_path, content):
    write(tmp_path, test_batch=content)
    with pytest.raises(InputError, match=r"\A[^\n]*test_batch is not a batch of CIFAR-10 [^\n]*\Z"):
        load_images(SETTINGS, Place(root=tmp_path))


def test_a_cut_off_batch_is_refused_by_name(tmp_path):
    folder = write(tmp_path) / "cifar-10-batches-py"
    content = (folder / "data_batch_4").read_bytes()
    for size in (0, 1, 100, len(content) // 2, len(content) - 1):
        (folder / "data_batch_4").write_bytes(content[:size])
        with pytest.raises(InputError, match="data_batch_4 is not a batch"):
            load_images(SETTINGS, Place(root=tmp_path))


def test_other_files_than_the_published_ones_need_a_flag(root):
    with pytest.raises(InputError, match=r"data_batch_1 is not the published file .*--data.other-files"):
        load_images(Cifar10Settings(), Place(root=root))


def test_absent_data_say_how_to_get_them(tmp_path):
    with pytest.raises(InputError, match="--data-root FOLDER"):
        load_images(SETTINGS, Place())
    with pytest.raises(InputError, match=r"CIFAR-10 is missing.*data_batch_1.*--download"):
        load_images(SETTINGS, Place(root=tmp_path))


def test_all_absent_batches_are_named(tmp_path):
    folder = write(tmp_path) / "cifar-10-batches-py"
    for name in ("data_batch_2", "test_batch"):
        (folder / name).unlink()
    for root in (tmp_path, folder):
        with pytest.raises(InputError, match=r"cifar-10-batches-py: data_batch_2, test_batch missing; .*--download"):
            load_images(SETTINGS, Place(root=root))


@pytest.mark.parametrize(
    ("there", "told"),
    [
        ("cifar-100-python", "CIFAR-100 is there"),
        ("cifar-10-batches-bin", "binary version"),
        ("cifar-10-batches-mat", "Matlab version"),
        ("cifar-10-python.tar.gz", "unpack it"),
    ],
)
def test_what_is_there_instead_is_named(tmp_path, there, told):
    (tmp_path / there).mkdir()
    for root in (tmp_path, tmp_path / there):
        with pytest.raises(InputError, match=rf"\A[^\n]*CIFAR-10 is missing[^\n]*{told}[^\n]*\Z"):
            load_images(SETTINGS, Place(root=root))


def test_a_root_above_the_folder_is_told_the_right_one(root, tmp_path):
    inner = write(tmp_path / "datasets" / "cifar-10-batches-py-target") / "cifar-10-batches-py"  # as Keras unpacks it
    with pytest.raises(InputError, match=rf"CIFAR-10 is in {inner}; name that folder"):
        load_images(SETTINGS, Place(root=tmp_path / "datasets"))
    assert load_images(SETTINGS, Place(root=inner)).fingerprint == load_images(SETTINGS, Place(root=root)).fingerprint


def test_batches_that_are_not_read_are_named(tmp_path):
    folder = write(tmp_path) / "cifar-10-batches-py"
    (folder / "batches.meta").touch()
    assert not any("not read" in note for note in load_images(SETTINGS, Place(root=tmp_path)).notes)
    (folder / "data_batch_6").touch()
    assert any("not read: data_batch_6" in note for note in load_images(SETTINGS, Place(root=tmp_path)).notes)


def test_all_files_that_are_not_the_published_ones_are_named(root):
    with pytest.raises(InputError, match=r"like data_batch_2, .*, test_batch: download"):
        load_images(Cifar10Settings(), Place(root=root))


def test_one_absent_file_is_reason_enough_to_download(tmp_path, monkeypatch):
    folder = write(tmp_path) / "cifar-10-batches-py"
    (folder / "data_batch_1").unlink()

    def fetch(root: str, download: bool) -> None:
        (folder / "data_batch_1").write_bytes(pickle.dumps(batch(0)))

    monkeypatch.setitem(sys.modules, "torchvision.datasets", SimpleNamespace(CIFAR10=fetch))
    assert len(load_images(SETTINGS, Place(root=tmp_path, download=True)).train) == 50


def test_flags_that_do_nothing_are_refused(root):
    for place, flag in ((Place(root=root, store=root), "--store"), (Place(root=root, skip_bad=True), "--skip-bad")):
        with pytest.raises(InputError, match=f"{flag} has no effect for cifar10: leave it out"):
            load_images(SETTINGS, place)


def test_a_failed_download_is_told(tmp_path, monkeypatch):
    class Refuse:
        url = "https://example.org/cifar"

        def __init__(self, root: str, download: bool) -> None:
            raise OSError("no route to host")

    monkeypatch.setitem(sys.modules, "torchvision.datasets", SimpleNamespace(CIFAR10=Refuse))
    with pytest.raises(InputError, match=r"download of CIFAR-10 from https://example.org/cifar .*no route to host"):
        load_images(Cifar10Settings(), Place(root=tmp_path, download=True))


def test_grids_that_the_images_cannot_serve_are_refused(root):
    for changes, message in (
        ({"labels": True}, "--losses moco"),
        ({"batch": 41}, r"--pretrain\.batch 41 exceeds the 40 training images"),
        ({"rho": (), "supervised_batch": 41}, r"--pretrain\.batch 41"),
        ({"probe_batch": 41}, r"--probe\.batch 41"),
    ):
        with pytest.raises(InputError, match=message):
            load(SETTINGS, Place(root=root), demands(**changes))
    load(SETTINGS, Place(root=root), demands(rho=(), batch=41))  # no contrastive cell, no pairs
    one = replace(SETTINGS, val=0.02)
    with pytest.raises(InputError, match=r"--data\.val 0\.02 holds out 1 images"):
        load(one, Place(root=root), demands())
    with pytest.raises(InputError, match=r"--data\.val 1"):
        Cifar10Settings(val=1.0)


def test_the_splits_cover_the_images_and_depend_on_the_seed(root, data):
    source = load_images(SETTINGS, Place(root=root))
    assert [data.count(split) for split in ("train", "val", "test")] == [40, 10, 10]
    shown = torch.cat([data.downstream(split, torch.arange(data.count(split)))[0] for split in ("train", "val")])
    there = {image.tobytes() for image in source.train}
    assert {(255 * image).round().byte().permute(1, 2, 0).numpy().tobytes() for image in shown} == there
    other = open_data(SETTINGS, source, 1, CPU)
    every = torch.arange(10)
    assert not torch.equal(data.downstream("val", every)[0], other.downstream("val", every)[0])
    assert torch.equal(data.downstream("test", every)[0], other.downstream("test", every)[0])
    assert data.class_counts().sum() == 40


def test_a_false_positive_shows_an_image_of_another_class_all_equally_likely(data):
    pool = data.pool(1.0, 1.0, "false_positive", torch.Generator())
    labels = data.downstream("train", torch.arange(40))[1].long()
    index = torch.arange(40).repeat(500)
    partner = pool.partner(index, torch.rand(len(index), generator=torch.Generator().manual_seed(0)))
    assert (labels[partner] != labels[index]).all()
    met = torch.bincount(partner[index == 0], minlength=40)
    others = labels != labels[0]
    assert (met[~others] == 0).all()
    # 500 draws over some 36 images: 14 each on average.
    assert met[others].min() > 0
    ends = pool.partner(torch.arange(40), torch.full((40,), 1 - 2**-24))
    assert (labels[ends] != labels).all()


def test_pairs_that_are_not_false_show_one_image_twice(data):
    draws = Draws(noisy=torch.rand(40), swap=torch.rand(40), partner=torch.rand(40))
    pair, false = data.pool(0.5, 1.0, "false_positive", torch.Generator()).batch(
        torch.arange(40), draws, labelled=False
    )
    same = (pair.first == pair.second).flatten(1).all(dim=1)
    assert torch.equal(same, ~false)
    assert torch.equal(false, draws.noisy < 0.5)
    own = data.images("train", torch.arange(40))
    swapped = false & (draws.swap < 0.5)
    assert torch.equal(pair.second[swapped], own[swapped])
    assert torch.equal(pair.first[~swapped], own[~swapped])


def test_both_images_of_a_pair_have_the_class_of_the_indexed_image(data):
    draws = Draws(noisy=torch.rand(40), swap=torch.rand(40), partner=torch.rand(40))
    pool, every = data.pool(0.5, 1.0, "false_positive", torch.Generator()), torch.arange(40)
    pair, _ = pool.batch(every, draws, labelled=True)
    own = data.downstream("train", every)[1]
    assert torch.equal(pair.first_labels, own)
    assert torch.equal(pair.second_labels, own)
    plain, _ = pool.batch(every, draws, labelled=False)
    assert torch.equal(pair.first, plain.first)
    assert plain.first_labels is plain.second_labels is None
    held = data.validation(torch.arange(10), labelled=True)
    assert torch.equal(held.first_labels, data.downstream("val", torch.arange(10))[1])
    assert held.second_labels is held.first_labels


@pytest.mark.realdata
def test_real_images_are_read():
    source = load_images(SETTINGS, Place(root=real("cifar10-subset")))
    assert source.train.shape == (10_000, 32, 32, 3)
    assert source.test.shape == (2_000, 32, 32, 3)
    assert len(np.unique(source.train_labels)) == 10
