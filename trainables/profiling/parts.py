"""What the parts of a cell take. No torch here: a driver adds them up."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Part:
    """Something that a cell does a number of times."""

    stage: str
    """`pretrain` or `probe`."""
    name: str
    each: float
    """Seconds of one time."""
    times: float
    """How often a whole cell does it; no whole number where a smaller excerpt was measured."""

    @property
    def seconds(self) -> float:
        """Seconds of a whole cell's."""
        return self.each * self.times


def seconds(parts: Iterable[Part]) -> float:
    """Seconds of a whole cell."""
    return sum(part.seconds for part in parts)


def mean(measured: Sequence[Sequence[Part]]) -> tuple[Part, ...]:
    """The same parts, measured by several processes, as one: the mean of the seconds of each."""
    together = zip(*measured, strict=True)
    return tuple(replace(same[0], each=sum(part.each for part in same) / len(same)) for same in together)
