"""Encoders from timm: ResNet-18, slim variants with a low stride for CPUs, or any model with feature maps."""

from collections.abc import Callable
from typing import Any, cast

import timm
import torch
from jaxtyping import Float
from timm.layers import DropPath
from timm.models._features import FeatureGetterNet  # exported by no public module
from torch import Tensor, nn
from torch.nn import functional

from datasets.errors import InputError, one_line
from trainables.engine import PLAIN, Engine
from trainables.models.feature_maps import ERRORS, EXAMPLES, feature_maps, timm_options
from trainables.models.recompute import features_again, is_resnet, recompute_blocks
from trainables.recipe import STAGES, Encoder

MOST_ELEMENTS = 2**31 - 1
"""GPU kernels that count in 32 bits fail on larger tensors. A stem of stride 1 makes 64 channels of an image."""


def features_of(network: nn.Module, images: Tensor) -> Tensor:
    """A timm model's map before pooling, or the last map of a network that returns a list of maps."""
    if hasattr(network, "forward_features"):
        return cast(Callable[[Tensor], Tensor], network.forward_features)(images)
    return cast(Tensor, network(images)[-1])


class NarrowShortcut(nn.Conv2d):
    """A 1x1 convolution with a stride, of fewer than 16 channels, as in the shortcuts of a slim ResNet.

    On a CPU, torch 2.14 ends the process when it computes the gradient of such weights in fp32 and channels_last, from
    maps of 46 px on. Without a stride it does not, so large maps lose their other positions first. Maps of up to 32 px
    keep the bits that they have always had.
    """

    def forward(self, images: Tensor) -> Tensor:
        """The convolution."""
        if images.is_cuda or images.shape[-1] <= 32 or not torch.is_grad_enabled():
            return super().forward(images)
        rows, columns = self.stride
        return functional.conv2d(images[:, :, ::rows, ::columns], self.weight, self.bias)


def spare_shortcuts(network: nn.Module) -> None:
    """Make each convolution a `NarrowShortcut` that is one."""
    for part in network.modules():
        if (
            type(part) is nn.Conv2d
            and part.kernel_size == (1, 1) != part.stride
            and part.in_channels < 16
            and part.groups == 1
        ):
            part.__class__ = NarrowShortcut


class Backbone(nn.Module):
    """A timm model up to its last feature map, with the arithmetic and layout of an engine."""

    mean: Tensor
    gain: Tensor

    def __init__(
        self, network: nn.Module, engine: Engine, mean: tuple[float, ...] = (0.5,), std: tuple[float, ...] = (0.25,)
    ) -> None:
        """Wrap the network, and convert its weights to the memory layout of the engine.

        Args:
            network: a timm model without its classifier.
            engine: how it is executed.
            mean: mean of the images, for each band or for all.
            std: standard deviation of the images, for each band or for all.
        """
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("gain", 1 / torch.tensor(std)[:, None, None], persistent=False)
        self.layout = torch.channels_last if engine.layout == "channels_last" else torch.contiguous_format
        self.engine = engine
        self.network = network.to(memory_format=self.layout)
        if engine.layout == "channels_last" and engine.precision == "fp32":
            spare_shortcuts(network)
        # A function of the network, not a method, so that a copy of this module runs its own network.
        self.in_training = features_of
        if engine.compiles:
            self.in_training = torch.compile(features_of, mode=engine.compile, dynamic=False)
        if engine.recompute and is_resnet(network):
            self.in_training = features_again
        elif engine.recompute:
            recompute_blocks(network)

    @property
    def channels(self) -> int:
        """Channels of the feature map."""
        network = cast(Any, self.network)
        return int(
            network.num_features if hasattr(network, "forward_features") else network.feature_info.channels()[-1]
        )

    def forward(self, images: Float[Tensor, "n b H W"]) -> Float[Tensor, "n c h w"]:
        """The last feature map before the global average pool, (n, c, h, w), in float32.

        Args:
            images: with b bands, in [0, 1]. They are normalised by `mean` and `std`.
        """
        if not self.training and len(images) > 1 and 64 * images[:, 0].numel() > MOST_ELEMENTS:
            return torch.cat([self(part) for part in images.chunk(2)])
        # Outside training, batches differ in size, and each size would need another compilation.
        run = self.in_training if self.training else features_of
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=self.engine.precision == "bf16"):
            images = ((images - self.mean) * self.gain).contiguous(memory_format=self.layout)
            return run(self.network, images).float()


