"""Prices of machine time, US dollars an hour."""

import math
from dataclasses import dataclass

from datasets.errors import InputError

MOST_LOSSES = 60
"""Losses an hour that are believed."""


@dataclass(frozen=True, kw_only=True)
class Prices:
    """What an hour costs; None where a price is not given."""

    gpu: float | None = None
    """Of one GPU; in a plan for a machine that has none, of the machine."""
    core: float | None = None
    """Of one CPU core."""
    spot: float | None = None
    """As `gpu`, of a machine that may be taken away."""
    spot_losses: float | None = None
    """How often an hour such a machine is taken away."""

    def __post_init__(self) -> None:
        """Refuse what is no price."""
        for flag, value in (("price", self.gpu), ("price-core", self.core), ("spot-price", self.spot)):
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"--{flag} {value:g}: must be above 0 USD an hour")
        if (self.spot is None) != (self.spot_losses is None):
            raise InputError("--spot-price and --spot-losses-per-hour belong together: give both, or neither")
        if self.spot_losses is not None and not 0 <= self.spot_losses <= MOST_LOSSES:
            raise InputError(f"--spot-losses-per-hour {self.spot_losses:g}: must be from 0 to {MOST_LOSSES}")

    @property
    def given(self) -> bool:
        """Whether any is."""
        return any(price is not None for price in (self.gpu, self.core, self.spot))

    def cost(self, *, gpu_hours: float, core_hours: float = 0.0) -> float | None:
        """Cost by the prices of GPUs and cores that are given, US dollars; None without either."""
        if self.gpu is None and self.core is None:
            return None
        return gpu_hours * (self.gpu or 0.0) + core_hours * (self.core or 0.0)
