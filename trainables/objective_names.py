"""The names of objectives in a grid, and the class and settings that a name stands for.

A name is

- a name in the registry: `moco`;
- a class outside this project: `package.module:Class`;
- one of these with changed settings: `package.module:Class(lr=0.3, temperature=0.1)`.

The settings are part of the name, and hence of a cell's key and record. Those of the losses of this project and of
`supervised` are in the recipe instead. This module does not import torch; looking up a class does.
"""

import ast
import difflib
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from datasets.errors import InputError, describe_error, one_line
from datasets.outside import import_module_of, import_root
from datasets.settings import first_mistake
from trainables.registry import BASELINES, LOSSES, ObjectiveInfo

_BASE = "trainables.objectives.base.Objective"

LONGEST = 1000
"""Maximum length of a name."""


def objective_info(name: str) -> ObjectiveInfo:
    """The registry's entry for an objective, or the same about a class outside this project, which is imported.

    Raises:
        InputError: as `canonical_objective`.
    """
    base, _ = _split(canonical_objective(name))
    return _built_in().get(base) or _outside_info(base)


@lru_cache(maxsize=4096)
def canonical_objective(name: str) -> str:
    """The canonical form of an objective's name: settings in the order of their fields, without defaults.

    Raises:
        InputError: there is no such objective, its module cannot be imported, its class is incomplete, or a setting is
            unknown or invalid.
    """
    base, given = _split(name)
    info = _built_in().get(base)
    if info is None and ":" not in base:
        near = difflib.get_close_matches(base, _built_in(), n=2)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise InputError(
            f"--losses {_shown(name)}: {hint}choose from {', '.join(_built_in())}, or name your own class as "
            "package.module:Class"
        )
    if info and info.settings and given is not None:
        raise InputError(f"--losses {_shown(name)}: its settings are the flags --{info.settings}.*")
    if info and not info.path and given is not None:
        raise InputError(f"--losses {_shown(name)}: {base} has no settings")
    if info and given is None:
        return base
    if info is None:
        _outside_info(base)
        paths = {known.path: short for short, known in _built_in().items()}
        if short := paths.get(base):
            return canonical_objective(name.replace(base, short, 1).strip())
    return _written(base, _parsed_settings(name, base, given))


def objective_settings(name: str) -> Any:
    """The settings in an objective's name, as an instance of the `Settings` of its class.

    Raises:
        InputError: as `canonical_objective`.
    """
    base, given = _split(name)
    return _parsed_settings(name, base, given)


def with_settings(name: str, **changes: Any) -> str:
    """The canonical name of the same objective with changed settings.

    Raises:
        InputError: a value is invalid.
    """
    base, _ = _split(name)
    return canonical_objective(_written(base, replace(objective_settings(name), **changes)))


def without_learning_rate(name: str) -> str:
    """The canonical name with the default learning rate: equal for names that differ only in their learning rate.

    Raises:
        InputError: as `canonical_objective`.
    """
    info = objective_info(name)
    if info.settings or not info.trained:
        return canonical_objective(name)
    default = next(_default(one) for one in _settings_fields(objective_class(name).Settings) if one.name == info.lr)
    return with_settings(name, **{info.lr: default})


def objective_class(name: str) -> Any:
    """The class of an objective. Imports torch.

    Raises:
        InputError: it cannot be imported or is incomplete.
    """
    base, _ = _split(name)
    info = _built_in().get(base)
    return _checked_class(info.path if info and info.path else base)


def outside_root(name: str) -> Path | None:
    """The folder that must be on `sys.path` of other processes, so that they can import an objective's module.

    None for an objective of this project or of an installed package.

    Raises:
        InputError: the module cannot be imported.
    """
    base, _ = _split(name)
    if base in _built_in():
        return None
    return import_root(import_module_of(base, f"--losses {_shown(base)}"))


def _built_in() -> Mapping[str, ObjectiveInfo]:
    return {**LOSSES, **BASELINES}


def _split(name: str) -> tuple[str, str | None]:
    """The name or path of the objective, and the text in its parentheses."""
    found = re.fullmatch(r"\s*([^\s()]+)\s*(?:\((.*)\)\s*)?", name, re.DOTALL) if len(name) <= LONGEST else None
    if not found:
        raise InputError(
            f"--losses {_shown(name)}: write NAME, package.module:Class or package.module:Class(lr=0.1), at most "
            f"{LONGEST} characters"
        )
    return found[1], found[2]


