"""Of several processes one makes a store; where it was killed, the next continues from what is sound."""

import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from datasets.tiles import build
from datasets.tiles.pairs import PairFiles
from tests.helpers.command import ROOT
from tests.helpers.fake_store import ARRAYS, CUT, SIZE, bring, pairs, reads, root, same

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


def finished(folder: Path) -> int:
    """How many pairs a making has noted as done."""
    (*journals,) = folder.glob("stores/.*.making/journal.jsonl")
    return sum(len(path.read_text().splitlines()) - 1 for path in journals)


def test_of_two_makers_one_makes_and_the_other_waits(bring, pairs, makers, tmp_path) -> None:
    first = makers.start(allowed=1)
    until(lambda: finished(tmp_path) == 1)
    second = makers.start(allowed=1)
    until(lambda: "waiting for another process" in makers.said(1))
    assert second.poll() is None
    makers.go.touch()
    answers = [process.communicate(timeout=60)[0].split() for process in (first, second)]
    assert answers == [[bring(pairs).fingerprint, number] for number in ("5", "0")]
    assert "making the store" in makers.said(0)
    assert "making" not in makers.said(1).replace("waiting for another process that makes", "")


def killed(makers: Makers, tmp_path: Path) -> None:
    process = makers.start(allowed=3)
    until(lambda: finished(tmp_path) == 3)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=60) == -signal.SIGKILL


def test_a_maker_that_was_killed_blocks_nobody_and_is_continued(bring, pairs, makers, tmp_path, reads) -> None:
    killed(makers, tmp_path)
    assert not [path for path in (tmp_path / "stores").iterdir() if not path.name.startswith(".")]
    store = bring(pairs)
    assert sorted(reads) == ["pair 3", "pair 4"]
    assert same(store, bring(pairs, folder="fresh"))


@pytest.mark.parametrize("array", ARRAYS)
def test_a_tile_that_was_damaged_meanwhile_is_made_again(bring, pairs, makers, tmp_path, reads, array) -> None:
    killed(makers, tmp_path)
    (path,) = tmp_path.glob(f"stores/.*.making/{array}.npy")
    row = SIZE * SIZE * (3 if array in ("images", "partners") else 1)
    content = bytearray(path.read_bytes())
    content[-23 * row + 5] ^= 1  # the eighth of 30 tiles: the second pair's second
    path.write_bytes(content)
    store = bring(pairs)
    assert sorted(reads) == ["pair 1", "pair 3", "pair 4"]
    assert same(store, bring(pairs, folder="fresh"))


def test_a_note_that_was_cut_off_is_no_note(bring, pairs, makers, tmp_path, reads) -> None:
    killed(makers, tmp_path)
    (journal,) = tmp_path.glob("stores/.*.making/journal.jsonl")
    journal.write_bytes(journal.read_bytes()[:-9])
    store = bring(pairs)
    assert len(reads) == 3  # the one of the note, and the two that never were done
    assert {"pair 3", "pair 4"} < set(reads)
    assert same(store, bring(pairs, folder="fresh"))


def test_a_journal_of_another_format_is_not_believed(bring, pairs, makers, tmp_path, reads, monkeypatch) -> None:
    killed(makers, tmp_path)
    monkeypatch.setattr(build, "FORMAT", build.FORMAT + 1)
    monkeypatch.setattr("datasets.tiles.index.FORMAT", build.FORMAT)
    bring(pairs)
    assert len(reads) == 5
