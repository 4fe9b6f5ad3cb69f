"""How the cells of a command ended."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from sweep.signals import StopRequest


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How the cells of a command ended, in addition to their records."""

    failures: Mapping[str, str] = field(default_factory=dict)
    """Key -> why the cell failed or has no record."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Kind of failure -> number of failed attempts."""
    unwritable: str | None = None
    """Why records could not be written; None if they could."""
    stop: StopRequest | None = None
    """The stop by a signal; None without one."""
    forecast: Mapping[str, float] = field(default_factory=dict)
    """Metrics for MLflow: the error of the plan."""

    late: Collection[str] = ()
    """Keys of the cells that were left because they would not have ended in time."""

    def followed_by(self, after: "Outcome") -> "Outcome":
        """The outcome of this run and a later one together."""
        kinds = {**self.counts, **after.counts}
        return Outcome(
            failures={**self.failures, **after.failures},
            counts={kind: self.counts.get(kind, 0) + after.counts.get(kind, 0) for kind in kinds},
            unwritable=after.unwritable,
            stop=after.stop,
            forecast={**self.forecast, **after.forecast},
            late=after.late,
        )
