"""What holds for all tests."""

import os

import pytest

# Each test process, and what it starts, computes in one thread unless it sets another number: threads of several
# processes that wait for each other would take the cores from all. Set before torch and NumPy are imported. Not
# OMP_NUM_THREADS: that is the number of cores that a sweep may use, so the caller's is taken away, too.
os.environ.pop("OMP_NUM_THREADS", None)
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Workers are nice to other programs, here to the other tests: a sweep's would get less of a core.
os.environ.setdefault("RAY_worker_niceness", "0")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """A cache of the test run's own: it neither sees nor leaves anything in the user's."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before


WHOLE_SWEEPS = ("tests/sweep/test_", "tests/sweep/lr_search", "tests/sweep/storage/test_object", "tests/sweep/tune")
"""Where tests run whole sweeps, which wait for Ray half of the time."""


def pytest_collection_modifyitems(items):
    """Put whole sweeps at the beginning of the part of each process of pytest-xdist, so that they run side by side.

    `--dist worksteal` gives each process an equal part, in this order, and later the end of another's part. Tests of
    one file stay together, because they share fixtures, and so do all that need the sweep `smoke`: another process
    would wait for it and do nothing. The order is the same in every process.
    """
    files = {}
    for item in items:
        files.setdefault(item.nodeid.partition("::")[0], []).append(item)
    sweeps = [name for name in files if name.startswith(WHOLE_SWEEPS)]
    sharing = [name for name in sweeps if any("smoke" in item.fixturenames for item in files[name])]
    short = [item for name, tests in files.items() if name not in sweeps for item in tests]
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    own = [name for name in sweeps if name not in sharing]
    parts = [sharing, *(own[part :: count - 1] for part in range(count - 1))] if count > 1 else [sweeps]
    ordered = []
    for part, names in enumerate(parts):
        ordered += [item for name in names for item in files[name]]
        room = len(short) if part + 1 == count else max(0, len(items) * (part + 1) // count - len(ordered))
        ordered += short[:room]
        del short[:room]
    items[:] = ordered
