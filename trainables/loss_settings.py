"""Settings of the losses that are not in the paper: parts of the recipe. No torch here.

Learning rates are those of the papers for 256 pairs, or guesses where these are not for SGD (METHOD.md).
`sweep.lr_search` finds others.
"""

from typing import Annotated

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from datasets.settings import Share, settings

Momentum = Annotated[float, Field(ge=0, lt=1)]
"""The share of its weights that a step leaves in a network that follows another."""


@settings("rince")
class Rince:
    """RINCE, the robust InfoNCE (Chuang et al. 2022, https://arxiv.org/abs/2201.04309).

    `rince` has the networks and the queue of MoCo (--moco.*), `rince_within` the head of the dense losses (--dense.*).
    """

    lr: PositiveFloat = 0.03
    """Learning rate for `rince` at this batch size."""
    within_lr: PositiveFloat = 0.1
    """Learning rate for `rince_within`."""
    q: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Towards 0 the loss is InfoNCE, whose gradient is largest for positives that are not similar yet. At 1 it is the
    most robust one, whose gradient is largest for positives that are similar already."""
    lam: Annotated[float, Field(gt=0, le=1)] = 0.01
    """Lambda: weight of the sum over the positive and its negatives, against the positive alone."""


@settings("simclr")
class SimClr:
    """SimCLR (Chen et al. 2020, https://arxiv.org/abs/2002.05709). The negatives are the batch: --pretrain.batch."""

    lr: PositiveFloat = 0.125
    """Learning rate at this batch size."""
    temperature: PositiveFloat = 0.1
    """Softmax temperature."""
    features: PositiveInt = 128
    """Dimension of the projected features."""


@settings("supcon")
class SupCon:
    """SupCon (Khosla et al. 2020, https://arxiv.org/abs/2004.11362). The negatives are the batch: --pretrain.batch."""

    lr: PositiveFloat = 0.125
    """Learning rate at this batch size."""
    temperature: PositiveFloat = 0.1
    """Softmax temperature."""
    features: PositiveInt = 128
    """Dimension of the projected features."""


@settings("byol")
class Byol:
    """BYOL (Grill et al. 2020, https://arxiv.org/abs/2006.07733)."""

    lr: PositiveFloat = 0.2
    """Learning rate at this batch size."""
    momentum: Momentum = 0.99
    """Momentum of the target network: the share of its weights that a step keeps."""
    hidden: PositiveInt = 1024
    """Units of the hidden layer of the projector and of the predictor."""
    features: PositiveInt = 256
    """Dimension of the projected and of the predicted features."""


@settings("simsiam")
class SimSiam:
    """SimSiam (Chen and He 2021, https://arxiv.org/abs/2011.10566)."""

    lr: PositiveFloat = 0.05
    """Learning rate at this batch size."""
    features: PositiveInt = 512
    """Units of each layer of the projector, and dimension of the predicted features."""
    hidden: PositiveInt = 128
    """Units of the hidden layer of the predictor."""


@settings("vicreg")
class VicReg:
    """VICReg (Bardes et al. 2022, https://arxiv.org/abs/2105.04906)."""

    lr: PositiveFloat = 0.01
    """Learning rate at this batch size."""
    invariance: NonNegativeFloat = 25.0
    """Weight of the distance of a pair; lambda in the paper."""
    variance: NonNegativeFloat = 25.0
    """Weight of the variance term; mu in the paper. 0: nothing prevents equal features."""
    covariance: NonNegativeFloat = 1.0
    """Weight of the covariance term; nu in the paper, but not the nu of noisy pairs."""
    features: PositiveInt = 1024
    """Units of each layer of the expander."""


@settings("densecl")
class DenseCl:
    """DenseCL (Wang et al. 2021, https://arxiv.org/abs/2011.09157), with the networks and queue of MoCo (--moco.*)."""

    lr: PositiveFloat = 0.3
    """Learning rate at this batch size."""
    lam: Share = 0.5
    """Lambda: share of the dense loss; the rest is MoCo's."""


@settings("pixpro")
class PixPro:
    """PixPro (Xie et al. 2021, https://arxiv.org/abs/2011.10043), its loss of positions alone."""

    lr: PositiveFloat = 0.2
    """Learning rate at this batch size."""
    momentum: Momentum = 0.99
    """Momentum of the target network: the share of its weights that a step keeps."""
    hidden: PositiveInt = 512
    """Channels of the hidden layer of the projector."""
    features: PositiveInt = 128
    """Channels of the projected features."""
    distance: PositiveFloat = 0.7
    """Positions are positives if their distance in the image is less than this, in diagonals of a position."""
    sharpness: PositiveFloat = 2.0
    """Exponent of the similarity by which positions of an image are averaged; gamma in the paper."""
