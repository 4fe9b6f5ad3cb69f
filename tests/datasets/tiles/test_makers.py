"""Of several processes one makes a store; where it was killed, the next continues from what is sound."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from datasets.tiles import index, request
from datasets.tiles.pairs import PairFiles
from tests.helpers.command import ROOT
from tests.helpers.fake_store import ARRAYS, CUT, bring, pairs, reads, root, same

FIXTURES = (bring, pairs, reads, root)  # pytest finds them by their names

SLOW_MAKER = """
import pickle, sys, time
from pathlib import Path
from datasets.tiles import cutting
from datasets.tiles.request import BuildRequest
from datasets.tiles.store import open_store

given, allowed, go = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
cut_pair, begun = cutting.cut_pair, []

def held_up(pair, *rest):
    begun.append(pair)
    while len(begun) > allowed and not go.exists():
        time.sleep(0.01)
    return cut_pair(pair, *rest)

cutting.cut_pair = held_up
pairs, cut, folder, root = pickle.loads(given.read_bytes())
request = BuildRequest(pairs=pairs, cut=cut, folder=folder, root=root, jobs=1)
print(open_store(request).fingerprint, len(begun))
"""


class Makers:
    """Processes that make a store, and stop after some pairs until they may go on."""

    def __init__(self, folder: Path, *arguments: object) -> None:
        self.folder, self.go = folder, folder / "go"
        (folder / "arguments").write_bytes(pickle.dumps(arguments))
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, allowed: int) -> subprocess.Popen[str]:
        log = open(self.folder / f"log{len(self.processes)}", "w")  # noqa: SIM115 the process keeps it
        process = subprocess.Popen(
            [sys.executable, "-c", SLOW_MAKER, str(self.folder / "arguments"), str(allowed), str(self.go)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        log.close()
        self.processes.append(process)
        return process

    def said(self, number: int) -> str:
        return (self.folder / f"log{number}").read_text()

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()


@pytest.fixture
def makers(tmp_path: Path, pairs: list[PairFiles], root: Path) -> Iterator[Makers]:
    makers = Makers(tmp_path, pairs, CUT, tmp_path / "stores", root)
    yield makers
    makers.end()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, "waited for a minute"
        time.sleep(0.01)


def finished(folder: Path) -> list[Path]:
    """The files of pairs that an unfinished build has cut."""
    return sorted(folder.glob("stores/.*.making/*.tiles"))


def test_of_two_makers_one_makes_and_the_other_waits(bring, pairs, makers, tmp_path) -> None:
    first = makers.start(allowed=1)
    until(lambda: len(finished(tmp_path)) == 1)
    second = makers.start(allowed=1)
    until(lambda: "waiting for another process" in makers.said(1))
    assert second.poll() is None
    makers.go.touch()
    answers = [process.communicate(timeout=60)[0].split() for process in (first, second)]
    assert answers == [[bring(pairs).fingerprint, number] for number in ("5", "0")]
    assert "building the store" in makers.said(0)
    assert "building the store" not in makers.said(1)


def killed(makers: Makers, tmp_path: Path) -> None:
    process = makers.start(allowed=3)
    until(lambda: len(finished(tmp_path)) == 3)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=60) == -signal.SIGKILL


def test_a_maker_that_was_killed_blocks_nobody_and_is_continued(bring, pairs, makers, tmp_path, reads) -> None:
    killed(makers, tmp_path)
    assert not [path for path in (tmp_path / "stores").iterdir() if not path.name.startswith(".")]
    store = bring(pairs)
    assert sorted(reads) == ["pair 3", "pair 4"]
    assert same(store, bring(pairs, folder="fresh"))


@pytest.mark.parametrize("array", ARRAYS)
def test_a_pair_whose_file_was_damaged_meanwhile_is_read_again(bring, pairs, makers, tmp_path, reads, array) -> None:
    killed(makers, tmp_path)
    path = finished(tmp_path)[1]
    content = bytearray(path.read_bytes())
    with path.open("rb") as file:
        blocks = {name: np.load(file) for name in ARRAYS}
    content[content.index(blocks[array].tobytes()) + 1] ^= 1
    path.write_bytes(content)
    store = bring(pairs)
    assert len(reads) == 3  # this pair, and the two that were never read
    assert {"pair 3", "pair 4"} < set(reads)
    assert same(store, bring(pairs, folder="fresh"))


@pytest.mark.parametrize("kept", [0, 0.5, 1])
def test_a_pair_whose_file_was_cut_off_is_read_again(bring, pairs, makers, tmp_path, reads, kept) -> None:
    killed(makers, tmp_path)
    path = finished(tmp_path)[1]
    os.truncate(path, int(kept * (path.stat().st_size - 1)))
    store = bring(pairs)
    assert len(reads) == 3
    assert same(store, bring(pairs, folder="fresh"))


def test_files_of_another_format_are_not_used(bring, pairs, makers, tmp_path, reads, monkeypatch) -> None:
    killed(makers, tmp_path)
    for module in (request, index):
        monkeypatch.setattr(module, "FORMAT", request.FORMAT + 1)
    store = bring(pairs)
    assert len(reads) == 5
    assert not list(store.path.glob("*.tiles"))