def make_encoder(recipe: Encoder, engine: Engine = PLAIN, *, bands: int = 3) -> Backbone:
    """Build the encoder with random weights from torch's global random state.

    The residual branches of a ResNet start at zero (timm's default; Goyal et al. 2017, https://arxiv.org/abs/1706.02677),
    so at first each position depends mostly on its own surroundings. Otherwise all positions of an image have similar
    features, whatever their class, and the cross-image loss never left its plateau in our trials.

    Raises:
        InputError: timm has no such model, or cannot build it with this width or stride.
    """
    network = _network(recipe, bands)
    if recipe.small_stem:
        _make_stem_small(network, recipe, bands)
    if not recipe.stem_pool:
        if not hasattr(network, "maxpool"):
            raise InputError(f"--encoder.no-stem-pool: {recipe.name} has no max-pool to remove")
        network.maxpool = nn.Identity()
    for part in network.modules():
        # They would draw from torch's global random state, so that a resumed cell would give other results.
        if isinstance(part, DropPath):
            part.drop_prob = 0.0
        elif isinstance(part, nn.Dropout):
            part.p = 0.0
    return Backbone(network, engine)


def _network(recipe: Encoder, bands: int) -> nn.Module:
    """The timm model, with its standard stem and max-pool."""
    options = timm_options(recipe, bands)
    try:
        network: nn.Module = timm.create_model(recipe.name, pretrained=False, num_classes=0, **options)
        if not feature_maps(recipe.name).has_maps and recipe.stages == STAGES:
            # Nothing is pruned, so that timm's plain model takes the weights.
            network = FeatureGetterNet(network, out_indices=(-1,), norm=True, prune=False)
    except ERRORS as error:
        raise InputError(
            f"--encoder.name {recipe.name} cannot be built with slim {recipe.slim:g}, output stride "
            f"{recipe.output_stride} and {recipe.stages} stages: use 1, 32 and {STAGES} for models that are no ResNet "
            f"({one_line(error)})"
        ) from error
    return network


def timm_network(network: nn.Module) -> nn.Module:
    """The network as `timm.create_model` returns it with the options of the recipe, whose parameters it names."""
    whole = isinstance(network, FeatureGetterNet) and network.norm
    return cast(nn.Module, network.model) if whole else network


def _make_stem_small(network: nn.Module, recipe: Encoder, bands: int) -> None:
    """Replace the convolution of the stem that has the stride by a 3x3 convolution of stride 1."""
    stem = getattr(network, "conv1", None)
    # A deep stem (of slim ResNets) has three convolutions; the first one has the stride.
    first = stem[0] if isinstance(stem, nn.Sequential) else stem
    if not isinstance(first, nn.Conv2d):
        raise InputError(f"--encoder.small-stem: {recipe.name} has no stem of convolutions to replace")
    small = nn.Conv2d(bands, first.out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(small.weight, mode="fan_out", nonlinearity="relu")  # as in timm's ResNets
    if isinstance(stem, nn.Sequential):
        stem[0] = small
    else:
        network.conv1 = small


def check_map(recipe: Encoder, encoder: Backbone, *, bands: int, size: int) -> None:
    """Check that an encoder without values returns a feature map at its output stride.

    Args:
        recipe: the encoder's settings.
        encoder: made on torch's meta device, in eval mode.
        bands: of the images.
        size: side of the images in px.

    Raises:
        InputError: its features have another shape, or it cannot encode images of this size.
    """
    found = {side: _map_shape(recipe, encoder, bands, side) for side in (size, 64)}
    side = 64 // recipe.output_stride
    expected = (1, encoder.channels, side, side)
    if found[64] != expected:
        raise InputError(
            f"--encoder.name {recipe.name}: its features have shape {found[64]}, but output stride "
            f"{recipe.output_stride} needs {expected}; use {EXAMPLES}, or another --encoder.output-stride"
        )


def _map_shape(recipe: Encoder, encoder: Backbone, bands: int, size: int) -> tuple[int, ...]:
    try:
        return tuple(features_of(encoder.network, torch.empty(1, bands, size, size, device="meta")).shape)
    except ERRORS as error:
        raise InputError(
            f"--encoder.name {recipe.name} cannot encode {size}-px images ({one_line(error, most=120)}); use {EXAMPLES}"
        ) from error
