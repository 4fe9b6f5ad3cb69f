"""The cache gives back what was put there, or nothing."""

import errno

import numpy as np
import pytest

from datasets import files
from datasets.vts import procedural
from datasets.vts.config import FAMILIES


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "noisy-pairs"


def test_what_is_kept_comes_back(folder):
    assert files.cache_read("a") is None
    files.cache_write("a", b"content")
    assert files.cache_read("a") == b"content"
    files.cache_write("a", b"")
    assert files.cache_read("a") == b""
    assert [path.name for path in folder.iterdir()] == ["a"]


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:-1] + b"?", lambda data: b""])
def test_what_was_cut_off_or_changed_is_nothing(folder, damage):
    files.cache_write("a", b"content")
    (folder / "a").write_bytes(damage((folder / "a").read_bytes()))
    assert files.cache_read("a") is None


def test_a_cache_that_cannot_be_written_keeps_nothing_and_says_why(folder):
    assert files.cache_write("a", b"content") == ""
    (folder / "a").unlink()
    folder.rmdir()
    folder.write_text("not a folder")
    assert "File exists" in files.cache_write("a", b"content")
    assert files.cache_read("a") is None


def test_a_home_that_is_full_keeps_nothing_and_says_why(folder, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr("os.fsync", full)
    assert files.cache_write("a", b"content") == f"[Errno {errno.EDQUOT}] Disk quota exceeded"
    assert files.cache_read("a") is None
    assert list(folder.iterdir()) == []


def test_without_a_home_the_cache_is_in_a_temporary_folder_of_this_user_alone(tmp_path, monkeypatch):
    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(files.Path, "home", homeless)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert files.cache_write("a", b"content") == ""
    assert files.cache_read("a") == b"content"
    (own,) = tmp_path.iterdir()
    assert own.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr("os.getuid", lambda: 4711)
    own.rename(files.temporary_folder())  # made by another user, who could read and replace what is in it
    assert "belongs to another user" in files.cache_write("a", b"content")
    assert files.cache_read("a") is None


def test_kept_textures_are_those_that_are_made_and_damaged_ones_are_made_again(folder, monkeypatch):
    made = procedural.cached_textures(32, 4)
    (file,) = folder.iterdir()
    monkeypatch.setattr(procedural, "generate", lambda *what: pytest.fail("made again"))
    assert np.array_equal(procedural.cached_textures(32, 4), made)
    monkeypatch.undo()
    file.write_bytes(b"damaged")
    assert np.array_equal(procedural.cached_textures(32, 4), made)
    fresh = np.stack([np.stack(procedural.generate(name, 32, 4)) for name in FAMILIES])
    assert np.array_equal(made, fresh)


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text_atomically(path, "before")
    files.write_text_atomically(path, "Köln")
    assert path.read_bytes() == "Köln".encode()
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_a_file_that_cannot_be_written_stays_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "a"
    files.write_atomically(path, b"before")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_atomically(path, b"after")
    assert path.read_bytes() == b"before"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
    with pytest.raises(OSError, match="No such file"):
        files.write_atomically(tmp_path / "absent" / "a", b"")
