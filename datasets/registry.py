"""The data sets by name: their settings classes, and the modules with their functions.

The name of a data set outside this project is its settings class, `package.module:Class`, whose module also has the
functions. `datasets.source` defines the settings and functions.
"""

import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import PlainValidator, TypeAdapter

from datasets.cifar10.config import Cifar10Settings
from datasets.errors import InputError, one_line
from datasets.manifest.config import ManifestSettings
from datasets.misregistration import Misregistration
from datasets.outside import import_module_of, import_root
from datasets.source import Demands, Place, Settings, Source
from datasets.types import Pairing
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
"""Class attributes or fields of settings; see `Settings`."""
FUNCTIONS = ("load", "check", "open_data")
"""Functions in the module of a data set; see `datasets.source`."""


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
        f"unknown data set {one_line(repr(name), most=80)}: choose from {', '.join(DATASETS)}, or name your own "
        "settings class as package.module:Class"
    )


@cache
def _outside_class(name: str) -> SettingsClass:
    """The class `package.module:Class`, checked to be a complete data set."""
    where = f"data set {one_line(repr(name), most=120)}"
    module = import_module_of(name, where)
    attribute = name.partition(":")[2]
    kind = getattr(module, attribute, None)
    if not (isinstance(kind, type) and is_dataclass(kind) and vars(kind)["__dataclass_params__"].frozen):
        raise InputError(f"{where}: {module.__name__} has no frozen dataclass {attribute}; name the settings class")
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
    """The folder that must be on `sys.path` of other processes, so that they can import the data set.

    None for our data sets and those of installed packages.

    Raises:
        InputError: there is no such data set.
    """
    settings_class(name)
    return None if name in DATASETS else import_root(sys.modules[_module_name(name)])


def _module(settings: Settings) -> ModuleType:
    """The module with the functions of the data set.

    Raises:
        InputError: the settings belong to another data set than they name.
    """
    if type(settings) is not settings_class(settings.dataset):
        raise InputError(
            f"--data.dataset {settings.dataset}: {type(settings).__name__} has the settings of another data set"
        )
    return importlib.import_module(_module_name(settings.dataset))


def _module_name(name: str) -> str:
    """The name of the module with the functions of the data set."""
    return f"datasets.{name}.source" if name in DATASETS else name.partition(":")[0]


def load(settings: Settings, place: Place, demands: Demands) -> Source:
    """Load the data in the driver, and check that they fit the grid.

    Raises:
        InputError: they cannot be used, or do not fit this grid.
    """
    module: Any = _module(settings)
    _check_ood(settings, demands)
    with _readable(place):
        source: Source = module.load(settings, place)
    module.check(settings, source, demands)
    return source


def survey(settings: Settings, place: Place, demands: Demands) -> Source | None:
    """Check the data as far as possible without writing anything: no store is built, and nothing is downloaded.

    Returns the data if they could be loaded.

    Raises:
        InputError: `load` would refuse them too.
    """
    module: Any = _module(settings)
    _check_ood(settings, demands)
    if hasattr(module, "survey"):
        with _readable(place):
            surveyed: Source | None = module.survey(settings, place, demands)
        return surveyed
    if settings.dataset in DATASETS and not place.download:  # another project's function may write something
        return load(settings, place, demands)
    return None


def _check_ood(settings: Settings, demands: Demands) -> None:
    if demands.ood and not getattr(settings, "has_ood", False):
        if hasattr(settings, "ood"):
            raise InputError(
                "split ood: is empty, because nothing was held out: pretrain with --data.ood GROUP, or use test"
            )
        raise InputError(f"split ood: {settings.dataset} has no such split; use test")


@contextmanager
def _readable(place: Place) -> Iterator[None]:
    """Context manager in which files are read that the user has named."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{error.filename or place.root} cannot be read ({error.strerror or error}): check --data-root"
        ) from error


def check_nu(settings: Settings, nu: float) -> None:
    """Refuse a per-image noise that the data set cannot have.

    Raises:
        InputError: it does not fit the settings, or the data set has no such setting.
    """
    if not settings.has_nu:
        raise InputError(
            f"--nu {nu:g}: the noise of {settings.dataset} is that of its images; leave --nu out (in YAML: nu: [])"
        )
    with_nu: Any = settings
    with_nu.check_nu(nu)


def check_pairing(settings: Settings, pairing: Pairing) -> None:
    """Refuse a pairing that the data set does not have, or that has no effect with its settings.

    Raises:
        InputError: says what to choose instead.
    """
    if pairing not in settings.pairings:
        raise InputError(
            f"--pairings {pairing}: {settings.dataset} has no such pairs, choose from {', '.join(settings.pairings)}"
        )
    if pairing == "misregistration" and isinstance(settings, Misregistration):
        settings.check(settings.size)


def open_data(settings: Settings, source: Source, seed: int, device: "torch.device") -> "Dataset":
    """Open the data of a seed on a device, in a worker; `source` was loaded with the same settings."""
    data: Dataset = _module(settings).open_data(settings, source, seed, device)
    return data


def validated(value: Any) -> Settings:
    """The settings themselves, or those that a mapping from YAML describes.

    Raises:
        InputError: there is no such data set, or the mapping names none.
        ValidationError: a value does not fit.
    """
    name = value.get("dataset") if isinstance(value, Mapping) else getattr(value, "dataset", None)
    if not isinstance(name, str):
        raise InputError(f"recipe.data: name the data set, as in 'dataset: vts' ({', '.join(DATASETS)})")
    kind = settings_class(name)
    return value if isinstance(value, kind) else TypeAdapter(kind).validate_python(value)


if TYPE_CHECKING:
    AnySettings = Settings
else:
    # With Any, tyro takes the flags from the class of the default, the settings of the preset.
    AnySettings = Annotated[Any, PlainValidator(validated)]
"""The settings of any data set, as a field of a recipe."""
