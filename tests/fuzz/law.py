"""What every reader of others' files promises: a right answer or its own one-line error; no hang, bounded memory."""

import faulthandler
import os
import resource
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from datasets.errors import UNPRINTABLE

LONG = int(os.environ.get("NOISY_PAIRS_FUZZ", "10000"))
"""Inputs a reader in the long run."""
MOST_SECONDS = 10  # an input; the slowest ones take a tenth of one
MOST_GROWTH = 600  # MiB; that many may a reader take for small files, allocators' habits included
MOST_LENGTH = 2000  # characters of a message


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A reader and what it is given."""

    name: str
    inputs: st.SearchStrategy[Any]
    read: Callable[[Path, Any], object]
    """Write the input below the folder, read it, and assert that the answer is right."""
    errors: tuple[type[Exception], ...]
    """What it may raise."""
    outcomes: Counter[str] = field(default_factory=Counter)


def obeys(reader: Reader, folder: Path, given_input: object) -> None:
    """One input: the reader's answer, or its own error in one line."""
    # A hang in C is not ended by hypothesis's deadline.
    faulthandler.dump_traceback_later(20 * MOST_SECONDS, exit=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            reader.read(folder, given_input)
        reader.outcomes["answered"] += 1
    except reader.errors as error:
        message = str(error)
        assert message.strip(), "an error without a message"
        assert not UNPRINTABLE.search(message), f"not one line of text: {message!r}"
        assert len(message) < MOST_LENGTH, f"a message of {len(message)} characters"
        reader.outcomes["refused"] += 1
    finally:
        faulthandler.cancel_dump_traceback_later()


def fuzz(reader: Reader, folder: Path, inputs: int, *, derandomize: bool) -> None:
    """Try `inputs` inputs on a reader."""

    @settings(
        max_examples=inputs,
        deadline=timedelta(seconds=MOST_SECONDS),
        derandomize=derandomize,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(reader.inputs)
    def one(given_input: object) -> None:
        obeys(reader, folder, given_input)

    before = _peak()
    one()
    assert _peak() - before < MOST_GROWTH, f"{_peak() - before} MiB more than before"


def _peak() -> int:
    """MiB that the process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
