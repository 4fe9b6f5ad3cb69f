"""A signal does not damage a file that is being sent."""

import _thread
import signal
import time

import pytest

from sweep.storage.object_store import ObjectStore
from tests.helpers.command import wait_for


class Stream:
    def __init__(self, objects, path):
        self._objects, self._path, self._parts = objects, path, []

    def __enter__(self):
        _thread.interrupt_main()  # Ctrl-C, before anything is written
        time.sleep(0.3)
        return self

    def write(self, content):
        self._parts.append(content)

    def __exit__(self, *error):
        self._objects[self._path] = b"".join(self._parts)
        self._objects.writes += 1


class Objects(dict):
    writes = 0

    def open_output_stream(self, path):
        return Stream(self, path)


def test_a_signal_in_the_middle_of_a_write_leaves_a_whole_object(tmp_path):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background of a script
    store, objects = ObjectStore(tmp_path, "s3://bucket/name"), Objects({"bucket/name/sweep.yaml": b"before"})
    store.__dict__["_opened"] = (objects, "bucket/name")
    try:
        with pytest.raises(KeyboardInterrupt):
            store.write("sweep.yaml", b"after")
    finally:
        signal.signal(signal.SIGINT, before)
    wait_for(lambda: objects == {"bucket/name/sweep.yaml": b"after"})
    assert objects.writes == 1
