"""The preset for a user's own pairs."""

from dataclasses import replace
from pathlib import Path

from datasets.manifest.config import ManifestSettings
from sweep.config.sweep import Sweep
from sweep.presets.xbd import xbd_quick


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
        recipe=replace(xbd_quick().recipe, data=ManifestSettings(size=64, min_share=0.01)),
    )
