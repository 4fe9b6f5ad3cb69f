"""The sweep that many tests look at."""

import shutil

import pytest

from tests.helpers.command import run
from tests.helpers.shared import made_once


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """The folder of a `vts-smoke` sweep with its report, and the command that made it. Tests do not change it."""
    return made_once(
        tmp_path_factory, "smoke", lambda folder: run("vts-smoke", "--out", folder, "--workers", 2, report=True)
    )


@pytest.fixture
def smoke_copy(smoke, tmp_path):
    """A copy of that folder, which a test may change."""
    return shutil.copytree(smoke[0], tmp_path / "copy of smoke")
