"""Where there is no room for a store, or no folder, that is told."""

import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from datasets.tiles import build
from datasets.tiles.cutting import PairTiles
from tests.helpers.fake_store import bring, pairs, reads, refused, root, same

FIXTURES = (bring, pairs, reads, root)  # pytest finds them by their names


@contextmanager
def no_large_files() -> Iterator[None]:
    """The system refuses to write beyond 4 KB of any file, as it does on a full disk.

    Not longer than for the one call: it holds for what pytest itself writes, too.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_takes_no_more_is_told(bring, pairs, tmp_path) -> None:
    with no_large_files():
        told = refused(lambda: bring(pairs))
    assert str(tmp_path / "stores") in told
    assert "File too large" in told


def test_a_write_that_fails_is_told_and_leaves_the_rest(bring, pairs, monkeypatch, reads) -> None:
    save, saved = build.save_tiles, []

    def full(path: Path, tiles: PairTiles) -> None:
        if len(saved) == 2:
            raise OSError(28, "No space left on device")
        saved.append(path)
        save(path, tiles)

    monkeypatch.setattr(build, "save_tiles", full)
    assert "No space left on device" in refused(lambda: bring(pairs, jobs=1))
    monkeypatch.setattr(build, "save_tiles", save)
    reads.clear()
    assert same(bring(pairs), bring(pairs, folder="fresh"))
    assert sorted(reads[:-5]) == ["pair 2", "pair 3", "pair 4"]


def test_too_little_space_is_told_before_anything_is_read(bring, pairs, monkeypatch, reads) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**7))
    told = refused(lambda: bring(pairs))
    assert "need 0.02 GB" in told
    assert "0.01 GB are free" in told
    assert reads == []


def test_a_folder_that_is_a_file_is_told(bring, pairs, tmp_path) -> None:
    (tmp_path / "stores").write_text("")
    assert str(tmp_path / "stores") in refused(lambda: bring(pairs))
