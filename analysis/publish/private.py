"""What is left out of a sweep before others see it: the folders of its machine, and the texts of errors.

Records and settings hold no name of a user or a machine, except in such places.
"""

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
import yaml

from analysis.errors import RecordsError
from analysis.text import describe_error

#: Settings that name folders of the machine; whoever runs the sweep again has their own.
_FOLDERS = ("data_root", "store", "imagenet_weights", "temp_dir")

#: Columns of a record with text that was not made of fixed words.
_FREE_TEXT = ("source", "weights", "device")

# A path from the root or a home folder, or an address, in a longer text.
_PLACE = re.compile(r"(?<![\w.~/:-])(?:[A-Za-z][\w+.-]*://|~\w*/|/)[^\s'\",;()<>|]+")

# The folders in which people's files lie.
_TELLING = re.compile(r"(?<![\w.])/(?:home|Users|root|tmp|mnt|media|srv|scratch|work|workspace)/[^\s'\",;()<>|]+")

# As `Failure` writes the column `error`: the reason, what kind of failure it was, then lines of the traceback.
_KIND = re.compile(r"(?:^|\()([a-z ]+, tried (?:once|\d+ times))(?:$|; )")


def public_records(records: pd.DataFrame) -> pd.DataFrame:
    """The records with the kind of each failure in place of its text, and with names in place of paths."""
    how = {**dict.fromkeys(_FREE_TEXT, _public_text), "error": _public_error}
    # A column of nulls would become one of numbers.
    changed = {
        name: records[name].map(one, na_action="ignore").astype(records[name].dtype) for name, one in how.items()
    }
    return records.assign(**changed)


def public_settings(path: Path, name: str) -> str:
    """A sweep.yaml with `results/<name>` as its folder, and without the folders of the machine.

    Raises `RecordsError` if the file is not that of a sweep.
    """
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except Exception as error:  # PyYAML raises many types
        raise RecordsError(f"{path} cannot be read ({describe_error(error)}): restore it, or remove it") from error
    if not isinstance(settings, dict):
        raise RecordsError(f"{path} is not that of a sweep: restore it, or remove it")
    settings = {key: _public_value(value) for key, value in settings.items()}
    settings |= {key: None for key in _FOLDERS if key in settings} | {"out": f"results/{name}"}
    return yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)


def told_places(text: str) -> list[str]:
    """The paths in a text that tell where someone's files are."""
    return sorted(set(_TELLING.findall(text)))


def free_text(records: pd.DataFrame) -> Iterator[str]:
    """The distinct texts of a table of records that could tell something private."""
    for name in (*_FREE_TEXT, "error"):
        yield from map(str, records[name].dropna().unique())


def _public_error(error: str) -> str:
    kind = _KIND.search(error)
    return kind[1] if kind else "not said"


def _public_text(text: str) -> str:
    return _PLACE.sub(lambda match: PurePosixPath(match[0]).name, text)


def _public_value(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _public_value(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_public_value(one) for one in value]
    if not isinstance(value, str):
        return value
    # The whole text is a path, whatever is in it; after that of a file of weights comes its digest.
    return PurePosixPath(value).name if re.match(r"[/~]|[A-Za-z][\w+.-]*://", value) else _public_text(value)
