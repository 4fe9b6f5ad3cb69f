"""Damaged and forged checkpoint files never lead to a wrong state or an exception."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.trainables.checkpoint_states import expected, forged, state, text
from trainables.checkpoints import MAGIC, Checkpoint, Checkpoints, serialize

REAL = b"".join(serialize("cell", Checkpoint(stage="probe", step=2, state=state(2))))
OLDER = b"".join(serialize("cell", Checkpoint(stage="probe", step=1, state=state(1))))
START = len(MAGIC) + 32


@st.composite
def damaged(draw, whole=REAL):
    """Random bytes, or a real file with truncated, flipped, overwritten, inserted or deleted parts."""
    kind = draw(st.sampled_from(["random", "cut", "flip", "overwrite", "insert", "leave out"]))
    if kind == "random":
        return draw(st.sampled_from([b"", MAGIC])) + draw(st.binary(max_size=200))
    at = draw(st.integers(0, len(whole) - 1))
    if kind == "cut":
        return whole[:at]
    if kind == "flip":
        content = bytearray(whole)
        for _ in range(draw(st.integers(1, 4))):
            content[at] ^= 1 << draw(st.integers(0, 7))
            at = draw(st.integers(0, len(whole) - 1))
        return bytes(content)
    part = draw(st.binary(min_size=1, max_size=40))
    rest = {"overwrite": at + len(part), "insert": at, "leave out": at + len(part)}[kind]
    return whole[:at] + (b"" if kind == "leave out" else part) + whole[rest:]


def check_damaged(folder, content):
    """If the newest file is damaged, the previous one is used with a message. An unchanged one is used without."""
    (folder / "probe-1.ckpt").write_bytes(OLDER)
    (folder / "probe-2.ckpt").write_bytes(content)
    said = []
    found = text(Checkpoints(folder, "cell", notify=said.append).load())
    whole = content == REAL
    assert found == (expected("probe", 2, 2) if whole else expected("probe", 1, 1))
    assert len(said) == (0 if whole else 2)
    assert not any("\n" in line for line in said)


def check_forged(folder, payload):
    """A forged file with a matching digest raises no exception, and only a well-formed state is used."""
    (folder / "probe-2.ckpt").write_bytes(forged(payload))
    said = []
    found = Checkpoints(folder, "cell", notify=said.append).load()
    assert (found is None) == (len(said) == 2)
    assert found is None or (found.stage, found.step, type(found.state)) == ("probe", 2, dict)


def fuzz(check, contents, count, tmp_path):
    quietly = settings(
        max_examples=count, deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=True
    )
    quietly(given(contents)(lambda content: check(tmp_path, content)))()


FUZZED = [(check_damaged, damaged()), (check_forged, damaged(REAL[START:]))]


@pytest.mark.parametrize(("check", "contents"), FUZZED, ids=["damaged", "forged"])
def test_no_damage_gives_a_wrong_state_or_an_exception(tmp_path, check, contents):
    fuzz(check, contents, 300, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("check", "contents"), FUZZED, ids=["damaged", "forged"])
def test_no_damage_of_ten_thousand_gives_a_wrong_state_or_an_exception(tmp_path, check, contents):
    fuzz(check, contents, 10_000, tmp_path)
