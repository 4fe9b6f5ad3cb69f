"""Data sets whose samples are those of torchgeo become a Parquet file that a sweep reads, or a list of what is wrong.

torchgeo is no dependency: the classes here have the samples and the refusals of its OSCD, LEVIR-CD and BRIGHT.
"""

import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from datasets.manifest.__main__ import main
from datasets.manifest.config import ManifestSettings
from tests.helpers.fake_pairs import data, load, own_store

FIXTURES = (data, own_store)  # pytest finds them by their names


class Oscd:
    """13 bands of whole numbers beyond 8 bits as floats; two splits; one binary mask."""

    def __init__(self, root: Path, split: str = "train", bands: tuple = tuple(range(13))) -> None:
        assert split in ("train", "test")
        if not Path(root).is_dir():
            raise FileNotFoundError(f"Dataset not found in {root}")
        self.split, self.bands = split, bands

    def __len__(self) -> int:
        return 4 if self.split == "train" else 2

    def image(self, index: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(index + 100 * ("train", "val", "test").index(self.split))
        return torch.randint(0, 9000, (2, len(self.bands), 20, 24), generator=generator).float()

    def mask(self, index: int) -> torch.Tensor:
        return (self.image(index)[0, 0] > 4000).long() * (index == 1)  # the others have not changed

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"image": self.image(index), "mask": self.mask(index)}


class Levir(Oscd):
    """8-bit RGB, the images apart, as before torchgeo 0.8; three splits and a mask of one channel."""

    def __init__(self, root: Path, split: str = "train") -> None:
        if split not in ("train", "val", "test"):
            raise ValueError(split)
        self.split, self.bands = split, (0, 1, 2)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        one, two = self.image(index) % 256
        return {"image1": one, "image2": two, "mask": self.mask(index)[None]}


class Broken(Levir):
    """Each sample is wrong in its own way."""

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        sample = super().__getitem__(index)
        if self.split != "train":
            return sample
        if index == 0:
            raise RuntimeError("cannot open x.tif")
        if index == 1:
            return {**sample, "mask": sample["mask"] - 1}
        if index == 2:
            return {**sample, "image2": sample["image2"][:, :5]}
        return {"picture": sample["image1"]}


class Series(Levir):
    """Three images, and values that are not whole."""

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"image": torch.cat([self.image(index), self.image(index)[:1] / 7]), "mask": self.mask(index)}


class Damage(Levir):
    """Four classes of the second image."""

    def mask(self, index: int) -> torch.Tensor:
        return (self.image(index)[0, 0] % 4).long()


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """This module under a name that can be written on a command line."""
    monkeypatch.setitem(sys.modules, "fake_geo", sys.modules[__name__])


def written(name: str, folder: Path, *words: str) -> Path:
    out = folder / "x.parquet"
    folder.mkdir(exist_ok=True)
    assert main(["from-torchgeo", f"fake_geo:{name}", "--root", str(folder), "--out", str(out), *words]) == 0
    return out


