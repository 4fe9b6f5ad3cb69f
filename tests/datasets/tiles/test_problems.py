"""Problems of pairs are all named at once, or the pairs are left out, and what cannot become a store is refused."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datasets.tiles.pairs import Problem, ProblemsError
from tests.helpers.fake_store import (
    CUT,
    HEIGHT,
    WHAT,
    WIDTH,
    bring,
    pairs,
    reads,
    refused,
    root,
    same,
    save,
    spoil,
    spoilt,
)

FIXTURES = (bring, pairs, reads, root, spoilt)  # pytest finds them by their names

STRAY = Problem(where="labels/stray.json", what="has no image")


def test_all_problems_are_named_at_once(bring, spoilt, root) -> None:
    told = refused(lambda: bring(spoilt, problems=[STRAY], remedy="mend them"), ProblemsError)
    assert told.splitlines() == [
        f"{root}: 4 problems; mend them",
        f"  image/1.png: {WHAT}",
        "  labels/stray.json: has no image",
        f"  partner/4.png: {WHAT}",
        f"  partner_mask/1.png: {WHAT}",
    ]


def test_pairs_with_problems_are_left_out_if_wanted(bring, spoilt, pairs) -> None:
    store = bring(spoilt, problems=[STRAY], skip_bad=True)
    assert [problem.where for problem in store.left_out] == [
        "image/1.png",
        "labels/stray.json",
        "partner/4.png",
        "partner_mask/1.png",
    ]
    assert {problem.pair for problem in store.left_out} == {"", "pair 1", "pair 4"}
    assert same(store, bring([pairs[k] for k in (0, 2, 3)], folder="fresh"))
    assert bring(spoilt, problems=[STRAY], skip_bad=True) == store


def test_a_store_that_left_something_out_is_refused_by_who_wants_all(bring, spoilt, reads) -> None:
    first = refused(lambda: bring(spoilt, problems=[STRAY]), ProblemsError)
    bring(spoilt, problems=[STRAY], skip_bad=True)
    reads.clear()
    assert refused(lambda: bring(spoilt, problems=[STRAY]), ProblemsError) == first
    assert reads == []


def test_a_known_problem_of_no_pair_does_not_make_a_store_anew(bring, pairs, reads) -> None:
    assert bring(pairs).left_out == ()
    reads.clear()
    assert bring(pairs, problems=[STRAY], skip_bad=True).left_out == (STRAY,)
    assert "1 problem;" in refused(lambda: bring(pairs, problems=[STRAY]), ProblemsError)
    assert bring(pairs).left_out == ()
    assert reads == []


def test_a_pair_with_a_known_problem_is_not_read(bring, pairs, reads) -> None:
    problem = Problem(where="row 3", what="is odd", pair="pair 2")
    store = bring(pairs, problems=[problem], skip_bad=True)
    assert "pair 2" not in reads
    assert store.pairs["pair"].tolist() == [f"pair {k}" for k in (0, 1, 3, 4)]
    assert store.left_out == (problem,)


def test_images_that_do_not_fit_are_named(bring, pairs, root) -> None:
    def saved(name: str, *shape: int, dtype: str = "uint8") -> Path:
        return save(root / name, np.zeros(shape, dtype))

    wrong = [
        replace(pairs[0], name="a", image=saved("a.png", HEIGHT, WIDTH)),
        replace(pairs[0], name="b", partner=saved("b.png", HEIGHT, WIDTH + 1, 3)),
        replace(pairs[0], name="c", image=saved("c.png", 7, 30, 3), partner=saved("c2.png", 7, 30, 3)),
        replace(pairs[0], name="d", partner=saved("d.png", HEIGHT, WIDTH, 3, dtype="uint16")),
        replace(
            pairs[0],
            name="e",
            image=saved("e.png", HEIGHT, WIDTH, 3, dtype="uint16"),
            partner=saved("e2.png", HEIGHT, WIDTH, 3, dtype="uint16"),
        ),
        replace(pairs[0], name="f", mask=saved("f.png", HEIGHT, WIDTH + 1)),
        replace(pairs[0], name="g", partner=root / "absent.png"),
    ]
    told = refused(lambda: bring([*pairs, *wrong]), ProblemsError).splitlines()[1:]
    assert [line.strip() for line in told] == [
        "a.png: has 1 band; 3 are needed",
        "absent.png: cannot be read (No such file or directory)",
        "b.png: is 28 x 20 px, but its image 27 x 20 px; they must agree",
        "c.png: is 30 x 7 px, smaller than a tile of 8 px",
        "d.png: is uint16, but its first image uint8; they must agree",
        "e.png: is uint16, where most images are uint8; all must have the same depth",
        "f.png: is 28 x 20 px, but its image 27 x 20; they must agree",
    ]


def test_no_pair_at_all_is_refused(bring, pairs) -> None:
    for pair in pairs:
        spoil(pair.image)
    told = refused(lambda: bring(pairs, skip_bad=True))
    assert f"no image pair can be used; the first problem is image/0.png: {WHAT}" in told
    assert "no image pair can be used" in refused(lambda: bring([]))
    shutil.rmtree(pairs[0].image.parent)
    assert "No such file" in refused(lambda: bring(pairs, skip_bad=True))


def test_two_pairs_of_one_name_are_refused(bring, pairs) -> None:
    assert "same name" in refused(lambda: bring([pairs[0], replace(pairs[1], name=pairs[0].name)]))


@pytest.mark.parametrize("wrong", [{"size": 0}, {"bands": 0}, {"noisy_classes": (255,)}])
def test_a_cut_that_cuts_nothing_is_refused(wrong) -> None:
    refused(lambda: replace(CUT, **wrong))
