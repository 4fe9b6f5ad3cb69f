"""What is slow to make is made once in a test run, also where pytest-xdist runs several processes."""

import os
import pickle

from filelock import FileLock


def made_once(tmp_path_factory, name, make):
    """What `make(folder)` returned, and its folder; tests that change the folder change a copy of it.

    Args:
        tmp_path_factory: pytest's.
        name: of the folder, one in the test run.
        make: called with the folder, which does not exist yet; returns what can be pickled.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent  # each process has its own below it
    folder, result = root / name / "out", root / name / "result.pickle"
    (root / name).mkdir(exist_ok=True)
    with FileLock(root / name / "lock"):
        if not result.exists():
            result.write_bytes(pickle.dumps(make(folder)))
    return folder, pickle.loads(result.read_bytes())
