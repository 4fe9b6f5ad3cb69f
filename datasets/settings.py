"""Settings classes: frozen dataclasses that pydantic checks. A mistake is one line that names the flag."""

import inspect
import os
import re
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeVar, dataclass_transform

from pydantic import BeforeValidator, Field, ValidationError
from pydantic.dataclasses import dataclass

from datasets.errors import InputError, one_line

T = TypeVar("T")

Share = Annotated[float, Field(ge=0, le=1)]
"""A share or a probability, from 0 to 1."""


def local_path(text: str) -> Path:
    """The file or folder that the user means, with `~` and `$NAME`, which no shell expands in YAML or in `--out=~/x`.

    Raises `ValueError` for an empty text, which pathlib takes as the current folder, or an unknown home or variable.
    """
    if not text:
        raise ValueError("is empty: give a path (. is the current folder)")
    expanded = os.path.expandvars(os.path.expanduser(text))
    if expanded.startswith("~"):
        raise ValueError(f"no home folder {text.partition('/')[0]} is known: write the path from / on")
    if unset := re.search(r"\$\w+|\$\{\w+\}", expanded):
        raise ValueError(f"the variable {unset[0]} is not set: set it, or write the path out")
    return Path(expanded)


def _local_path(given: object) -> object:
    return local_path(str(given)) if isinstance(given, str | Path) else given


LocalPath = Annotated[Path, BeforeValidator(_local_path)]
"""A file or folder: see `local_path`."""


@dataclass_transform(kw_only_default=True, frozen_default=True)
def settings(section: str = "") -> Callable[[type[T]], type[T]]:
    """Decorator: make the class a frozen keyword-only dataclass, and check its values against its annotations.

    An instance raises `InputError` for a value that does not fit. The message names the flag, `--section.field`.
    Write checks across several fields as `__post_init__`, and raise `InputError` there.
    """

    def decorate(kind: type[T]) -> type[T]:
        checked: Any = dataclass(kind, frozen=True, kw_only=True, config={"allow_inf_nan": False})
        init, signature = checked.__init__, inspect.signature(checked)

        @wraps(init)
        def __init__(self: T, **values: Any) -> None:
            signature.bind(**values)  # pydantic would ignore an unknown name
            try:
                init(self, **values)
            except ValidationError as error:
                raise InputError(first_mistake(error, flag=f"--{section}." if section else "--")) from error

        checked.__init__ = __init__
        return checked

    return decorate


def first_mistake(error: ValidationError, *, flag: str = "") -> str:
    """The first mistake as one line: the setting, its value, and what is valid.

    Args:
        error: what pydantic found.
        flag: start of the setting's flag, such as `--moco.`; empty: the setting's path, as in YAML.
    """
    first = error.errors(include_url=False)[0]
    if isinstance(cause := first.get("ctx", {}).get("error"), InputError):  # it names the flag itself
        return str(cause)
    name = ".".join(part for part in first["loc"] if isinstance(part, str) and part != "str")  # `str` of a union
    name, value = flag + name.replace("_", "-") if flag else name, first["input"]
    if isinstance(value, float):
        name += f" {value:g}"
    elif isinstance(value, str) or (isinstance(value, int) and abs(value) < 2**80):  # Python refuses to print huge ones
        name += f" {value}" if value != "" else ""
    subject = f"{one_line(name, most=80)}: " if name else ""
    problem = one_line(first["msg"].removeprefix("Input ").removeprefix("Value error, "))
    return subject + _IN_YAML.get(first["type"], problem)


_IN_YAML = {
    "dataclass_type": "should be a mapping of settings, each as `name: value`",
    "string_type": "should be text; in quotes, if it looks like a number",
    "tuple_type": "should be a list, as in [a, b]",
}
"""Kind of a mistake that only YAML can have -> what is valid there, which pydantic says in words of Python."""
