"""The timed parts of a cell. No torch here: the driver adds them up."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a cell: its time, and how often a cell runs it."""

    stage: str
    """`pretrain` or `probe`."""
    name: str
    each: float
    """Seconds of one run."""
    times: float
    """How often a whole cell runs it; fractional if it was measured on an excerpt."""

    @property
    def seconds(self) -> float:
        """Seconds of this part in a whole cell."""
        return self.each * self.times


def seconds(parts: Iterable[Part]) -> float:
    """Seconds of a whole cell."""
    return sum(part.seconds for part in parts)


def mean(measured: Sequence[Sequence[Part]]) -> tuple[Part, ...]:
    """The mean over several processes that measured the same parts."""
    together = zip(*measured, strict=True)
    return tuple(replace(same[0], each=sum(part.each for part in same) / len(same)) for same in together)
