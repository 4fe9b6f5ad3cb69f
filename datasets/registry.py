"""The data sets by name: the class of their settings, and the module with their functions.

A data set from outside this repository is named by its settings class, as `package.module:Class`; that module also has
the functions. `datasets.source` describes settings and functions.
"""

import importlib
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import PlainValidator, TypeAdapter
from pydantic_core import PydanticKnownError

from datasets.cifar10.config import Cifar10Settings
from datasets.errors import InputError, one_line
from datasets.manifest.config import ManifestSettings
from datasets.outside import import_module_of, import_root
from datasets.source import Demands, Place, Settings, Source
from datasets.vts.config import VtsSettings
from datasets.xbd.config import XbdSettings

if TYPE_CHECKING:
    import torch

    from datasets.dataset import Dataset

    SettingsClass = type[Settings]
else:
    SettingsClass = type  # issubclass does not work with a protocol that has data members

DATASETS: Mapping[str, SettingsClass] = {
    "vts": VtsSettings,
    "xbd": XbdSettings,
    "cifar10": Cifar10Settings,
    "manifest": ManifestSettings,
}
"""Our data sets, by their name in cells and records. The functions of `<name>` are in `datasets.<name>.source`."""

MEMBERS = ("pairings", "has_nu", "task", "extra_scores", "bands", "size")
"""Attributes of settings, as class variables or fields; see `Settings`."""
FUNCTIONS = ("load", "check", "open_data")
"""Functions of the module of a data set; see `datasets.source`."""


def settings_class(name: str) -> SettingsClass:
    """The settings class of a data set.

    Raises:
        InputError: there is no such data set, or the class named `package.module:Class` cannot be used.
    """
    if name in DATASETS:
        return DATASETS[name]
    if ":" in name:
        return _outside_class(name)
    raise InputError(
        f"unknown data set {one_line(repr(name), most=80)}: choose from {', '.join(DATASETS)}, or name a settings "
        "class of your own as package.module:Class"
    )


@cache
def _outside_class(name: str) -> SettingsClass:
    """The class `package.module:Class`, if it and its module have all that a data set needs."""
    where = f"data set {one_line(repr(name), most=120)}"
    module = import_module_of(name, where)
    attribute = name.partition(":")[2]
    kind = getattr(module, attribute, None)
    if not (isinstance(kind, type) and is_dataclass(kind) and vars(kind)["__dataclass_params__"].frozen):
        raise InputError(
            f"{where}: {module.__name__} has no frozen dataclass {attribute}; name the class of the settings"
        )
    if absent := [function for function in FUNCTIONS if not callable(getattr(module, function, None))]:
        raise InputError(
            f"{where}: {module.__name__} lacks {', '.join(absent)}; the module of a data set needs the functions "
            f"{', '.join(FUNCTIONS)}"
        )
    defaults = {field.name: field.default for field in fields(kind)}
    if defaults.get("dataset") != name:
        raise InputError(f"{where}: {attribute} needs the field dataset: str = {name!r}")
    needed = (*MEMBERS, *(("check_nu",) if getattr(kind, "has_nu", False) else ()))
    if absent := [member for member in needed if member not in defaults and not hasattr(kind, member)]:
        raise InputError(f"{where}: {attribute} lacks {', '.join(absent)}; see Settings in datasets/source.py")
    settings: SettingsClass = kind  # type: ignore[assignment]  # checked above
    return settings


def outside_root(name: str) -> Path | None:
    """The folder that must be on `sys.path` of other processes, so that they can import a data set.

    None for our data sets and for those of installed packages.

    Raises:
        InputError: there is no such data set.
    """
    settings_class(name)
    return None if name in DATASETS else import_root(sys.modules[_module_name(name)])


def _module(settings: Settings) -> ModuleType:
    """The module with the functions of a data set.

    Raises:
        InputError: `dataset` names another data set than that of these settings.
    """
    if type(settings) is not settings_class(settings.dataset):
        raise InputError(
            f"--data.dataset {settings.dataset}: these settings are of another data set ({type(settings).__name__})"
        )
    return importlib.import_module(_module_name(settings.dataset))


def _module_name(name: str) -> str:
    """Name of the module with the functions of a data set."""
    return f"datasets.{name}.source" if name in DATASETS else name.partition(":")[0]


def load(settings: Settings, place: Place, demands: Demands) -> Source:
    """Load data in the driver, and check that they suffice for a sweep.

    Raises:
        InputError: the data cannot be used, or do not suffice.
    """
    module: Any = _module(settings)
    try:
        source: Source = module.load(settings, place)
    except OSError as error:
        raise InputError(
            f"{error.filename or place.root} cannot be read ({error.strerror or error}): check --data-root"
        ) from error
    module.check(settings, source, demands)
    return source


def check_nu(settings: Settings, nu: float) -> None:
    """Refuse a per-image noise that the data set does not support.

    Raises:
        InputError: it cannot be set, or not to this value.
    """
    if not settings.has_nu:
        raise InputError(
            f"--nu {nu:g}: the noise of {settings.dataset} cannot be set; leave --nu out (in YAML: nu: [])"
        )
    with_nu: Any = settings
    with_nu.check_nu(nu)


def open_data(settings: Settings, source: Source, seed: int, device: "torch.device") -> "Dataset":
    """Open the data of a seed on a device, in a worker; `source` was loaded with these settings."""
    data: Dataset = _module(settings).open_data(settings, source, seed, device)
    return data


def validated(value: Any) -> Settings:
    """Settings, from themselves or from a mapping (from YAML).

    Raises:
        InputError: there is no such data set.
        PydanticKnownError: the mapping names no data set.
        ValidationError: a value is invalid.
    """
    name = value.get("dataset") if isinstance(value, Mapping) else getattr(value, "dataset", None)
    if not isinstance(name, str):
        raise PydanticKnownError("union_tag_not_found", {"discriminator": "'dataset'"})
    kind = settings_class(name)
    return value if isinstance(value, kind) else TypeAdapter(kind).validate_python(value)


if TYPE_CHECKING:
    AnySettings = Settings
else:
    # Any, for tyro: it then makes flags from the class of the settings in the preset.
    AnySettings = Annotated[Any, PlainValidator(validated)]
"""The settings of any data set, as a recipe has them."""
