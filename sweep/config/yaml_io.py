"""A sweep as YAML, and how two sweeps differ."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from datasets.errors import InputError, one_line
from datasets.settings import first_mistake
from sweep.config.sweep import Sweep

_ADAPTER = TypeAdapter(Sweep)


class _Loader(yaml.SafeLoader):
    """YAML in which a word means what it means on the command line, and no setting is given twice.

    PyYAML follows YAML 1.1, where `no` is false, `010` is 8, `1:30` is 90 and `2026-11-30` is a date. Here these are
    texts, which the settings convert. Every other value is read as by PyYAML, which quotes texts that could be values.
    """

    yaml_implicit_resolvers = {}  # noqa: RUF012 (as PyYAML has it; filled below)

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Refuse a name that occurs twice, of which PyYAML would use the last."""
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for name, _ in node.value:
            line = name.start_mark.line + 1
            if isinstance(name, yaml.ScalarNode):
                if name.value in lines:
                    shown, first = one_line(repr(name.value), most=60), lines[name.value]
                    raise InputError(f"{shown} is given twice, in line {first} and in line {line}: remove one of them")
                lines[name.value] = line
        return node


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", [*"~nN", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    ("int", r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+", [*"-+0123456789"]),
    ("float", r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+][0-9]+)?|[-+]?\.(inf|Inf|INF)|\.nan", [*"-+0123456789."]),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), _first)


def to_yaml(sweep: Sweep) -> str:
    """All settings as YAML, which `from_yaml` and `--config` read."""
    return yaml.safe_dump(_ADAPTER.dump_python(sweep, mode="json"), sort_keys=False)


def from_yaml(path: Path) -> Sweep:
    """Read a sweep. Settings that are not in the file keep their defaults.

    Raises:
        InputError: the file cannot be read, is not YAML, or has an unknown name or an invalid value (named).
    """
    given = _loaded(path)
    try:
        if not isinstance(given, dict):
            raise InputError(f"--config {path}: is not a sweep.yaml, which is a mapping of settings")
        sweep = _ADAPTER.validate_python(given)
    except ValidationError as error:
        raise InputError(f"--config {path}: {first_mistake(error)}") from error
    _refuse_unknown(given, _ADAPTER.dump_python(sweep, mode="json"), str(path))
    return sweep


def _loaded(path: Path) -> object:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--config {path}: cannot be read ({one_line(error)})") from error
    try:
        return _Loader(text).get_single_data()
    except InputError as error:
        raise InputError(f"--config {path}: {error}") from error
    except Exception as error:  # deep brackets and `!!int x` do not raise a YAMLError
        raise InputError(f"--config {path}: is not valid YAML ({one_line(error) or type(error).__name__})") from error


def _refuse_unknown(given: Mapping[str, Any], known: Mapping[str, Any], where: str) -> None:
    """Raise InputError for a name in `given` that is no setting, which pydantic ignores."""
    for name, value in given.items():
        if name not in known:
            raise InputError(
                f"--config {where}: unknown setting {one_line(repr(name), most=60)}; valid: {', '.join(known)}"
            )
        if isinstance(known[name], dict) and isinstance(value, dict):
            _refuse_unknown(value, known[name], f"{where}: {name}")


def differences(there: Mapping[str, Any], here: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Where two nested mappings differ: `probe.steps 300 there, 200 here`."""
    found = []
    for name in {**there, **here}:
        left, right = there.get(name), here.get(name)
        if isinstance(left, dict) and isinstance(right, dict):
            found += differences(left, right, f"{prefix}{name}.")
        elif left != right:
            found.append(f"{prefix}{name} {left} there, {right} here")
    return found


def recipe_differences(there: Sweep, here: Sweep) -> list[str]:
    """Where the recipes of two sweeps differ. The place of a file of weights is no difference."""
    if there.recipe.fingerprint == here.recipe.fingerprint:
        return []
    left, right = (_ADAPTER.dump_python(sweep, mode="json")["recipe"] for sweep in (there, here))
    return differences(left, right)
