"""Presets: a whole sweep by name. Each docstring says what it is, what it costs, and what to expect."""

from collections.abc import Callable
from inspect import cleandoc
from pathlib import Path

from datasets.errors import InputError
from datasets.settings import VtsSettings
from sweep.config import Sweep
from trainables.recipe import Encoder, Moco, Pretrain, Probe, Recipe


def vts_smoke() -> Sweep:
    """The whole path at toy size, for tests: 7 cells, under a minute on 2 cores.

    Its numbers mean nothing: a handful of steps on a few 32-px scenes. Not the paper's setting.
    """
    return Sweep(
        preset="vts-smoke",
        out=Path("results/vts-smoke"),
        rho=(0.0, 1.0),
        nu=(0.5,),
        pairings=("noisy",),
        objectives=("moco", "within_image", "cross_image", "random"),
        recipe=Recipe(
            vts=VtsSettings(size=32, train=32, val=16, test=16),
            encoder=Encoder(slim=0.125, output_stride=8),
            moco=Moco(queue=64),
            pretrain=Pretrain(steps=4, batch=8, evaluations=2),
            probe=Probe(steps=4, batch=8, cached_views=1, evaluations=2),
        ),
    )


PRESETS: dict[str, Callable[[], Sweep]] = {"vts-smoke": vts_smoke}
"""Preset by name; a new one is a function here."""


def preset(name: str) -> Sweep:
    """The preset of that name.

    Raises:
        InputError: there is none; lists those there are.
    """
    if name not in PRESETS:
        raise InputError(f"unknown preset {name!r}: choose from {', '.join(PRESETS)}")
    return PRESETS[name]()


def described() -> str:
    """Every preset with its docstring, for --help."""
    return "\n\n".join(f"{name}: {cleandoc(make.__doc__ or '')}" for name, make in PRESETS.items())
