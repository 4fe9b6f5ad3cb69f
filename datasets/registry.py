"""The data sets there are. One more is a file with its settings, and its line here."""

from typing import TYPE_CHECKING, Annotated, Any, get_args

import tyro
from pydantic import Field

from datasets.cifar10.config import Cifar10Settings
from datasets.errors import InputError
from datasets.manifest.config import ManifestSettings
from datasets.source import Demands, Place, Source
from datasets.vts.config import VtsSettings
from datasets.xbd.config import XbdSettings

if TYPE_CHECKING:
    import torch

    from datasets.dataset import Dataset

Settings = VtsSettings | XbdSettings | Cifar10Settings | ManifestSettings

AnySettings = Annotated[Settings, Field(discriminator="dataset"), tyro.conf.AvoidSubcommands]
"""What a recipe holds: YAML tells them apart by `dataset`, the command line takes those of the preset."""

DATASETS: dict[str, type[Settings]] = {kind.dataset: kind for kind in get_args(Settings)}
"""By name, as in a cell and in records."""


def load(settings: Settings, place: Place, demands: Demands) -> Source:
    """The data that the settings describe, in the driver, after making sure that they serve a grid.

    Raises:
        InputError: they cannot be used, or not for this grid.
    """
    kind: Any = settings  # which kind of source it makes is its own affair
    try:
        source: Source = kind.load(place)
    except OSError as error:
        raise InputError(
            f"{error.filename or place.root} cannot be read ({error.strerror or error}): check --data-root"
        ) from error
    kind.check(source, demands)
    return source


def check_nu(settings: Settings, nu: float) -> None:
    """Refuse a per-image noise that the data set cannot show.

    Raises:
        InputError: it has none to set, or not this one.
    """
    kind: Any = settings
    if not kind.has_nu:
        raise InputError(
            f"--nu {nu:g}: {kind.dataset} has the noise that its images have; leave --nu out (in YAML: nu: [])"
        )
    kind.check_nu(nu)


def open_data(settings: Settings, source: Source, seed: int, device: "torch.device") -> "Dataset":
    """The data of a seed on a device, in a worker; `source` is what these settings loaded."""
    kind: Any = settings
    data: Dataset = kind.open(source, seed, device)
    return data
