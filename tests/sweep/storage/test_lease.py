"""The lease at an address: a second driver is refused, a dead one is replaced, and a lost lease is noticed."""

import os
import re
import threading
from datetime import timedelta

import pytest

from datasets.errors import InputError
from sweep.storage import lease, object_store
from sweep.storage.lease import NAME, leased
from sweep.storage.object_store import ObjectStore, StoreError
from tests.helpers import fake_s3
from tests.helpers.command import wait_for


@pytest.fixture(scope="module", autouse=True)
def server():
    with fake_s3.serving() as server:
        yield server


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(lease, "SETTLED", 0.05)
    monkeypatch.setattr(lease, "RENEWED", 0.2)
    monkeypatch.setattr(object_store, "PAUSES", ())


@pytest.fixture
def store(request, tmp_path):
    """The store of one machine, with a folder of its own."""

    def made(machine):
        (tmp_path / machine).mkdir(exist_ok=True)
        return ObjectStore(tmp_path / machine, f"s3://{fake_s3.BUCKET}/{re.sub(r'[^a-z0-9]', '', request.node.name)}")

    return made


def test_a_sweep_in_a_folder_needs_none(tmp_path):
    with leased(ObjectStore(tmp_path)) as before:
        assert before is None
    assert not list(tmp_path.iterdir())


def test_a_second_driver_is_refused_and_told_of_the_first_and_nothing_is_left(store):
    one = store("one")
    with leased(one) as before:
        assert before is None
        with (
            pytest.raises(InputError, match=rf"{one.uri} is in use by another sweep \(.*process {os.getpid()}, ") as no,
            leased(store("other")),
        ):
            pass
        assert "\n" not in str(no.value)
        assert "its lease expires in" in str(no.value)
        assert one.names("") == [NAME]
    assert one.names("") == []
    assert not list(one.root.iterdir())
    with leased(store("other")) as before:
        assert before is None


def test_one_that_is_gone_is_followed_when_its_claim_has_lapsed(store, monkeypatch):
    one = store("one")
    one.write(NAME, b"machine, process 7, seen then\nabc\n")
    monkeypatch.setattr(lease, "STALE", 0.0)
    with leased(one) as before:
        assert before == "machine, process 7, seen then"


def test_age_is_told_by_the_stores_clock(store, monkeypatch):
    one = store("one")
    one.write(NAME, b"who\nabc\n")
    written = ObjectStore.modified
    monkeypatch.setattr(
        ObjectStore, "modified", lambda self, name: written(self, name) + timedelta(seconds=0 if name == NAME else 85)
    )
    with pytest.raises(InputError, match=r"expires in [345] s"), leased(one):
        pass
    monkeypatch.setattr(
        ObjectStore, "modified", lambda self, name: written(self, name) + timedelta(seconds=0 if name == NAME else 95)
    )
    with leased(one) as before:
        assert before == "who"


def test_the_driver_before_in_the_same_folder_is_followed_at_once(store):
    one = store("one")
    one.write(NAME, b"who\nabc\n")
    (one.root / ".token").write_text("abc")
    with leased(one) as before:
        assert before == "who"


def test_it_is_renewed(store):
    one = store("one")
    with leased(one):
        first = one.read(NAME)
        wait_for(lambda: one.read(NAME) != first, 10)
        assert one.lost is None


@pytest.mark.parametrize("content", [b"elsewhere, process 9, seen now\nother\n", b"\xff\n", None])
def test_one_that_has_lost_it_notices_and_writes_nothing_more(store, content):
    one, other = store("one"), store("other")
    with leased(one):
        other.remove(NAME) if content is None else other.write(NAME, content)
        wait_for(lambda: one.lost, 10)
        assert one.uri in one.lost
        assert content is None or b"9" not in content or "elsewhere, process 9" in one.lost
        with pytest.raises(StoreError, match="lost"):
            one.write("x", b"")
    assert other.read(NAME) == content
    assert other.read("x") is None


def test_of_two_that_claim_at_once_one_is_refused(store, monkeypatch):
    monkeypatch.setattr(lease, "SETTLED", 0.5)
    both = threading.Barrier(2)
    found = []

    def claim(machine):
        both.wait()
        try:
            with leased(store(machine)):
                found.append("has it")
                wait_for(lambda: len(found) == 2, 10)
        except InputError as error:
            found.append(str(error))

    threads = [threading.Thread(target=claim, args=(name,)) for name in ("one", "other")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found.count("has it") == 1
    assert sum("in use by another sweep" in one for one in found) == 1


def test_a_store_that_is_away_is_one_line(store, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match="the server does not answer") as away, leased(store("one")):
        pass
    assert "\n" not in str(away.value)
