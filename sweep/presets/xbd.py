"""Presets on xBD."""

from pathlib import Path

from datasets.xbd.config import XbdSettings
from sweep.config.sweep import LOSSES, Sweep
from trainables.engine import Engine
from trainables.recipe import Dense, Encoder, Moco, Pretrain, Probe, Recipe, Supervised


def xbd_quick() -> Sweep:
    """xBD on 2 cores: 17 cells on 64-px tiles, about 9 minutes with 15 image pairs.

    A slim ResNet-18 of three stages (output stride 8), 960 steps of 16 pairs, rho 0, 0.5, 1, all losses, both pairings,
    and the baselines random and supervised. Pretraining sees the tiles that show background and buildings
    (--data.min-share), and the probe weighs all classes alike. Needs an xBD tree in --data-root. Use it to check that
    your data are read correctly, and to see what results look like. With 15 pairs, expect a validation F1 of about 36
    (random), 37 (MoCo), 40 (dense losses) and 41 (supervised) at rho 0; docs/trials.md says what was tried. Tiles (512
    px in the paper), encoder and budget are much smaller than in the paper, and the dense losses have the denominator
    of their authors' code, so this is no reproduction; test scores on a few images have no meaning.
    """
    return Sweep(
        preset="xbd-quick",
        out=Path("results/xbd-quick"),
        objectives=(*LOSSES, "random", "supervised"),
        rho=(0.0, 0.5, 1.0),
        nu=(),
        recipe=Recipe(
            data=XbdSettings(size=64, min_share=0.01),
            encoder=Encoder(slim=0.25, output_stride=8, stages=3),
            moco=Moco(lr=0.01, momentum=0.99, queue=512),
            dense=Dense(within_lr=0.3, cross_lr=0.3, denominator="public", features=64, norm=True, clip=0.5),
            supervised=Supervised(lr=0.1),
            pretrain=Pretrain(steps=960, batch=16, warmup=60, evaluations=4),
            probe=Probe(steps=900, batch=16, lr=3e-3, evaluations=2),
        ),
    )


def xbd_paper() -> Sweep:
    """The paper's xBD setting as far as it is known: tiles of 512 px, 25,670/11,002/3,732, rho 0 to 1, three seeds.

    ResNet-18 at stride 32 (a 16x16 map), both pairings, all losses and the baselines random, imagenet and supervised;
    in each cell 16,000 steps of 256 pairs (200 epochs of the clean tiles): days on one GPU. Needs the official tree in
    --data-root (which is converted to 85 GB of arrays) and torchvision's weights (--download). MoCo's settings are
    those of the paper's reference [5] (see METHOD.md). The paper gives no learning rates, clipping or warm-up for the
    dense losses, and no budget: these are ours. A step of a dense loss needs 37 GB of GPU memory, 23 GB with
    --engine.recompute (calculated). Not run yet.
    """
    return Sweep(
        preset="xbd-paper",
        out=Path("results/xbd-paper"),
        objectives=(*LOSSES, "random", "imagenet", "supervised"),
        rho=(0.0, 0.1, 0.25, 0.5, 0.75, 1.0),
        nu=(),
        seeds=(0, 1, 2),
        recipe=Recipe(
            data=XbdSettings(),
            moco=Moco(lr=0.03, temperature=0.02, queue=65536),
            dense=Dense(within_lr=1.0, cross_lr=1.0, clip=0.05),
            pretrain=Pretrain(steps=16000, warmup=800),
            probe=Probe(steps=5000, class_weights=True),
        ),
        engine=Engine(precision="bf16"),
    )
