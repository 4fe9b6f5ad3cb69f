"""A store is never trusted when something is amiss: it is made again."""

import json
import os

import pytest

from datasets.errors import InputError
from tests.helpers.fake_store import bring, pairs, reads, root, same

FIXTURES = (bring, pairs, reads, root)  # pytest finds them by their names


def test_a_store_with_any_file_cut_off_is_made_again(bring, pairs, reads) -> None:
    made = bring(pairs)
    files = sorted(path.name for path in made.path.iterdir())
    assert {"images.npy", "counts.npy", "tiles.parquet", "pairs.parquet", "store.json"} < set(files)
    for name in files:
        for keep in (0, 0.5, 1):
            path = made.path / name
            size = path.stat().st_size
            os.truncate(path, min(size - 1, int(keep * size)))
            reads.clear()
            assert same(bring(pairs), made)
            assert len(reads) == 5
            assert path.stat().st_size == size


@pytest.mark.parametrize("text", [None, "", "[]", "7", "{}", '{"format": 1, "left_out": [7]}', "\xff"])
def test_a_store_that_does_not_say_what_it_is_is_made_again(bring, pairs, reads, text) -> None:
    made = bring(pairs)
    path = made.path / "store.json"
    path.unlink() if text is None else path.write_text(text, encoding="latin-1")
    reads.clear()
    assert same(bring(pairs), made)
    assert len(reads) == 5


def test_a_store_of_another_format_or_with_a_file_gone_is_made_again(bring, pairs, reads) -> None:
    made = bring(pairs)
    about = json.loads((made.path / "store.json").read_text())
    (made.path / "store.json").write_text(json.dumps({**about, "format": about["format"] + 1}))
    reads.clear()
    assert same(bring(pairs), made)
    assert len(reads) == 5
    (made.path / "partners.npy").unlink()
    assert same(bring(pairs), made)
    assert len(reads) == 10


def test_a_small_file_of_the_same_size_with_another_content_is_made_again(bring, pairs, reads) -> None:
    made = bring(pairs)
    for name in ("counts.npy", "tiles.parquet", "pairs.parquet"):
        path = made.path / name
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        reads.clear()
        assert same(bring(pairs), made)
        assert len(reads) == 5


def test_an_array_without_its_head_is_told_in_one_line(bring, pairs) -> None:
    made = bring(pairs)
    with open(made.path / "images.npy", "r+b") as file:
        file.write(bytes(128))
    with pytest.raises(InputError, match=r"\A[^\n]*images\.npy is damaged [^\n]*it is built again\Z"):
        bring(pairs).image()
