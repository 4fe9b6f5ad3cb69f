"""The preset for a user's own pairs."""

from pathlib import Path

from datasets.manifest.config import ManifestSettings
from sweep.config.sweep import Sweep
from trainables.recipe import Dense, Encoder, Moco, Pretrain, Probe, Recipe


def manifest() -> Sweep:
    """Your own image pairs, listed in a CSV or Parquet file: 11 cells, a few minutes on 2 cores without a GPU.

    MoCo v2 on 128-px tiles at rho 0, 0.25, 0.5, 0.75, 1 with both pairings, and the baselines random and supervised.
    A slim ResNet-18, 240 steps of 16 pairs, and a probe on the masks. Needs --data FILE. The encoder and the budget are
    much smaller than in the paper: a first answer to "do noisy pairs hurt on my data?". Follow up with several seeds
    and longer training.
    """
    return Sweep(
        preset="manifest",
        out=Path("results/manifest"),
        objectives=("moco", "random", "supervised"),
        rho=(0.0, 0.25, 0.5, 0.75, 1.0),
        nu=(),
        recipe=Recipe(
            data=ManifestSettings(),
            encoder=Encoder(slim=0.25, output_stride=16),
            moco=Moco(lr=0.06, momentum=0.99, queue=512),
            dense=Dense(within_lr=1.0, cross_lr=1.0, clip=0.05),
            pretrain=Pretrain(steps=240, batch=16, warmup=40, evaluations=4),
            probe=Probe(steps=300, batch=16, lr=3e-3, class_weights=True, evaluations=2),
        ),
    )
