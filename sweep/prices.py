"""What machines cost, as far as a plan was told."""

import math
from dataclasses import dataclass

from datasets.errors import InputError

MOST_LOSSES = 60
"""Losses an hour that are believed."""


@dataclass(frozen=True, kw_only=True)
class Prices:
    """What an hour of one GPU costs, or of the machine where it has none, USD; None: not asked for."""

    hour: float | None = None
    spot_hour: float | None = None
    spot_losses: float | None = None
    """Machines lost an hour, each."""

    def __post_init__(self) -> None:
        """Refuse what is no price."""
        for flag, value in (("price", self.hour), ("spot-price", self.spot_hour)):
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"--{flag} {value:g}: must be above 0 USD an hour")
        if (self.spot_hour is None) != (self.spot_losses is None):
            raise InputError("--spot-price and --spot-losses-per-hour belong together: give both, or neither")
        if self.spot_losses is not None and not 0 <= self.spot_losses <= MOST_LOSSES:
            raise InputError(f"--spot-losses-per-hour {self.spot_losses:g}: must be from 0 to {MOST_LOSSES}")

    @property
    def asked(self) -> bool:
        """Whether any was given."""
        return self.hour is not None or self.spot_hour is not None
