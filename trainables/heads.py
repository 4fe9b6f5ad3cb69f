"""Projection heads for the losses, thrown away after pretraining, and the segmentation head of the probe."""

from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.segmentation.fcn import FCNHead


def image_head(channels: int, features: int) -> nn.Module:
    """MoCo v2's head: linear, ReLU, linear, without batch norm; (n, channels) -> (n, features)."""
    return nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, features))


def dense_head(channels: int, features: int) -> nn.Module:
    """Three 1x1 convolutions with ReLU after the first two (Zhao et al. 2021); (n, channels, h, w) -> features."""
    return nn.Sequential(
        nn.Conv2d(channels, features, 1),
        nn.ReLU(),
        nn.Conv2d(features, features, 1),
        nn.ReLU(),
        nn.Conv2d(features, features, 1),
    )


def segmentation_head(channels: int, classes: int) -> nn.Module:
    """The FCN head: 3x3 convolution to a quarter of the channels, BN, ReLU, dropout .1, 1x1 convolution."""
    return FCNHead(channels, classes)


def unit_vectors(projected: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Unit-normalised image features."""
    return functional.normalize(projected, dim=1)


def unit_positions(projected: Float[Tensor, "n d h w"]) -> Float[Tensor, "n p d"]:
    """Unit-normalised features of each position of the map, row after row."""
    return functional.normalize(projected, dim=1).flatten(2).transpose(1, 2)


def map_labels(labels: Integer[Tensor, "n H W"], height: int, width: int) -> Integer[Tensor, "n p"]:
    """Labels of each position of a (height, width) map: the label of the pixel nearest to its centre."""
    return functional.interpolate(labels[:, None].float(), (height, width), mode="nearest-exact").flatten(1).long()


def upsample(logits: Float[Tensor, "n c h w"], height: int, width: int) -> Float[Tensor, "n c H W"]:
    """Bilinear up-sampling of class scores to the input's size, as torchvision's FCN does it."""
    return functional.interpolate(logits, (height, width), mode="bilinear", align_corners=False)
