"""VTS as a data set: texture images are loaded in the driver, scenes are opened in a worker."""

from functools import partial
from typing import TYPE_CHECKING

from datasets.errors import InputError
from datasets.source import Demands, Place
from datasets.vts.config import FAMILIES, VtsSettings
from datasets.vts.textures import TextureBank, load_textures

if TYPE_CHECKING:
    import torch

    from datasets.vts.dataset import Vts


def load(settings: VtsSettings, place: Place) -> TextureBank:
    """Read or generate the texture images.

    Raises:
        InputError: as `load_textures`.
    """
    _refuse_flags(settings, place)
    return load_textures(settings, place.root, download=place.download)


def survey(settings: VtsSettings, place: Place, demands: Demands) -> TextureBank | None:
    """Check everything, but generate no textures, which may take a minute, unless few labels are to be counted.

    Raises:
        InputError: as `load` and `check`.
    """
    _refuse_flags(settings, place)
    if settings.textures == "procedural" and not demands.few_labels:
        _check(settings, settings.categories or FAMILIES, demands)
        return None
    if place.download:
        return None
    source = load(settings, place)
    check(settings, source, demands)
    return source


def _refuse_flags(settings: VtsSettings, place: Place) -> None:
    place.refuse_flags("vts", ("store", "skip_bad"))
    if settings.textures == "procedural":
        place.refuse_flags("procedural textures (only for --data.textures folder)", ("root",))


def check(settings: VtsSettings, source: TextureBank, demands: Demands) -> None:
    """Refuse a grid that needs more scenes or textures.

    Raises:
        InputError: a batch is larger than the training set, or there is no texture for irrelevant noise.
    """
    _check(settings, source.categories, demands)


def _check(settings: VtsSettings, categories: tuple[str, ...], demands: Demands) -> None:
    pretrain = max(demands.batch if demands.rho else 0, demands.supervised_batch)
    for flag, batch in (("pretrain", pretrain), ("probe", demands.probe_batch)):
        if batch > settings.train:
            raise InputError(f"--{flag}.batch {batch} exceeds the {settings.train} training scenes (--data.train)")
    if "irrelevant" in demands.pairings and len(categories) < 4:
        raise InputError(
            "--pairings irrelevant: the noise needs a fourth texture category, which is no downstream class; name four "
            "with --data.categories"
        )
    if demands.ood and len(categories) < 4:
        raise InputError(
            "split ood: is empty without a fourth texture category, which its third class shows; name four with "
            "--data.categories"
        )
    if demands.ood and "irrelevant" in demands.pairings:
        raise InputError(
            f"split ood: shows {categories[3]}, which the pairing irrelevant has shown in pretraining: leave out "
            "ood, or that pairing"
        )


def open_data(settings: VtsSettings, source: TextureBank, seed: int, device: "torch.device") -> "Vts":
    """The scenes of a seed on a device."""
    from datasets.seeding import stream  # imports torch, which the driver must not
    from datasets.vts.dataset import Vts

    return Vts(settings, source, partial(stream, seed), device)
