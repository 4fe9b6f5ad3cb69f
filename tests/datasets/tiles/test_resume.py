"""A making that was stopped is continued: what was read is not read again, and the store is as if nothing had been."""

import os
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasets.errors import InputError
from datasets.tiles import build
from datasets.tiles.earlier import EarlierStore
from datasets.tiles.pairs import ProblemsError
from datasets.tiles.request import BuildRequest
from tests.helpers.fake_store import bring, make_pair, pairs, reads, refused, root, same, spoil, spoilt

FIXTURES = (bring, pairs, reads, root, spoilt)  # pytest finds them by their names


def test_what_was_read_before_problems_were_told_is_not_read_again(bring, spoilt, reads, root) -> None:
    with pytest.raises(ProblemsError):
        bring(spoilt)
    for number in (1, 4):
        make_pair(root, number)
    reads.clear()
    assert same(bring(spoilt), bring(spoilt, folder="fresh"))
    assert sorted(reads[:-5]) == ["pair 1", "pair 4"]


def test_pairs_that_come_before_others_move_them(bring, pairs, reads, root) -> None:
    spoil(pairs[4].partner)
    with pytest.raises(ProblemsError):
        bring(pairs[1:])
    make_pair(root, 4)
    reads.clear()
    store = bring([make_pair(root, 9, height=33), *pairs])
    assert sorted(reads) == ["pair 0", "pair 4", "pair 9"]
    assert same(store, bring([make_pair(root, 9, height=33), *pairs], folder="fresh"))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    before=st.lists(st.integers(0, 7), unique=True, max_size=8),
    after=st.lists(st.integers(0, 7), unique=True, min_size=1, max_size=8),
    bad=st.sets(st.integers(0, 7)),
)
def test_whatever_was_stopped_the_store_is_as_if_nothing_had_been(bring, root, before, after, bad) -> None:
    shutil.rmtree(root.parent / "stores", ignore_errors=True)
    pairs = [make_pair(root, number, height=(8, 16, 24, 40)[number % 4]) for number in range(8)]
    stopper = make_pair(root, 8)
    spoil(stopper.image)
    with pytest.raises(ProblemsError):
        bring([*(pairs[k] for k in before), stopper])
    for number in bad:
        spoil(pairs[number].image)
    if set(after) <= bad:
        with pytest.raises(InputError, match="no image pair"):
            bring([pairs[k] for k in after], skip_bad=True)
        return
    store = bring([pairs[k] for k in after], skip_bad=True)
    shutil.rmtree(root.parent / "fresh", ignore_errors=True)
    assert same(store, bring([pairs[k] for k in after if k not in bad], folder="fresh"))


def test_a_join_that_was_interrupted_resumes(bring, pairs, reads, monkeypatch) -> None:
    load, loads = build.load_tiles, []

    def full(*arguments: object, verify: bool) -> object:
        loads.append(arguments)
        if len(loads) > len(pairs) + 2:  # each file is looked for, then each is joined
            raise OSError(28, "No space left on device")
        return load(*arguments, verify=verify)

    monkeypatch.setattr(build, "load_tiles", full)
    assert "No space left on device" in refused(lambda: bring(pairs, jobs=1))
    monkeypatch.setattr(build, "load_tiles", load)
    reads.clear()
    store = bring(pairs)
    assert sorted(reads) == ["pair 0", "pair 1"]  # their files were deleted once they were joined
    assert same(store, bring(pairs, folder="fresh"))


def test_a_file_that_is_damaged_before_the_join_is_refused(bring, pairs, root, reads, monkeypatch) -> None:
    join = build.join_pairs

    def damaged(request: BuildRequest, shapes: dict, earlier: EarlierStore) -> list:
        os.truncate(request.work / request.pair_file("pair 4"), 1000)
        return join(request, shapes, earlier)

    monkeypatch.setattr(build, "join_pairs", damaged)
    assert "was damaged after it was written" in refused(lambda: bring(pairs))
    monkeypatch.setattr(build, "join_pairs", join)
    assert same(bring(pairs), bring(pairs, folder="fresh"))


def test_an_image_that_is_damaged_along_with_its_file_leaves_nothing_behind(bring, pairs, monkeypatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(build, "join_pairs", stop)
        with pytest.raises(KeyboardInterrupt):
            bring(pairs)
    path, before = pairs[4].image, pairs[4].image.stat()
    content = path.read_bytes()
    path.write_bytes(content[:-20] + bytes(20))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    for file in path.parents[2].glob("stores/.*.making/*.tiles"):
        os.truncate(file, 1000)
    store = bring(pairs, skip_bad=True)
    assert same(store, bring(pairs[:4], folder="fresh"))
    assert not list(store.path.glob("*.tiles"))
