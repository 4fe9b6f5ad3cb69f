"""The recipe: everything that is held fixed over a grid. No torch here, so that the command line starts fast."""

from collections.abc import Mapping
from dataclasses import asdict, field, fields, replace
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, TypeAdapter

from datasets.augment.config import Augment
from datasets.errors import InputError
from datasets.registry import AnySettings
from datasets.settings import settings
from datasets.types import TURNS, Target
from datasets.vts.config import VtsSettings
from trainables import loss_settings
from trainables.cell import digest
from trainables.objective_names import objective_info, objective_settings, with_settings
from trainables.weights_file import NO_WEIGHTS, WeightsFile, digest_of

KNOWN = ("resnet18", "resnet34")
"""Models that tests build with every valid `Encoder`. Others are tried before a sweep uses them."""


STAGES = 4
"""Stages of a whole encoder."""


@settings("encoder")
class Encoder:
    """The network that is pretrained and then frozen."""

    name: str = "resnet18"
    """A timm model with feature maps: a ResNet, ConvNeXt, ViT, Swin, a ViT of DINOv3, and others."""
    weights: WeightsFile = NO_WEIGHTS
    """File with weights of this model, as safetensors or a state dictionary, from which cells start, and which the
    baseline `pretrained` probes. none: random weights."""
    slim: Annotated[float, Field(ge=1 / 32)] = 1.0
    """Width of a ResNet relative to the standard one (0.25: 16, 32, 64, 128 channels); 1 for other models."""
    output_stride: Literal[4, 8, 16, 32] = 32
    """Image pixels per position of the last feature map. Below its usual stride, the last stages of a CNN use dilation
    instead. 4 needs a single stage, or a stem that halves the stride. A ViT gets patches of this size."""
    stem_pool: bool = True
    """Keep the max-pool after a ResNet's stem. Without it, small images keep twice the resolution."""
    small_stem: bool = False
    """Replace a ResNet's stem by a 3x3 convolution of stride 1, the usual choice for 32-px images. This doubles the
    resolution, too."""
    stages: Annotated[int, Field(ge=1, le=STAGES)] = STAGES
    """First stages that are kept, 4: all. A stage ends with the model's feature map at stride 4, 8, 16 or 32."""

    def __post_init__(self) -> None:
        """Refuse a stride that timm cannot build."""
        if self.timm_stride > self.usual_stride:
            fit = self.output_stride * self.usual_stride // self.timm_stride
            raise InputError(
                f"--encoder.stages {self.stages} ends at stride {fit} (--encoder.no-stem-pool and --encoder.small-stem "
                f"each halve it): use {'more stages' if fit < 4 else f'--encoder.output-stride {fit}'}"
            )
        if self.timm_stride < 8 and self.stages > 1:
            raise InputError(f"--encoder.output-stride {self.output_stride}: needs --encoder.stages 1, or use 8")

    @property
    def usual_stride(self) -> int:
        """The stride of the last kept stage of the standard network."""
        return 2 ** (self.stages + 1)

    @property
    def timm_stride(self) -> int:
        """The output stride of the same network with its standard stem and max-pool, which is what timm expects."""
        return self.output_stride * (1 if self.stem_pool else 2) * (2 if self.small_stem else 1)


@settings("moco")
class Moco:
    """MoCo v2 (Chen et al. 2020, https://arxiv.org/abs/2003.04297)."""

    lr: PositiveFloat = 0.03
    """Learning rate at this batch size."""
    temperature: PositiveFloat = 0.2
    """Softmax temperature T."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Momentum of the momentum encoder: the share of its weights that a step keeps."""
    queue: PositiveInt = 4096
    """Number of negative features kept from earlier batches."""
    features: PositiveInt = 128
    """Dimension of the projected features."""


Denominator = Literal["printed", "public"]
"""The two readings of the dense losses."""


