"""The recipe: everything that is held fixed over a grid. No torch here: the command line reads it at once."""

from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from datasets.augment.config import Augment
from datasets.errors import InputError
from datasets.registry import AnySettings
from datasets.types import TURNS
from datasets.vts.config import VtsSettings
from trainables.cell import digest
from trainables.objective_names import objective_info, objective_settings, with_settings


def positive(section: str, **values: float) -> None:
    """Refuse settings that must be above zero.

    Raises:
        InputError: names the first that is not, as the flag it came from.
    """
    for name, value in values.items():
        if not value > 0:
            raise InputError(f"--{section}.{name.replace('_', '-')} {value:g}: must be above 0")


KNOWN = ("resnet18", "resnet34")
"""Models that can be built by every valid `Encoder`, as tests show; others are tried before they are used."""


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """The network that is pretrained, then frozen."""

    name: str = "resnet18"
    """Any timm model whose last feature map is (channels, height, width)."""
    slim: float = 1.0
    """Width of a ResNet relative to its own (1/4: 16, 32, 64, 128 channels); 1 for models that are no ResNet."""
    output_stride: Literal[8, 16, 32] = 32
    """Pixels of the image a position of the last feature map; below 32 the last stages are dilated instead."""
    stem_pool: bool = True
    """Keep a ResNet's max-pool after the stem; without it small images keep twice the detail."""
    small_stem: bool = False
    """A ResNet's stem as one 3x3 convolution of stride 1, as is usual for images of 32 px: twice the detail again."""

    def __post_init__(self) -> None:
        """Refuse what timm would not build."""
        if not self.slim >= 1 / 32:
            raise InputError(f"--encoder.slim {self.slim:g}: must be 1/32 or more, or a layer has no channel left")
        if self.timm_stride > 32:
            raise InputError(
                "--encoder.no-stem-pool and --encoder.small-stem halve the stride each: give --encoder.output-stride "
                f"{self.output_stride * 32 // self.timm_stride}"
            )

    @property
    def timm_stride(self) -> int:
        """The output stride as timm counts it: with its own stem and max-pool."""
        return self.output_stride * (1 if self.stem_pool else 2) * (2 if self.small_stem else 1)


@dataclass(frozen=True, kw_only=True)
class Moco:
    """MoCo v2 (Chen et al. 2020)."""

    lr: float = 0.03
    """Learning rate of SGD, for the recipe's batch."""
    temperature: float = 0.2
    """Softmax temperature T."""
    momentum: float = 0.999
    """Share of the momentum encoder that a step keeps."""
    queue: int = 4096
    """Negative features kept from earlier batches."""
    features: int = 128
    """Length of a projected feature."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        positive("moco", lr=self.lr, temperature=self.temperature, queue=self.queue, features=self.features)
        if not 0 <= self.momentum < 1:
            raise InputError(f"--moco.momentum {self.momentum:g}: must be in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class Dense:
    """The dense contrastive losses (Zhao et al. 2021)."""

    within_lr: float = 0.1
    """Learning rate of SGD for the within-image loss."""
    cross_lr: float = 0.1
    """Learning rate of SGD for the cross-image loss."""
    temperature: float = 0.07
    """Softmax temperature T."""
    features: int = 256
    """Channels of the dense projection head."""
    clip: float = 0.0
    """Largest norm of the gradient, longer ones are shortened to it; 0: no limit. At a low temperature the first
    gradients are so long that all features end up equal, a state in which they then stay."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        positive(
            "dense",
            within_lr=self.within_lr,
            cross_lr=self.cross_lr,
            temperature=self.temperature,
            features=self.features,
        )
        if not self.clip >= 0:
            raise InputError(f"--dense.clip {self.clip:g}: must be 0 (no limit) or above")


