"""What a worker needs in addition to the coordinates of a cell."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from datasets.source import Settings, Source
from sweep.config.sweep import Kept, Sweep
from sweep.storage.run_dir import RunDir
from trainables.cell_job import CellJob, KeptEncoders

SIGN_OF_LIFE = 5.0
"""The most seconds between two reports of a worker."""


@dataclass(frozen=True, kw_only=True)
class WorkerJob:
    """What a worker needs in addition to the coordinates of a cell; the same for all cells of a command."""

    cell_jobs: Mapping[str, CellJob]
    """Fingerprint of a recipe -> what its cells have in common. The engine and the weights are the same in all."""
    location: Path | str
    """The absolute path of the sweep's folder, or its address; then each machine has a folder of its own."""
    checkpoint_every: float
    """Seconds between two checkpoints of a cell."""
    sign_of_life: float
    """The most seconds between two reports."""
    keep: tuple[Kept, ...]
    """What to keep of a recorded cell."""
    shard: str = ""
    """See `RunDir.shard`."""

    @classmethod
    def of(
        cls,
        sweep: Sweep,
        sources: Mapping[Settings, Source],
        imagenet: Path | None = None,
        kept: Mapping[str, KeptEncoders] | None = None,
    ) -> Self:
        """The job of a sweep whose engine is chosen.

        Args:
            sweep: the sweep.
            sources: settings of the data -> the data.
            imagenet: the weights file of that baseline.
            kept: fingerprint of each recipe -> the encoders that its cells probe; None: they pretrain their own.
        """
        return cls(
            cell_jobs={
                fingerprint: CellJob(
                    recipe=recipe,
                    source=sources[recipe.data],
                    engine=sweep.engine,
                    imagenet=imagenet,
                    kept=kept.get(fingerprint) if kept else None,
                )
                for fingerprint, recipe in sweep.recipes.items()
            },
            location=sweep.run_dir.location,
            checkpoint_every=sweep.checkpoint_every,
            sign_of_life=min(SIGN_OF_LIFE, sweep.patience / 4),
            keep=sweep.keep,
        )

    @property
    def run_dir(self) -> RunDir:
        """The sweep's folder on this machine."""
        return replace(RunDir.at(self.location), shard=self.shard)

    def with_rate(self, objective: str, rate: float) -> Self:
        """The job of a search, which has one recipe, with another learning rate of an objective."""
        (base,) = self.cell_jobs.values()
        recipe, _ = base.recipe.with_learning_rate(objective, rate)
        return replace(self, cell_jobs={recipe.fingerprint: replace(base, recipe=recipe)})