@settings("dense")
class Dense:
    """The dense contrastive losses (Zhao et al. 2021, https://arxiv.org/abs/2012.06985)."""

    within_lr: PositiveFloat = 0.1
    """Learning rate for the within-image loss."""
    cross_lr: PositiveFloat = 0.1
    """Learning rate for the cross-image loss."""
    temperature: PositiveFloat = 0.07
    """Softmax temperature T."""
    denominator: Denominator = "printed"
    """What a positive pair is compared with. printed: all positions of the partner, as in the paper's Eqs. 2 and 3.
    public: the pair itself and the partner's positions of other classes, as in the code of Zhao et al."""
    features: PositiveInt = 256
    """Channels of the dense projection head."""
    norm: bool = False
    """Batch norm after the head's first two convolutions."""
    clip: NonNegativeFloat = 0.0
    """Maximum norm of the gradient; 0: no limit. At a low temperature the first gradients can be so large that all
    features become equal and stay equal."""


@settings("supervised")
class Supervised:
    """The baseline `supervised`: the encoder is trained on the downstream task, as an upper bound."""

    lr: PositiveFloat = 0.03
    """Learning rate at this batch size."""


@settings("pretrain")
class Pretrain:
    """The pretraining stage."""

    steps: PositiveInt = 4688
    """Optimiser steps, the same in every cell."""
    batch: Annotated[int, Field(ge=2)] = 256
    """Pairs per step, at least 2."""
    warmup: NonNegativeInt = 0
    """First steps, over which the learning rate rises linearly."""
    optimizer: Literal["sgd", "adamw", "lars"] = "sgd"
    """sgd: momentum 0.9; weight decay on all weights. adamw, lars (You et al. 2017): timm's, without weight decay for
    biases and norms. Learning rates differ in scale."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning rate after the warm-up: falls to zero along a cosine, or is constant."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of an exponential moving average of the weights, per step; 0: none. The validation loss and the probe use
    the averaged weights."""
    weight_decay: NonNegativeFloat = 1e-4
    """Weight decay of the optimiser."""
    evaluations: PositiveInt = 20
    """Evaluations of the validation loss without noisy pairs, evenly spaced. The best encoder is kept."""

    def __post_init__(self) -> None:
        """Refuse a warm-up that does not end, and LARS where it would be plain SGD."""
        if self.warmup > self.steps:
            raise InputError(f"--pretrain.warmup {self.warmup}: there are only {self.steps} --pretrain.steps")
        if self.optimizer == "lars" and not self.weight_decay:
            raise InputError("--pretrain.optimizer lars: scales only weights that decay, use --pretrain.weight-decay")


Head = Literal["fcn", "linear", "knn"]
"""What predicts classes from a feature map."""
Split = Literal["test", "ood"]
"""The images that test scores are of."""
Join = Literal["difference", "both"]
"""How the features of the two images of a pair are joined."""


