"""All benchmarks in one run: `make bench`."""

from benchmarks.speed import checkpoints, pretrain, probe, scenes, sweep
from benchmarks.speed.common import Table, main


def run() -> list[Table]:
    """Pretraining, scenes, probe, checkpoints, sweep."""
    return [table for module in (pretrain, scenes, probe, checkpoints, sweep) for table in module.run()]


if __name__ == "__main__":
    main("benchmarks", run)
