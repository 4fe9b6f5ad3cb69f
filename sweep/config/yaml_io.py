"""A sweep as YAML, and where two sweeps differ."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from datasets.errors import InputError, one_line
from datasets.registry import DATASETS
from sweep.config.sweep import Sweep

MOST_LETTERS = 1_000_000  # of a sweep.yaml


_ADAPTER = TypeAdapter(Sweep)


def to_yaml(sweep: Sweep) -> str:
    """Everything resolved, as YAML that `from_yaml` and `--config` take."""
    return yaml.safe_dump(_ADAPTER.dump_python(sweep, mode="json"), sort_keys=False)


def from_yaml(path: Path) -> Sweep:
    """Read a sweep; what it leaves out keeps its default.

    Raises:
        InputError: no such file, no YAML, or a name or value that a sweep does not have (named).
    """
    given = _loaded(path)
    try:
        if not isinstance(given, dict):
            raise InputError(f"--config {path}: not a sweep.yaml, which is a mapping of settings")
        sweep = _ADAPTER.validate_python(given)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "union_tag_not_found":
            raise InputError(
                f"--config {path}: recipe.data: say which data set it is, as in 'dataset: vts' ({', '.join(DATASETS)})"
            ) from error
        where = one_line(".".join(str(part) for part in first["loc"])) or "sweep"
        raise InputError(f"--config {path}: {where}: {one_line(first['msg'].removeprefix('Value error, '))}") from error
    _refuse_unknown(given, _ADAPTER.dump_python(sweep, mode="json"), str(path))
    return sweep


def _loaded(path: Path) -> object:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--config {path}: cannot be read ({one_line(error)})") from error
    if len(text) > MOST_LETTERS:
        raise InputError(f"--config {path}: {len(text):,} letters are no sweep.yaml, which has some thousand")
    try:
        return yaml.safe_load(text)
    except Exception as error:  # a date such as 2001-99-99 or deep brackets raise others than YAML's own
        raise InputError(f"--config {path}: no valid YAML ({one_line(error) or type(error).__name__})") from error


def _refuse_unknown(given: Mapping[str, Any], known: Mapping[str, Any], where: str) -> None:
    """Raise InputError for a name in `given` that no setting has: it would silently do nothing."""
    for name, value in given.items():
        if name not in known:
            raise InputError(
                f"--config {where}: unknown setting {one_line(repr(name), most=60)}; valid: {', '.join(known)}"
            )
        if isinstance(known[name], dict) and isinstance(value, dict):
            _refuse_unknown(value, known[name], f"{where}: {name}")


def differences(there: Mapping[str, Any], here: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Where two dumped values differ: `probe.steps 300 there, 200 here`."""
    found = []
    for name in {**there, **here}:
        left, right = there.get(name), here.get(name)
        if isinstance(left, dict) and isinstance(right, dict):
            found += differences(left, right, f"{prefix}{name}.")
        elif left != right:
            found.append(f"{prefix}{name} {left} there, {right} here")
    return found


def recipe_differences(there: Sweep, here: Sweep) -> list[str]:
    """Where the recipes of two sweeps differ."""
    left, right = (_ADAPTER.dump_python(sweep, mode="json")["recipe"] for sweep in (there, here))
    return differences(left, right)
