"""The data sets by name: the class of their settings, and the module whose functions do the work.

A data set from outside this repository is named by its settings class, as `package.module:Class`; that module holds the
functions too. ARCHITECTURE.md says what they are ("How to add a data set").
"""

import importlib
import importlib.util
import inspect
import sysconfig
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import PlainValidator, TypeAdapter
from pydantic_core import PydanticKnownError

from datasets.cifar10.config import Cifar10Settings
from datasets.errors import InputError, describe_error, one_line
from datasets.manifest.config import ManifestSettings
from datasets.source import Demands, Place, Settings, Source
from datasets.vts.config import VtsSettings
from datasets.xbd.config import XbdSettings

if TYPE_CHECKING:
    import torch

    from datasets.dataset import Dataset

    SettingsClass = type[Settings]
else:
    SettingsClass = type  # a protocol with data members knows no subclasses at run time

DATASETS: Mapping[str, SettingsClass] = {
    "vts": VtsSettings,
    "xbd": XbdSettings,
    "cifar10": Cifar10Settings,
    "manifest": ManifestSettings,
}
"""Our own, by name, as in a cell and in records. The functions of `<name>` are in `datasets.<name>.source`."""

CONSTANTS = ("pairings", "has_nu", "task", "extra_scores", "bands", "size")
"""What a settings class or its instances have besides fields of their own; `Settings` says what each means."""
FUNCTIONS = ("load", "check", "open_data")


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
    """The class `package.module:Class`, with all that a data set needs."""
    path, _, attribute = name.partition(":")
    where = f"data set {one_line(repr(name), most=120)}"
    try:
        module = importlib.import_module(path)
    except Exception as error:  # whatever the module raises while it is imported
        raise InputError(
            f"{where}: the module {one_line(path, most=80)!r} cannot be imported ({describe_error(error)}); put the "
            "folder that holds it on PYTHONPATH"
        ) from error
    kind = getattr(module, attribute, None)
    if not (inspect.isclass(kind) and is_dataclass(kind) and kind.__dataclass_params__.frozen):  # type: ignore[attr-defined]
        raise InputError(f"{where}: {attribute!r} of {path} is no frozen dataclass; name the class of the settings")
    if lacking := [function for function in FUNCTIONS if not callable(getattr(module, function, None))]:
        raise InputError(
            f"{where}: {path} lacks the function{'s' * (len(lacking) > 1)} {', '.join(lacking)}; a data set's module "
            f"has {', '.join(FUNCTIONS)}"
        )
    names = {field.name: field for field in fields(kind)}
    if "dataset" not in names or names["dataset"].default != name:
        raise InputError(f"{where}: the class needs the field dataset with the default {name!r}")
    functions = ("check_nu",) if getattr(kind, "has_nu", False) else ()
    if lacking := [name for name in (*CONSTANTS, *functions) if name not in names and not hasattr(kind, name)]:
        raise InputError(f"{where}: {attribute} lacks {', '.join(lacking)}; see datasets.source.Settings")
    settings: SettingsClass = kind  # type: ignore[assignment]  # as was checked above
    return settings


def outside_root(name: str) -> Path | None:
    """The folder that must be on `sys.path` so that the data set of that name can be imported.

    None for our own data sets and for installed packages, which each Python of the environment finds.

    Raises:
        InputError: there is no such data set.
    """
    settings_class(name)
    if name in DATASETS:
        return None
    spec = importlib.util.find_spec(name.partition(":")[0].partition(".")[0])
    assert spec is not None, "it was imported just now"
    if spec.submodule_search_locations:  # a package, with or without __init__.py
        root = Path(next(iter(spec.submodule_search_locations))).absolute().parent
    else:
        root = Path(spec.origin or "").absolute().parent
    installed = {Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib", "stdlib", "platstdlib")}
    return None if root in installed else root


def _module(settings: Settings) -> ModuleType:
    """The module of the data set's functions.

    Raises:
        InputError: the settings name another data set than their own.
    """
    if type(settings) is not settings_class(settings.dataset):
        raise InputError(f"--data.dataset {settings.dataset}: is not the data set that {type(settings).__name__} is of")
    inside = settings.dataset in DATASETS
    return importlib.import_module(f"datasets.{settings.dataset}.source" if inside else type(settings).__module__)


def load(settings: Settings, place: Place, demands: Demands) -> Source:
    """The data that the settings describe, in the driver, after a check that they serve a grid.

    Raises:
        InputError: they cannot be used, or not for this grid.
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
    """Refuse a per-image noise that the data set cannot show.

    Raises:
        InputError: it has none to set, or not this one.
    """
    if not settings.has_nu:
        raise InputError(
            f"--nu {nu:g}: {settings.dataset} has the noise that its images have; leave --nu out (in YAML: nu: [])"
        )
    with_nu: Any = settings
    with_nu.check_nu(nu)


def open_data(settings: Settings, source: Source, seed: int, device: "torch.device") -> "Dataset":
    """The data of a seed on a device, in a worker; `source` is what these settings loaded."""
    data: Dataset = _module(settings).open_data(settings, source, seed, device)
    return data


def validated(value: Any) -> Settings:
    """The settings themselves, or those that a mapping (from YAML) describes.

    Raises:
        InputError: there is no such data set.
        PydanticKnownError: the mapping names none.
        ValidationError: a value does not fit.
    """
    name = value.get("dataset") if isinstance(value, Mapping) else getattr(value, "dataset", None)
    if not isinstance(name, str):
        raise PydanticKnownError("union_tag_not_found", {"discriminator": "'dataset'"})
    kind = settings_class(name)
    return value if isinstance(value, kind) else TypeAdapter(kind).validate_python(value)


if TYPE_CHECKING:
    AnySettings = Settings
else:
    # Any, for tyro: it then takes its flags from the class of the preset's settings.
    AnySettings = Annotated[Any, PlainValidator(validated)]
"""What a recipe holds: the settings of any data set."""