@dataclass(frozen=True, kw_only=True)
class Supervised:
    """The baseline `supervised`: the encoder is trained on the downstream task itself, as upper bound."""

    lr: float = 0.03
    """Learning rate of SGD, for the recipe's batch."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        positive("supervised", lr=self.lr)


@dataclass(frozen=True, kw_only=True)
class Pretrain:
    """The pretraining stage."""

    steps: int = 4688
    """Optimiser steps, the same for every cell."""
    batch: int = 256
    """Pairs a step."""
    warmup: int = 0
    """Steps over which the learning rate first rises linearly."""
    weight_decay: float = 1e-4
    """Weight decay of SGD."""
    evaluations: int = 20
    """How often, evenly over the steps, the noise-free validation loss is taken; the best encoder is kept."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        positive("pretrain", steps=self.steps, evaluations=self.evaluations)
        if self.batch < 2:
            raise InputError(f"--pretrain.batch {self.batch}: contrastive losses need at least 2 pairs")
        if not self.weight_decay >= 0:
            raise InputError(f"--pretrain.weight-decay {self.weight_decay:g}: must be 0 or above")
        if not 0 <= self.warmup <= self.steps:
            raise InputError(f"--pretrain.warmup {self.warmup}: must be from 0 to the {self.steps} steps")


@dataclass(frozen=True, kw_only=True)
class Probe:
    """The segmentation probe on the frozen encoder."""

    steps: int = 2000
    """Optimiser steps of the head."""
    batch: int = 64
    """Images a step."""
    lr: float = 1e-3
    """Learning rate of AdamW, decayed to zero by a cosine."""
    weight_decay: float = 1e-4
    """Weight decay of AdamW."""
    cached_views: int = 0
    """Fixed flips and rotations by 90 degrees of each image, whose features are computed once and kept in memory;
    0: a fresh one every time an image is seen, encoded anew."""
    class_weights: bool = False
    """Weigh classes by their inverse frequency in the training images."""
    evaluations: int = 5
    """How often the probe's loss and validation F1 are reported."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        positive("probe", steps=self.steps, lr=self.lr, evaluations=self.evaluations)
        if self.batch < 2:
            raise InputError(f"--probe.batch {self.batch}: the head's batch norm needs at least 2 images")
        if not self.weight_decay >= 0:
            raise InputError(f"--probe.weight-decay {self.weight_decay:g}: must be 0 or above")
        if not 0 <= self.cached_views <= 8:
            raise InputError(f"--probe.cached-views {self.cached_views}: an image has 8 flips and rotations, so 0 to 8")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything held fixed over the grid. Two recipes with one fingerprint give the same results."""

    data: AnySettings = field(default_factory=VtsSettings)
    augment: Augment = field(default_factory=Augment)
    encoder: Encoder = field(default_factory=Encoder)
    moco: Moco = field(default_factory=Moco)
    dense: Dense = field(default_factory=Dense)
    supervised: Supervised = field(default_factory=Supervised)
    pretrain: Pretrain = field(default_factory=Pretrain)
    probe: Probe = field(default_factory=Probe)

    def __post_init__(self) -> None:
        """Refuse parts that do not fit each other."""
        if self.moco.queue < self.pretrain.batch:
            raise InputError(
                f"--moco.queue {self.moco.queue} cannot hold one batch of {self.pretrain.batch}: make it larger"
            )
        if self.data.bands != 3 and self.augment.jitter and self.augment.hue:
            raise InputError(
                f"--augment.hue {self.augment.hue:g}: images of {self.data.bands} bands have no hue, give 0"
            )
        views = TURNS[self.data.task]
        if self.probe.cached_views > views:
            raise InputError(
                f"--probe.cached-views {self.probe.cached_views}: images of {self.data.dataset} have {views} flips and "
                "rotations that keep their classes"
            )

    @property
    def fingerprint(self) -> str:
        """16 hex digits of all settings; part of every cell's key."""
        return digest(asdict(self))

    def learning_rate(self, objective: str) -> float:
        """The learning rate that an objective is trained with: of the recipe or, where that has none, of its name.

        Raises:
            InputError: there is no such objective.
        """
        info = objective_info(objective)
        settings = getattr(self, info.settings) if info.settings else objective_settings(objective)
        return float(getattr(settings, info.lr))

    def with_learning_rate(self, objective: str, lr: float) -> tuple["Recipe", str]:
        """The recipe and the objective's name with another learning rate: it is in either of them.

        Raises:
            InputError: the rate is not above zero.
        """
        info = objective_info(objective)
        if info.settings is None:
            return self, with_settings(objective, lr=float(lr))
        changed = replace(getattr(self, info.settings), **{info.lr: lr})
        return replace(self, **{info.settings: changed}), objective