def _parsed_settings(name: str, base: str, given: str | None) -> Any:
    """Parse the text in an objective's parentheses, and check it against the `Settings` of its class."""
    kind = objective_class(base).Settings
    defaults = {one.name: _default(one) for one in _settings_fields(kind)}
    valid = ", ".join(
        f"{name} (default {value!r})" if value is not MISSING else name for name, value in defaults.items()
    )
    try:
        call = ast.parse(f"f({given or ''})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or not isinstance(call.func, ast.Name):
            raise ValueError("not of the form name=value")
        values = {}
        for keyword in call.keywords:
            if keyword.arg is None or keyword.arg in values:
                raise ValueError("not of the form name=value, each name once")
            values[keyword.arg] = ast.literal_eval(keyword.value)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise InputError(
            f"--losses {_shown(name)}: write settings as name=value with plain values ({describe_error(error)}); "
            f"valid: {valid}"
        ) from error
    if unknown := values.keys() - defaults.keys():
        raise InputError(f"--losses {_shown(name)}: unknown setting {sorted(unknown)[0]!r}; valid: {valid}")
    try:
        settings = TypeAdapter(kind).validate_python(values)
    except (ValidationError, PydanticUserError, TypeError) as error:
        mistake = first_mistake(error) if isinstance(error, ValidationError) else one_line(error)
        raise InputError(f"--losses {_shown(name)}: {mistake}; valid: {valid}") from error
    if not 0 < settings.lr < math.inf:
        raise InputError(f"--losses {_shown(name)}: lr {settings.lr:g}: should be greater than 0")
    for one in _settings_fields(kind):
        value = getattr(settings, one.name)
        if value != _default(one) and not _is_literal(value):
            raise InputError(
                f"--losses {_shown(name)}: {one.name} {value!r}: a name can hold only finite numbers, text, True, "
                "False, None, and tuples, lists and dictionaries of them"
            )
    return settings


def _written(base: str, settings: Any) -> str:
    """An objective's canonical name."""
    changed = {one.name: getattr(settings, one.name) for one in _settings_fields(type(settings))}
    texts = [
        f"{one.name}={changed[one.name]!r}"
        for one in _settings_fields(type(settings))
        if changed[one.name] != _default(one)
    ]
    return f"{base}({', '.join(texts)})" if texts else base


def _settings_fields(kind: Any) -> tuple[Field[Any], ...]:
    return tuple(one for one in fields(kind) if one.init)


def _default(one: Field[Any]) -> Any:
    """A setting's default, or `MISSING` if it has none."""
    return one.default_factory() if one.default_factory is not MISSING else one.default


def _is_literal(value: object) -> bool:
    """Whether a value can be written into a name and read back."""
    try:
        return bool(ast.literal_eval(repr(value)) == value)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return False


@lru_cache(maxsize=256)
def _outside_info(base: str) -> ObjectiveInfo:
    found = _checked_class(base)
    return ObjectiveInfo(path=base, sees=found.sees, cost=float(found.cost))


def _checked_class(path: str) -> Any:
    """The class at `module:Class`, checked to be a complete objective.

    Raises:
        InputError: it is not.
    """
    module, name = import_module_of(path, f"--losses {_shown(path)}"), path.partition(":")[2]
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    # Not imported here: whoever defines an Objective has imported it, and it imports torch.
    base: Any = sys.modules.get("trainables.objectives.base")

    def is_objective(value: object) -> bool:
        return bool(base) and isinstance(value, type) and issubclass(value, base.Objective)

    if not is_objective(found):
        own = (one for one in vars(module).values() if is_objective(one) and one.__module__ == module.__name__)
        classes = ", ".join(sorted(one.__name__ for one in own))
        fault = f"no such class in {module.__name__}" if found is None else f"{name} is no {_BASE}"
        raise InputError(f"--losses {_shown(path)}: {fault}{f'; choose from {classes}' if classes else ''}")
    if path in {info.path for info in _built_in().values() if info.settings}:
        return found  # the recipe has its settings
    kind = getattr(found, "Settings", None)
    usable = (
        is_dataclass(kind)
        and vars(kind)["__dataclass_params__"].frozen
        and all(one.kw_only for one in fields(kind))
        and any(one.name == "lr" and _default(one) is not MISSING for one in fields(kind))
    )
    for missing, need in (
        (not usable, "needs `Settings`, a frozen keyword-only dataclass with a field `lr` that has a default"),
        (
            getattr(found, "sees", None) not in ("pairs", "labelled pairs", "labelled images"),
            'needs `sees`, "pairs", "labelled pairs" or "labelled images"',
        ),
        (found.loss is base.Objective.loss, "needs a method `loss`"),
    ):
        if missing:
            raise InputError(f"--losses {_shown(path)}: {name} {need}; see docs/extending.md")
    return found


def _shown(name: str) -> str:
    return one_line(name, most=120)