@settings("probe")
class Probe:
    """The probe: how the pretrained encoder is tested."""

    steps: PositiveInt = 2000
    """Optimiser steps of the head."""
    batch: Annotated[int, Field(ge=2)] = 64
    """Images per step, at least 2 (the head has a batch norm)."""
    lr: PositiveFloat = 1e-3
    """Initial learning rate of AdamW; it decays to zero along a cosine."""
    weight_decay: NonNegativeFloat = 1e-4
    """Weight decay of AdamW."""
    cached_views: Annotated[int, Field(ge=0, le=8)] = 0
    """Flips and 90-degree rotations per image, 0 to 8. Their features are computed once and kept in memory; 0: augment
    and encode each image every time."""
    class_weights: bool = False
    """Weigh classes by their inverse frequency in the training images."""
    evaluations: PositiveInt = 5
    """How often the probe's loss and validation F1 are reported."""
    head: Head = "fcn"
    """What predicts classes from the feature map. fcn: the paper's (a 3x3 convolution, then a 1x1 convolution). linear:
    a 1x1 convolution. For whole images, both are a linear layer on the mean of the map. knn: a vote of the nearest
    positions of the training images (or of their means), without training."""
    neighbours: PositiveInt = 20
    """For knn: k, the number of nearest positions."""
    positions: PositiveInt = 16384
    """For knn: the most positions that are searched, drawn from those of all labelled training images."""
    labels: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the training images that the probe sees, drawn from the seed. Smaller shares are part of larger ones."""
    split: Split = "test"
    """The images that test scores are of. ood: images with content that neither pretraining nor probe has seen. VTS:
    textures of the fourth category as third class; xBD and manifests: the disasters or groups of --data.ood."""
    finetune: bool = False
    """Train the encoder along with the head, at a rate of its own; knn has nothing to train and leaves this out."""
    encoder_lr: PositiveFloat = 1e-4
    """For finetune: initial learning rate of the encoder; it decays to zero along a cosine."""
    every: NonNegativeInt = 0
    """Steps of pretraining between two looks at the encoder by a knn probe, whose validation F1 is in the learning
    curves as knn_val_f1_macro. The last is after the last step. 0: no looks."""
    target: Target = "classes"
    """What the head predicts. classes: the class of each pixel (or image), from one image. change, from both images of
    a pair: on xBD whether a pixel is damaged, in a manifest whether it changed, by change_mask or where the two masks
    differ. classes_from_pair: the same as classes, from both images."""
    join: Join = "difference"
    """For change: what the head sees of the features f and g of the two images. difference: |f - g|. both: f, g and
    |f - g|, as it always does for classes_from_pair."""

    def __post_init__(self) -> None:
        """Settings without an effect have one value, so that their cells are the same.

        A neighbour search trains nothing, and features are joined in one way unless the target is `change`.
        """
        if self.head == "knn":
            object.__setattr__(self, "finetune", False)
        if self.target != "change":
            object.__setattr__(self, "join", "difference" if self.target == "classes" else "both")


ADDED = (
    ("data", "min_share"),
    ("data", "ood"),
    ("data", "shift"),
    ("data", "turn"),
    ("data", "scale"),
    ("data", "select"),
    ("data", "nodata"),
    ("data", "align"),
    ("data", "columns"),
    ("data", "holdout"),
    ("data", "holdout_seed"),
    ("encoder", "stages"),
    ("encoder", "weights"),
    ("dense", "denominator"),
    ("dense", "norm"),
    ("pretrain", "optimizer"),
    ("pretrain", "schedule"),
    ("pretrain", "average"),
    ("probe", "head"),
    ("probe", "neighbours"),
    ("probe", "positions"),
    ("probe", "labels"),
    ("probe", "split"),
    ("probe", "finetune"),
    ("probe", "encoder_lr"),
    ("probe", "every"),
    ("probe", "target"),
    ("probe", "join"),
)
"""Settings that recipes did not have at first. At its default, such a setting is left out of the fingerprint, so that
the keys of older records stay valid. Never change these defaults."""
ADDED_PARTS = ("rince", "simclr", "supcon", "byol", "simsiam", "vicreg", "densecl", "pixpro")
"""Parts that recipes did not have at first. All their settings are as those of `ADDED`."""


@settings()
class Recipe:
    """Everything that is held fixed over the grid. Recipes with equal fingerprints give equal results."""

    data: AnySettings = field(default_factory=VtsSettings)
    augment: Augment = field(default_factory=Augment)
    encoder: Encoder = field(default_factory=Encoder)
    moco: Moco = field(default_factory=Moco)
    dense: Dense = field(default_factory=Dense)
    supervised: Supervised = field(default_factory=Supervised)
    rince: loss_settings.Rince = field(default_factory=loss_settings.Rince)
    simclr: loss_settings.SimClr = field(default_factory=loss_settings.SimClr)
    supcon: loss_settings.SupCon = field(default_factory=loss_settings.SupCon)
    byol: loss_settings.Byol = field(default_factory=loss_settings.Byol)
    simsiam: loss_settings.SimSiam = field(default_factory=loss_settings.SimSiam)
    vicreg: loss_settings.VicReg = field(default_factory=loss_settings.VicReg)
    densecl: loss_settings.DenseCl = field(default_factory=loss_settings.DenseCl)
    pixpro: loss_settings.PixPro = field(default_factory=loss_settings.PixPro)
    pretrain: Pretrain = field(default_factory=Pretrain)
    probe: Probe = field(default_factory=Probe)

    def __post_init__(self) -> None:
        """Refuse parts that do not fit together."""
        if self.moco.queue < self.pretrain.batch:
            raise InputError(
                f"--moco.queue {self.moco.queue}: must hold a batch, {self.pretrain.batch} (--pretrain.batch) or more"
            )
        if self.data.bands != 3 and self.augment.jitter and self.augment.hue:
            raise InputError(
                f"--augment.hue {self.augment.hue:g}: images with {self.data.bands} bands have no hue, use 0"
            )
        views = TURNS[self.data.task]
        if self.probe.cached_views > views:
            raise InputError(
                f"--probe.cached-views {self.probe.cached_views}: only {views} flips and rotations keep the class of "
                f"an image of {self.data.dataset}"
            )
        targets = getattr(self.data, "targets", ("classes",))
        if self.probe.target not in targets:
            raise InputError(
                f"--probe.target {self.probe.target}: needs pairs of images that tell what changed, which "
                f"{self.data.dataset} does not have: use {' or '.join(targets)}, or the data set xbd or manifest"
            )

    @property
    def task(self) -> str:
        """What the probe learns, as records say it: the task of the data, or another target."""
        return self.data.task if self.probe.target == "classes" else self.probe.target

    @property
    def extra_scores(self) -> tuple[str, ...]:
        """Scores of the classes besides F1, such as `xview2`."""
        return () if self.probe.target == "change" else self.data.extra_scores

    @property
    def values(self) -> dict[str, Any]:
        """All settings by part and name. The digest of a file of weights stands for it, wherever it is."""
        values = asdict(self)
        values["encoder"]["weights"] = digest_of(self.encoder.weights)
        return values

    @property
    def fingerprint(self) -> str:
        """Hash of all settings, 16 hex digits; part of every cell's key."""
        values = self.values
        parts = ((part, one.name) for part in ADDED_PARTS for one in fields(getattr(self, part)))
        for part, name in (*ADDED, *parts):
            # Not every data set has such a setting, and one outside this project may have its own of that name.
            ours = name in values[part] and ":" not in values[part].get("dataset", "")
            if ours and values[part][name] == getattr(type(getattr(self, part))(), name):
                del values[part][name]
        return digest({part: found for part, found in values.items() if found or part not in ADDED_PARTS})

    def with_settings(self, changes: Mapping[str, Any]) -> "Recipe":
        """The recipe with other values of some settings, which are named as in `pretrain.steps`.

        Raises:
            ValidationError: a value does not fit, or the settings do not fit together.
        """
        changed = _ADAPTER.dump_python(self)
        for name, value in changes.items():
            part, _, setting = name.partition(".")
            changed[part][setting] = value
        return _ADAPTER.validate_python(changed)

    def learning_rate(self, objective: str) -> float:
        """The learning rate of an objective, from the recipe or from the settings in its name.

        Raises:
            InputError: there is no such objective.
        """
        info = objective_info(objective)
        part = getattr(self, info.settings) if info.settings else objective_settings(objective)
        return float(getattr(part, info.lr))

    def with_learning_rate(self, objective: str, lr: float) -> tuple["Recipe", str]:
        """The recipe and the objective's name with another learning rate; one of the two holds it.

        Raises:
            InputError: the rate is not positive.
        """
        info = objective_info(objective)
        if info.settings is None:
            return self, with_settings(objective, lr=float(lr))
        changed = replace(getattr(self, info.settings), **{info.lr: lr})
        return replace(self, **{info.settings: changed}), objective


_ADAPTER = TypeAdapter(Recipe)
