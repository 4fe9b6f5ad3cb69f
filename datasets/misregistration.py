"""Misregistration: by how much the partner image of a misregistered pair is displaced. No torch here.

Its labels stay where they are. METHOD.md says how others simulate misregistration, and what rho and nu mean for it.
"""

import cmath
import math
from typing import Annotated

from pydantic import Field

from datasets.errors import InputError
from datasets.settings import settings

AMOUNTS = ("shift", "turn", "scale")
"""The fields of `Misregistration`."""


@settings("data")
class Misregistration:
    """The amounts, which the settings of a data set with such pairs inherit. They change no other pairs."""

    shift: Annotated[float, Field(ge=0)] = 4.0
    """For the pairing misregistration: px by which a partner is shifted, along its rows or its columns."""
    turn: Annotated[float, Field(ge=0, le=45)] = 0.0
    """The same: degrees by which it is turned about the centre of the image, to either side."""
    scale: Annotated[float, Field(ge=0, le=50)] = 0.0
    """The same: per cent by which it is enlarged or shrunk about the centre of the image."""

    @property
    def text(self) -> str:
        """The amounts in words, such as `4 px, 2 degrees`."""
        amounts = {"px": self.shift, "degrees": self.turn, "%": self.scale}
        return ", ".join(f"{amount:g} {unit}" for unit, amount in amounts.items() if amount)

    def margin(self, size: int) -> int:
        """Pixels beyond the border of a square image of `size` px that a displaced one may show."""
        corner = size / math.sqrt(2)  # its distance from the centre; shrinking moves it most
        seen = cmath.rect(corner / (1 - self.scale / 100), math.radians(self.turn))
        return math.ceil(abs(seen - corner) + self.shift) + 1  # bilinear interpolation reads one more

    def check(self, size: int) -> None:
        """Refuse amounts with which no pair is misregistered, or after which nothing is left of an image of `size` px.

        Raises:
            InputError: says which amount to change.
        """
        if not (self.shift or self.turn or self.scale):
            raise InputError(
                "--pairings misregistration: nothing is displaced, because --data.shift, --data.turn and --data.scale "
                "are 0; set one of them, or leave the pairing out, because rho 0 has the aligned pairs"
            )
        if self.shift >= size:
            raise InputError(
                f"--data.shift {self.shift:g}: must be below the side of an image, {size} px (--data.size)"
            )
