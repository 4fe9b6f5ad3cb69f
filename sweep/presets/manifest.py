"""The preset for a user's own pairs."""

from pathlib import Path

from datasets.manifest.config import ManifestSettings
from sweep.config.sweep import Sweep
from trainables.recipe import Dense, Encoder, Moco, Pretrain, Probe, Recipe, Supervised


def manifest() -> Sweep:
    """Your own image pairs, listed in a CSV or Parquet file: 11 cells, a few minutes on 2 cores without a GPU.

    MoCo v2 on 64-px tiles at rho 0, 0.25, 0.5, 0.75, 1 with both pairings, and the baselines random and supervised.
    The settings are those of `xbd-quick`: a slim ResNet-18 of three stages, 960 steps of 16 pairs, pretraining on tiles
    that show two classes where they have masks, and a probe on the masks. Needs --data FILE. The encoder and the budget
    are much smaller than in the paper: a first answer to "do noisy pairs hurt on my data?". Follow up with several
    seeds, longer training, and with the dense losses if both images have masks: they learn more in this time.
    """
    return Sweep(
        preset="manifest",
        out=Path("results/manifest"),
        objectives=("moco", "random", "supervised"),
        rho=(0.0, 0.25, 0.5, 0.75, 1.0),
        nu=(),
        recipe=Recipe(
            data=ManifestSettings(size=64, min_share=0.01),
            encoder=Encoder(slim=0.25, output_stride=8, stages=3),
            moco=Moco(lr=0.01, momentum=0.99, queue=512),
            dense=Dense(within_lr=0.3, cross_lr=0.3, denominator="public", features=64, norm=True, clip=0.5),
            supervised=Supervised(lr=0.1),
            pretrain=Pretrain(steps=960, batch=16, warmup=60, evaluations=4),
            probe=Probe(steps=900, batch=16, lr=3e-3, evaluations=2),
        ),
    )
