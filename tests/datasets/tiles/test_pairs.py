"""Lists of problems: one cause is one line, however many files it spoils, and no problem is lost from the count."""

from pathlib import Path

import pytest

from datasets.tiles.pairs import Problem, ProblemsError, left_out_notes, problem_lines

CAUSES = {  # what is said of file k
    "equal": lambda k: "is empty; restore it",
    "other numbers": lambda k: f"is {k} x 7 px, smaller than a tile of 8 px",
    "other files": lambda k: f"is missing, but train/images/red-fire_{k:08}_pre_disaster.png exists; unpack it too",
    "other bare names": lambda k: f"image {chr(97 + k % 26) * (k + 1)}.png: does not exist",
    "other values": lambda k: f"noisy {chr(97 + k % 26) * (k + 1)!r}: must be true or false",
}


def problems(cause: str, number: int) -> list[Problem]:
    return [Problem(where=f"row {k}", what=CAUSES[cause](k)) for k in range(number)]


@pytest.mark.parametrize("cause", CAUSES)
def test_many_problems_of_one_cause_are_one_line_with_their_number(cause: str) -> None:
    (line,) = problem_lines(problems(cause, 72))
    assert line == f"row 0: {CAUSES[cause](0)} (and 71 more like this: row 1, row 2, row 3, ...)"
    (line,) = problem_lines(problems(cause, 4))
    assert line.endswith("(and 3 more like this: row 1, row 2, row 3)")


@pytest.mark.parametrize("cause", CAUSES)
def test_few_problems_keep_a_line_each(cause: str) -> None:
    few = problems(cause, 3)
    assert problem_lines(few) == [f"{problem.where}: {problem.what}" for problem in few]


def test_each_cause_has_its_own_line_where_its_first_problem_is() -> None:
    mixed = [problem for three in zip(*(problems(cause, 50) for cause in CAUSES), strict=True) for problem in three]
    lines = problem_lines(mixed)
    assert [line.partition(" (and 49 more")[0] for line in lines] == [f"row 0: {says(0)}" for says in CAUSES.values()]
    error = ProblemsError(Path("data"), mixed, "repair them")
    assert str(error).splitlines() == ["data: 250 problems; repair them", *(f"  {line}" for line in lines)]
    assert error.problems == tuple(mixed)


def test_a_list_of_what_was_left_out_has_all_or_says_how_many_there_are() -> None:
    many = problems("other numbers", 72) + problems("equal", 2)
    assert len(left_out_notes(many, "check")) == 74
    assert [line.split(" (")[0] for line in left_out_notes(many, "check", most=5)] == [
        "left out: row 0: is 0 x 7 px, smaller than a tile of 8 px",
        "left out: row 0: is empty; restore it",
        "left out: row 1: is empty; restore it",
        "left out: 74 problems in all, which `check` lists",
    ]
    assert len(left_out_notes(many, "check", most=1)) == 2
    assert left_out_notes(many[-2:], "check", most=2) == [f"left out: row {k}: is empty; restore it" for k in range(2)]
    assert left_out_notes([], "check", most=2) == []
