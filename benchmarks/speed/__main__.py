"""All benchmarks in one run: `make bench`."""

from benchmarks.speed import checkpoints, plain, pretrain, probe, scenes, sweep
from benchmarks.speed.common import Table, main


def run() -> list[Table]:
    """Pretraining, plain losses, scenes, probe, checkpoints, sweep."""
    return [table for module in (pretrain, plain, scenes, probe, checkpoints, sweep) for table in module.run()]


if __name__ == "__main__":
    main("benchmarks", run)