def test_pixels_and_masks_are_those_of_the_samples(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = written("Oscd", data)
    assert "4 train, 2 test pairs" in (output := capsys.readouterr().out)
    assert output.rstrip().endswith("--holdout 0.2 0")  # it has no split val
    scale = {"mean": (1.0,) * 13, "std": (1.0,) * 13}
    source = load(out, ManifestSettings(size=16, bands=13, holdout=(0.3, 0), **scale))
    assert source.store.dtype == "uint16"
    given = Oscd(data, "test")
    first = source.store.tiles.index[source.store.tiles["pair"] == "test-000001"][0]
    for side, array in enumerate((source.store.image(), source.store.partner())):
        np.testing.assert_array_equal(array[first], given.image(1)[side].permute(1, 2, 0)[:16, :16].numpy())
    np.testing.assert_array_equal(source.store.changes()[first], given.mask(1)[:16, :16].numpy())
    assert source.store.tiles["noisy"].tolist() == source.store.tiles["pair"].str.endswith("1").tolist()


def test_images_that_are_apart_and_arguments_of_the_class(data: Path) -> None:
    source = load(written("Levir", data), ManifestSettings(size=16))
    assert (source.store.dtype, source.store.bands, len(source.split)) == ("uint8", 3, 4 + 2 + 2)
    (data / "x.parquet").unlink()
    out = written("Oscd", data, "--set", "bands=(3, 2, 1)", "--mask", "t1_mask", "--splits", "train")
    table = pq.read_table(out).to_pydict()
    assert table["t2_mask"] == [None] * 4
    assert all(table["t1_mask"])
    assert "change_mask" not in table
    assert table["split"] == ["train"] * 4


def test_a_mask_of_classes_is_not_taken_for_one_of_changes(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data.mkdir()
    words = ["from-torchgeo", "fake_geo:Damage", "--root", str(data), "--out", str(data / "x.parquet")]
    assert main(words) == 2
    told = "sample 0 of train: its mask has the values 0, 1, 2, 3, but one of changes has 0 and 1, or 0 and 255: if it "
    assert f"{told}shows classes of the second image, add --mask t2_mask" in capsys.readouterr().err
    assert not list(data.iterdir())
    assert main([*words, "--mask", "t2_mask"]) == 0
    source = load(data / "x.parquet", ManifestSettings(size=16))
    first = source.store.tiles.index[source.store.tiles["pair"] == "test-000000"][0]
    np.testing.assert_array_equal(source.store.partner_mask()[first], Damage(data, "test").mask(0)[:16, :16].numpy())


def test_two_of_several_images_and_values_that_are_not_whole(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["from-torchgeo", "fake_geo:Series", "--root", str(data.parent), "--out", str(data / "y.parquet")]
    assert main(command) == 2
    assert "has 3 images; say which two make a pair, as in --times 0 2" in capsys.readouterr().err
    out = written("Series", data, "--times", "0", "2")
    source = load(out, ManifestSettings(size=16, mean=(1.0,) * 3, std=(1.0,) * 3))
    assert source.store.dtype == "float32"
    np.testing.assert_array_equal(
        source.store.partner()[0], (Series(data).image(0)[0] / 7).permute(1, 2, 0)[:16, :16].numpy()
    )


def test_all_that_is_wrong_is_listed_and_nothing_is_written(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data.mkdir()
    out = data / "x.parquet"
    words = ["from-torchgeo", "fake_geo:Broken", "--root", str(data), "--out", str(out)]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "x.parquet: 4 problems; nothing was written" in error
    for line in (
        "sample 0 of train: RuntimeError: cannot open x.tif",
        "sample 1 of train: its mask has values from -1 to 0; valid are 0 to 255",
        "sample 2 of train: its images have the shapes (3, 20, 24) and (3, 5, 24); they must agree",
        "sample 3 of train: has picture, but neither image nor image1 and image2",
    ):
        assert line in error
    assert not list(data.iterdir())
    assert main([*words[:1], "fake_geo:Oscd", *words[2:], "--dtype", "uint8"]) == 2
    assert "which uint8 does not hold; add --dtype uint16" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["OSCD"], "torchgeo cannot be imported"),
        (["fake_geo:Oscdd"], "test_from_torchgeo has no class Oscdd; did you mean Oscd?"),
        (["nothing:Here"], "nothing cannot be imported"),
        (["fake_geo:Oscd", "--splits", "val"], "--splits val: fake_geo:Oscd refuses it"),
        (
            ["fake_geo:Oscd", "--set", "band=1"],
            "--set band=...: fake_geo:Oscd has no such argument; valid are root, split",
        ),
        (["fake_geo:Oscd", "--set", "bands"], "--set 'bands': write it as NAME=VALUE"),
        (["fake_geo:Oscd", "--root", "gone"], "FileNotFoundError: Dataset not found in"),
        (["fake_geo:Oscd", "--out", "."], "exists; name another file with --out"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "torchgeo", None)  # as where it is not installed
    more = [
        one for flag, value in (("--root", "."), ("--out", "x.parquet")) if flag not in words for one in (flag, value)
    ]
    assert main(["from-torchgeo", *words, *more]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
