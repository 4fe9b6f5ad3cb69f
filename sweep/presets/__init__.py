"""Presets: named sweeps. Each docstring says what the sweep is, what it costs, and what to expect."""

from collections.abc import Callable
from inspect import cleandoc

from datasets.errors import InputError
from sweep.config.sweep import Sweep
from sweep.presets.cifar10 import cifar_paper, cifar_quick
from sweep.presets.manifest import manifest
from sweep.presets.vts import vts_gpu, vts_losses, vts_paper, vts_quick, vts_smoke, vts_standard
from sweep.presets.xbd import xbd_paper, xbd_quick

PRESETS: dict[str, Callable[[], Sweep]] = {
    "vts-smoke": vts_smoke,
    "vts-quick": vts_quick,
    "vts-standard": vts_standard,
    "vts-losses": vts_losses,
    "vts-gpu": vts_gpu,
    "vts-paper": vts_paper,
    "xbd-quick": xbd_quick,
    "xbd-paper": xbd_paper,
    "manifest": manifest,
    "cifar-quick": cifar_quick,
    "cifar-paper": cifar_paper,
}
"""Presets by name. To add one, write a function and add its line here."""


def preset(name: str) -> Sweep:
    """The preset with this name.

    Raises:
        InputError: there is none; lists all names.
    """
    if name not in PRESETS:
        raise InputError(f"unknown preset {name!r}: choose from {', '.join(PRESETS)}")
    return PRESETS[name]()


def described() -> str:
    """All presets with their docstrings, for --help."""
    return "\n\n".join(f"{name}: {cleandoc(make.__doc__ or '')}" for name, make in PRESETS.items())
