"""What holds for all tests."""

import os

import pytest

# Each test process, and what it starts, computes in one thread unless it sets another number: threads of several
# processes that wait for each other would take the cores from all. Set before torch and NumPy are imported. Not
# OMP_NUM_THREADS: that is the number of cores that a sweep may use.
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
"""Where tests run whole sweeps. They come first: with `--dist worksteal` the short ones then fill what time is left."""


def pytest_collection_modifyitems(items):
    """Put the tests that take longest first; the order is the same in every process of pytest-xdist."""
    items.sort(key=lambda item: not item.nodeid.startswith(WHOLE_SWEEPS))
