"""How the cells of a command ended."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sweep.signals import StopRequest


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a command's cells ended, beside their records."""

    failures: Mapping[str, str] = field(default_factory=dict)
    """Why a cell has failed or gave no record, by key."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """What went wrong on the way, by kind."""
    unwritable: str | None = None
    """Why records could not be written, if so."""
    stop: StopRequest | None = None
    """The signal that ended the sweep, if so."""
    forecast: Mapping[str, float] = field(default_factory=dict)
    """How far the plan was off, for MLflow."""

    def followed_by(self, after: "Outcome") -> "Outcome":
        """The outcome of both, one after the other."""
        kinds = {**self.counts, **after.counts}
        return Outcome(
            failures={**self.failures, **after.failures},
            counts={kind: self.counts.get(kind, 0) + after.counts.get(kind, 0) for kind in kinds},
            unwritable=after.unwritable,
            stop=after.stop,
            forecast={**self.forecast, **after.forecast},
        )
