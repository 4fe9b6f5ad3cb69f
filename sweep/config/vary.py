"""`--vary`: settings of the recipe as axes of the grid. Each combination of their values is a level."""

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import product
from operator import attrgetter
from typing import Any, get_type_hints

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from datasets.errors import InputError, one_line
from datasets.settings import first_mistake
from trainables.cell import Setting
from trainables.objective_names import objective_info
from trainables.recipe import Recipe

Axis = tuple[str, ...]
"""A setting, such as `pretrain.steps`, then its values as text."""
Level = tuple[tuple[str, str], ...]
"""A value, as text, for each varied setting."""


@dataclass(frozen=True)
class Variant:
    """The recipe of an objective at a level."""

    recipe: Recipe
    settings: tuple[tuple[str, Setting], ...]
    """The varied settings that the objective uses, with their values."""


def checked_axes(
    recipe: Recipe, axes: Iterable[Axis], objectives: Iterable[str], *, fewest: int = 2
) -> tuple[Axis, ...]:
    """Check the axes and bring them to their canonical form; each needs `fewest` values.

    Raises:
        InputError: a setting is unknown, is given twice, has no effect on the objectives or has too few values; or a
            value does not fit.
    """
    checked: list[Axis] = []
    for given, *texts in (axis or ("",) for axis in axes):
        flag, name = f"--vary {one_line(given, most=60)}".rstrip(), given.removeprefix("--").replace("-", "_")
        if name not in (known := setting_names(recipe)):
            near = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
            hint = f"did you mean {', '.join(near)}?" if near else "name one as in pretrain.steps; --help lists them"
            raise InputError(f"{flag}: the recipe has no such setting; {hint}")
        if any(name == other for other, *_ in checked):
            raise InputError(f"{flag}: the setting is given twice; write all its values after one --vary")
        if not any(objective_info(objective).uses(name) for objective in objectives):
            raise InputError(
                f"{flag}: has no effect on {', '.join(objectives)}: leave it out, or add a loss to --losses"
            )
        values = [_text(_parsed(recipe, name, text)) for text in texts]
        if len(values) < fewest:
            more = f"two values or more; for a single value use --{name.replace('_', '-')}"
            raise InputError(f"{flag}: give {'a value' if fewest == 1 else more}")
        if again := [value for value in values if values.count(value) > 1]:
            raise InputError(f"{flag}: the value {again[0]} is given twice")
        checked.append((name, *values))
    for level in levels(checked):
        _changed(recipe, level)  # refuses settings that do not fit together
    return tuple(checked)


def setting_names(recipe: Recipe) -> list[str]:
    """The names of all settings of a recipe, such as `pretrain.steps`."""
    parts = {part.name: getattr(recipe, part.name) for part in fields(recipe)}
    return [f"{name}.{one.name}" for name, part in parts.items() for one in fields(part) if one.name != "dataset"]


def levels(axes: Iterable[Axis]) -> Iterator[Level]:
    """All combinations of values; a single empty one without axes."""
    return product(*([(name, text) for text in texts] for name, *texts in axes))


def variant(recipe: Recipe, level: Level, objective: str) -> Variant:
    """The recipe of an objective at a level. A setting that it does not use keeps its value, so that cells coincide."""
    used = tuple((name, text) for name, text in level if objective_info(objective).uses(name))
    changed = _changed(recipe, used)  # which may have brought settings to a canonical form
    return Variant(changed, tuple((name, _shown(attrgetter(name)(changed))) for name, _ in used))


def are_numbers(recipe: Recipe, axis: Axis) -> bool:
    """Whether all values of an axis are numbers."""
    name, *texts = axis
    return all(not isinstance(_shown(_parsed(recipe, name, text)), str) for text in texts)


@lru_cache(maxsize=4096)
def _changed(recipe: Recipe, level: Level) -> Recipe:
    """The recipe at a level.

    Raises:
        InputError: the settings do not fit together.
    """
    try:
        return recipe.with_settings({name: _parsed(recipe, name, text) for name, text in level})
    except ValidationError as error:
        given = " ".join(f"{name} {text}" for name, text in level)
        raise InputError(f"--vary {given}: {first_mistake(error)}") from error


@lru_cache(maxsize=4096)
def _parsed(recipe: Recipe, name: str, text: str) -> Any:
    """The value of a setting, from its text.

    Raises:
        InputError: the text is no value of this setting.
    """
    part, _, setting = name.partition(".")
    annotation = get_type_hints(type(getattr(recipe, part)), include_extras=True)[setting]
    adapter: TypeAdapter[Any] = TypeAdapter(annotation, config=ConfigDict(allow_inf_nan=False))
    mistakes = []
    for read in (str, yaml.safe_load, _names):  # as a name, a number or a list
        try:
            return adapter.validate_python(read(text))
        except (ValidationError, yaml.YAMLError) as error:
            mistakes += [error] if isinstance(error, ValidationError) else []
    raise InputError(f"--vary {name} {one_line(text, most=60)}: {first_mistake(mistakes[0]).rpartition(': ')[2]}")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _text(value: Any) -> str:
    """The canonical text of a value, which `_parsed` reads."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _shown(value: Any) -> Setting:
    """A value as in records: numbers as they are, everything else as text."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else _text(value)
