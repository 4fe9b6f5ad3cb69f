"""A cell: one point of a sweep's grid, and the key that names its record."""

import json
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from typing import Any

from datasets.errors import InputError
from datasets.registry import settings_class
from datasets.types import Pairing
from trainables.objective_names import canonical_objective
from trainables.registry import BASELINES

Setting = int | float | str
"""The value of a setting of a recipe, as records and messages show it."""


@dataclass(frozen=True, kw_only=True, order=True)
class Cell:
    """The coordinates of one point of the grid. Coordinates with the same meaning make equal cells.

    Without noisy pairs (rho = 0, nu = 0 or a baseline) rho, nu and pairing have no effect: such a cell always has
    rho = nu = 0 and the pairing `none`. nu is 1 if whole images are mismatched, and 0 for data sets of real pairs and
    for misregistered pairs, whose amount is a setting of the recipe.

    Raises:
        InputError: a coordinate is outside its range or unknown.
    """

    dataset: str = "vts"
    objective: str
    """A loss or baseline of `trainables.registry`, or a class outside this project."""
    rho: float = 0.0
    """Noisy-pairs rate: the share of positive pairs that are noisy."""
    nu: float = 0.0
    """Per-image noise: the share of a noisy image that differs."""
    pairing: Pairing = "noisy"
    seed: int = 0
    recipe: str = ""
    """`Recipe.fingerprint`, of everything that is held fixed over the grid."""
    settings: tuple[tuple[str, Setting], ...] = field(default=(), compare=False)
    """The settings that a sweep varies, if this cell's objective uses them: (`pretrain.steps`, 960). They are part of
    `recipe`, and so of the key."""

    def __post_init__(self) -> None:
        """Check the coordinates and bring them to their canonical form."""
        settings_class(self.dataset)  # refuses an unknown data set
        object.__setattr__(self, "objective", canonical_objective(self.objective))
        for name in ("rho", "nu"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} = {getattr(self, name):g} is outside [0, 1]")
        if self.seed < 0:
            raise InputError(f"seed = {self.seed}: seeds are 0, 1, 2, ...")
        for name, value in self._canonical().items():
            object.__setattr__(self, name, value)

    def _canonical(self) -> dict[str, object]:
        """The form of rho, nu and pairing that all equivalent cells share."""
        kind = settings_class(self.dataset)
        own = {"false_positive": 1.0, "misregistration": 0.0}
        nu = own.get(self.pairing, float(self.nu) if kind.has_nu else 0.0)
        clean = self.rho == 0 or (nu == 0 and kind.has_nu and self.pairing not in own)
        if self.objective in BASELINES or self.pairing == "none" or clean:
            return {"rho": 0.0, "nu": 0.0, "pairing": "none"}
        if self.pairing not in kind.pairings:
            raise InputError(
                f"pairing {self.pairing!r}: {self.dataset} has no such pairs, choose from {', '.join(kind.pairings)}"
            )
        return {"rho": float(self.rho), "nu": nu}  # 1 and 1.0 are one coordinate, and so must be one key

    @property
    def key(self) -> str:
        """Hash of the cell, 16 hex digits, which names its record on every machine."""
        return digest(self.coordinates)

    @property
    def coordinates(self) -> dict[str, Any]:
        """The values that identify the cell, by name."""
        return {name: value for name, value in asdict(self).items() if name != "settings"}

    @property
    def variant(self) -> str:
        """The objective with the settings that the sweep varies, as text."""
        return " ".join([self.objective, *(f"{name} {value}" for name, value in self.settings)])

    def __str__(self) -> str:
        if self.pairing == "none":
            return f"{self.variant} rho 0 seed {self.seed}"
        has_nu = settings_class(self.dataset).has_nu and self.pairing not in ("false_positive", "misregistration")
        nu = f" nu {self.nu:g}" if has_nu else ""
        return f"{self.variant} rho {self.rho:g}{nu} {self.pairing} seed {self.seed}"


def digest(value: object) -> str:
    """Hash of a value's canonical JSON, 16 hex digits. Names are sorted, so the order of fields has no effect."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=8).hexdigest()
