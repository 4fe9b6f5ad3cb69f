"""Encoders from timm: ResNet-18, slim variants with a low stride for CPUs, or any model with a feature map."""

from collections.abc import Callable
from typing import Any, cast

import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn

from datasets.errors import InputError, one_line
from datasets.seeding import seeded
from trainables.engine import PLAIN, Engine
from trainables.models.recompute import blocks, features_again
from trainables.recipe import STAGES, Encoder

MOST_ELEMENTS = 2**31 - 1
"""GPU kernels that count in 32 bits fail on larger tensors. A stem of stride 1 makes 64 channels of an image."""


def features_of(network: nn.Module, images: Tensor) -> Tensor:
    """A timm model's features before pooling, or the last ones of its first stages."""
    if hasattr(network, "forward_features"):
        return cast(Callable[[Tensor], Tensor], network.forward_features)(images)
    return cast(Tensor, network(images)[-1])


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
        # A function of the network, not a method, so that a copy of this module runs its own network.
        self.in_training = features_of
        if engine.compiles:
            self.in_training = torch.compile(features_of, mode=engine.compile, dynamic=False)
        if engine.recompute:
            blocks(network)  # refuses other networks
            self.in_training = features_again

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
    if not timm.is_model(recipe.name):
        near = ", ".join(timm.list_models(f"*{recipe.name[:6]}*")[:8]) or ", ".join(timm.list_models("resnet*")[:8])
        raise InputError(f"--encoder.name {recipe.name}: timm has no such model; similar names: {near}")
    network = _network(recipe, bands)
    if recipe.small_stem:
        _make_stem_small(network, recipe, bands)
    if not recipe.stem_pool:
        if not hasattr(network, "maxpool"):
            raise InputError(f"--encoder.no-stem-pool: {recipe.name} has no max-pool to remove")
        network.maxpool = nn.Identity()
    return Backbone(network, engine)


def timm_options(recipe: Encoder, bands: int) -> dict[str, Any]:
    """Arguments of `timm.create_model` besides the name and `num_classes=0`."""
    options: dict[str, Any] = {"in_chans": bands} if bands != 3 else {}
    if recipe.timm_stride != recipe.usual_stride:
        options["output_stride"] = recipe.timm_stride
    if recipe.stages < STAGES:
        # Counted from the end, because some models also list the stem's feature map.
        options |= {"features_only": True, "out_indices": (recipe.stages - STAGES - 1,)}
    if recipe.slim != 1:
        # timm's plain stem always has 64 channels; a deep stem of three 3x3 convolutions can be slim.
        options["channels"] = tuple(round(width * recipe.slim) for width in (64, 128, 256, 512))
        options |= {"stem_type": "deep", "stem_width": round(32 * recipe.slim)}
    return options


def _network(recipe: Encoder, bands: int) -> nn.Module:
    """The timm model, with its standard stem and max-pool."""
    options = timm_options(recipe, bands)
    try:
        network: nn.Module = timm.create_model(recipe.name, pretrained=False, num_classes=0, **options)
    except (TypeError, AssertionError, ValueError, RuntimeError, IndexError) as error:
        raise InputError(
            f"--encoder.name {recipe.name} cannot be built with slim {recipe.slim:g}, output stride "
            f"{recipe.output_stride} and {recipe.stages} stages: use 1, 32 and {STAGES} for models that are no ResNet "
            f"({one_line(error)})"
        ) from error
    return network


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


def check_encoder(recipe: Encoder, *, bands: int = 3) -> None:
    """Check that the encoder can be built and returns a feature map at its output stride.

    Raises:
        InputError: as `make_encoder`, or its features have another shape.
    """
    with seeded(0, "check"), torch.no_grad():
        encoder = make_encoder(recipe, bands=bands).eval()
    try:
        shape = tuple(encoder(torch.zeros(1, bands, 64, 64)).shape)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise InputError(f"--encoder.name {recipe.name} cannot encode 64-px images ({error}); use a CNN") from error
    side = 64 // recipe.output_stride
    expected = (1, encoder.channels, side, side)
    if shape != expected:
        raise InputError(
            f"--encoder.name {recipe.name}: its features have shape {shape}, but output stride "
            f"{recipe.output_stride} needs {expected}; use a CNN, or another --encoder.output-stride"
        )
