"""A making that was stopped is continued: what was read is not read again, and the store is as if nothing had been."""

import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datasets.errors import InputError
from datasets.tiles import build
from datasets.tiles.pairs import ProblemsError
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
        with pytest.raises(InputError, match="no pair"):
            bring([pairs[k] for k in after], skip_bad=True)
        return
    store = bring([pairs[k] for k in after], skip_bad=True)
    shutil.rmtree(root.parent / "fresh", ignore_errors=True)
    assert same(store, bring([pairs[k] for k in after if k not in bad], folder="fresh"))


def test_tiles_that_change_while_a_gap_is_closed_are_not_taken(bring, pairs, monkeypatch) -> None:
    close = build.Filled.close

    def damaged(self: build.Filled) -> list:
        path = self.rows.path("images")
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        return close(self)

    spoil(pairs[0].image)  # so that all others move at the end
    monkeypatch.setattr(build.Filled, "close", damaged)
    assert "the tiles of pair 4" in refused(lambda: bring(pairs, skip_bad=True))
    monkeypatch.setattr(build.Filled, "close", close)
    assert same(bring(pairs, skip_bad=True), bring(pairs[1:], folder="fresh"))
