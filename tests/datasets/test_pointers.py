"""Pointers of Git LFS, which stand for files in a clone without Git LFS, are named as such by all that reads files."""

from pathlib import Path

import pytest

from datasets.errors import InputError
from datasets.images.masks import read_mask
from datasets.images.read import read_classes, read_image, shape_of
from datasets.manifest.table import read_table
from datasets.source import Place
from datasets.vts.textures import load_folder
from datasets.xbd.config import XbdSettings
from datasets.xbd.source import load
from tests.helpers import fake_xbd

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 1048576\n"


def mask(path: Path) -> object:
    return read_mask(path, 8, 8, unclassified="ignore")


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("a.png", read_image),
        ("a.tif", shape_of),
        ("a.png", read_classes),
        ("a.json", mask),
        ("a.csv", read_table),
        ("a.parquet", read_table),
    ],
)
def test_a_pointer_is_told_from_a_damaged_file(tmp_path: Path, name: str, read) -> None:
    (tmp_path / name).write_text(POINTER)
    with pytest.raises(InputError, match=r"\A[^\n]*is a pointer of Git LFS[^\n]*git lfs pull[^\n]*\Z"):
        read(tmp_path / name)


def test_a_category_of_pointers_is_one_line(tmp_path: Path) -> None:
    for category in ("bark", "moss", "sand"):
        (tmp_path / category).mkdir()
        for number in range(4):
            (tmp_path / category / f"{number}.jpg").write_text(POINTER)
    with pytest.raises(InputError, match=r"\A12 texture images cannot .*0\.jpg \(is a pointer of Git LFS[^\n]*\Z"):
        load_folder(tmp_path, (), min_side=8)


def test_a_tree_of_pointers_is_a_line_for_all_images(tmp_path: Path) -> None:
    root = fake_xbd.tree(tmp_path / "xbd")
    for path in root.glob("*/images/*"):
        path.write_text(POINTER)
    with pytest.raises(InputError) as error:
        load(XbdSettings(size=32), Place(root=root, store=tmp_path))
    head, line = str(error.value).splitlines()
    assert "16 problems" in head
    assert "is a pointer of Git LFS" in line
    assert "and 15 more like this" in line
