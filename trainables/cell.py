"""A cell: one point of the sweep's grid, and the key that names its record."""

import json
from dataclasses import asdict, dataclass
from hashlib import blake2b

from datasets.errors import InputError
from datasets.registry import settings_class
from datasets.types import Pairing
from trainables.objective_names import canonical_objective
from trainables.registry import BASELINES


@dataclass(frozen=True, kw_only=True, order=True)
class Cell:
    """The coordinates of one point of the grid. Coordinates that mean the same make equal cells.

    Without noisy pairs (rho = 0, nu = 0 or a baseline) neither rho, nu nor pairing matters: such a cell has
    rho = nu = 0 and pairing `none`, whatever it was asked for with. nu is 1 where whole images are falsely matched, and
    0 where a data set of real pairs leaves it open.

    Raises:
        InputError: a coordinate is outside its range or unknown.
    """

    dataset: str = "vts"
    objective: str
    """A loss or baseline, as `trainables.registry` says."""
    rho: float = 0.0
    """Noisy-pairs rate: share of positive pairs that are noisy."""
    nu: float = 0.0
    """Per-image noise: share of a noisy image whose content differs."""
    pairing: Pairing = "noisy"
    seed: int = 0
    recipe: str = ""
    """Fingerprint of everything that is held fixed over the grid (`Recipe.fingerprint`)."""

    def __post_init__(self) -> None:
        """Check the coordinates and bring them to their one canonical form."""
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
        """The coordinates in the form that all equivalent cells share."""
        kind = settings_class(self.dataset)
        nu = 1.0 if self.pairing == "false_positive" else float(self.nu) if kind.has_nu else 0.0
        clean = self.rho == 0 or (nu == 0 and kind.has_nu)
        if self.objective in BASELINES or self.pairing == "none" or clean:
            return {"rho": 0.0, "nu": 0.0, "pairing": "none"}
        if self.pairing not in kind.pairings:
            raise InputError(
                f"pairing {self.pairing!r}: {self.dataset} has no such pairs, choose from {', '.join(kind.pairings)}"
            )
        return {"rho": float(self.rho), "nu": nu}  # 1 and 1.0 are one coordinate, and so must be one key

    @property
    def key(self) -> str:
        """16 hex digits that name this cell's record, the same on every machine."""
        return digest(asdict(self))

    def __str__(self) -> str:
        if self.pairing == "none":
            return f"{self.objective} rho 0 seed {self.seed}"
        nu = f" nu {self.nu:g}" if settings_class(self.dataset).has_nu and self.pairing != "false_positive" else ""
        return f"{self.objective} rho {self.rho:g}{nu} {self.pairing} seed {self.seed}"


def digest(value: object) -> str:
    """16 hex digits of a value's canonical JSON: no spaces, sorted names, so that field order plays no part."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return blake2b(text.encode(), digest_size=8).hexdigest()
