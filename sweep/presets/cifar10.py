"""Presets on CIFAR-10 with false positive pairs."""

import math
from dataclasses import replace
from pathlib import Path

from datasets.augment.config import MOCO_V2
from datasets.cifar10.config import Cifar10Settings
from sweep.config.sweep import Sweep
from trainables.engine import Engine
from trainables.recipe import Encoder, Moco, Pretrain, Probe, Recipe

CIFAR_VIEWS = replace(MOCO_V2, crop_low=math.sqrt(0.08), blur=0.0)
"""Views of MoCo's CIFAR-10 notebook (https://github.com/facebookresearch/moco/tree/colab-notebook): crops of 8 to
100 % of the area, no blur."""


def cifar_quick() -> Sweep:
    """False positive pairs on CIFAR-10, small: 7 cells, 5 to 12 minutes per seed on 2 cores with 10,000 images.

    With probability rho, the partner in a pair is an image of another class. A slim ResNet-18 with a 3x3 stem, MoCo v2
    for 400 steps of 64 pairs, then a linear probe. Needs CIFAR-10 in --data-root (or --download). Fig. 1 of the paper
    shows such an experiment without details. This one is much smaller and does not reproduce it.
    """
    return Sweep(
        preset="cifar-quick",
        out=Path("results/cifar-quick"),
        objectives=("moco", "random", "supervised"),
        rho=(0.0, 0.25, 0.5, 0.75, 1.0),
        nu=(),
        pairings=("false_positive",),
        recipe=Recipe(
            data=Cifar10Settings(),
            augment=CIFAR_VIEWS,
            encoder=Encoder(slim=0.25, output_stride=8, stem_pool=False, small_stem=True),
            moco=Moco(lr=0.06, temperature=0.1, momentum=0.99, queue=1024),
            pretrain=Pretrain(steps=400, batch=64, warmup=20, weight_decay=5e-4, evaluations=4),
            probe=Probe(steps=400, batch=256, lr=1e-2, cached_views=2, evaluations=2),
        ),
    )


def cifar_paper() -> Sweep:
    """False positive pairs on CIFAR-10 at the scale of MoCo's CIFAR notebook: 5 rates, two baselines, three seeds.

    ResNet-18 with a 3x3 stem and no max-pool, batch 512, learning rate 0.06, 4,096 negatives, momentum 0.99,
    temperature 0.1, 17,400 steps (200 epochs), then a linear probe. For one GPU; not run yet. The paper only mentions
    such an experiment (Fig. 1, "details omitted"), so all settings are our choice.
    """
    quick = cifar_quick()
    return replace(
        quick,
        preset="cifar-paper",
        out=Path("results/cifar-paper"),
        seeds=(0, 1, 2),
        recipe=replace(
            quick.recipe,
            encoder=Encoder(output_stride=8, stem_pool=False, small_stem=True),
            moco=Moco(lr=0.06, temperature=0.1, momentum=0.99, queue=4096),
            pretrain=Pretrain(steps=17400, batch=512, weight_decay=5e-4, evaluations=20),
            probe=Probe(steps=5000, batch=512, lr=1e-3, cached_views=2),
        ),
        engine=Engine(precision="bf16"),
    )
