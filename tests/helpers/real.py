"""Real data, for tests marked `realdata`."""

import os
from pathlib import Path

import pytest


def real(folder: str) -> Path:
    """The folder of that name in what NOISY_PAIRS_DATA names; where it is not there, the test is skipped."""
    data = os.environ.get("NOISY_PAIRS_DATA")
    if not data or not (Path(data) / folder).is_dir():
        pytest.skip(f"NOISY_PAIRS_DATA does not name a folder that holds {folder}/")
    return Path(data) / folder
