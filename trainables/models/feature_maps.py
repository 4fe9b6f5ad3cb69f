"""The feature maps of timm models, found without weights, and the arguments with which timm builds a recipe's model.

Three kinds of models are told apart:

- ResNets, which can be slim, dilated and cut after a stage;
- other networks whose `forward_features` returns maps (n, c, h, w), such as ConvNeXt;
- models that return tokens or channels last, such as ViT and Swin, whose maps come from timm's `forward_intermediates`.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import timm
import torch
from timm.models import is_model_in_modules
from torch import nn

from datasets.errors import InputError, one_line
from datasets.seeding import seeded
from trainables.recipe import STAGES, Encoder

ERRORS = (TypeError, AssertionError, ValueError, RuntimeError, IndexError, AttributeError, KeyError)
"""What timm raises for a model that cannot be built, or cannot encode an image."""

EXAMPLES = "resnet18, convnext_atto, vit_tiny_patch16_224, swin_tiny_patch4_window7_224 or vit_small_patch16_dinov3"
"""Models of each kind, for messages."""


@dataclass(frozen=True)
class FeatureMaps:
    """What feature maps a timm model has."""

    has_maps: bool
    """Whether `forward_features` returns maps (n, c, h, w). Otherwise `forward_intermediates` does."""
    strides: tuple[int, ...] = ()
    """Image pixels per position of the maps that timm lists, from the first on."""
    any_size: bool = False
    """Whether timm's `dynamic_img_size` makes it take images of any size."""


def is_resnet(name: str) -> bool:
    """Whether a timm model is a ResNet."""
    return bool(is_model_in_modules(name, ("resnet",)))


@lru_cache(maxsize=64)
def feature_maps(name: str) -> FeatureMaps:
    """The feature maps of a timm model.

    Raises:
        InputError: timm has no such model, or it returns no maps.
    """
    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name[:6]}*")[:8]) or ", ".join(timm.list_models("resnet*")[:8])
        raise InputError(f"--encoder.name {name}: timm has no such model; similar names: {near}")
    if is_resnet(name):
        return FeatureMaps(has_maps=True)
    try:
        with seeded(0, "feature maps"), torch.no_grad(), torch.device("meta"):  # sizes without values
            try:
                network, any_size = timm.create_model(name, num_classes=0, dynamic_img_size=True), True
            except TypeError:
                network, any_size = timm.create_model(name, num_classes=0), False
            shape = _shape_of_features(network.eval())
    except ERRORS as error:
        raise InputError(f"--encoder.name {name}: timm cannot build it ({one_line(error)}); use {EXAMPLES}") from error
    has_maps = len(shape) == 4 and shape[1] == network.num_features
    if not has_maps and not hasattr(network, "forward_intermediates"):
        raise InputError(f"--encoder.name {name}: has no feature maps; use {EXAMPLES}")
    strides = tuple(int(info["reduction"]) for info in getattr(network, "feature_info", ()))
    return FeatureMaps(has_maps=has_maps, strides=strides, any_size=any_size)


def _shape_of_features(network: nn.Module) -> tuple[int, ...]:
    model = cast(Any, network)
    found = model.forward_features(torch.empty(1, *model.pretrained_cfg["input_size"]))
    return tuple(found.shape) if isinstance(found, torch.Tensor) else ()


def timm_options(recipe: Encoder, bands: int) -> dict[str, Any]:
    """Arguments of `timm.create_model` besides the name and `num_classes=0`.

    Raises:
        InputError: timm has no such model, or the model cannot have this width, stride or number of stages.
    """
    options: dict[str, Any] = {"in_chans": bands} if bands != 3 else {}
    model = feature_maps(recipe.name)
    if not is_resnet(recipe.name) and recipe.slim != 1:
        raise InputError(f"--encoder.slim {recipe.slim:g}: {recipe.name} is no ResNet; use --encoder.slim 1")
    if not model.has_maps:
        return options | _options_of_transformer(recipe, model)
    if model.any_size:
        options["dynamic_img_size"] = True
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


def _options_of_transformer(recipe: Encoder, model: FeatureMaps) -> dict[str, Any]:
    """Patches of the size of the stride for models with a single stride (ViT), first stages for the others (Swin)."""
    options: dict[str, Any] = {"dynamic_img_size": True} if model.any_size else {}
    if len(set(model.strides)) == 1:
        if recipe.stages < STAGES:
            raise InputError(
                f"--encoder.name {recipe.name} cannot be cut after {recipe.stages} stages, because all its maps have "
                f"one stride: use --encoder.stages {STAGES}"
            )
        if recipe.output_stride != model.strides[0]:
            options["patch_size"] = recipe.output_stride
        return options
    strides, last = model.strides[-STAGES:], recipe.stages - STAGES - 1  # counted from the end, as below
    if -last > len(strides):
        raise InputError(
            f"--encoder.stages {recipe.stages}: {recipe.name} has only {len(strides)} stages; use {STAGES}"
        )
    if recipe.output_stride != (own := strides[last]):
        raise InputError(
            f"--encoder.output-stride {recipe.output_stride}: the map of {recipe.name} has stride {own} after "
            f"{recipe.stages} stages; use --encoder.output-stride {own}, or other --encoder.stages (strides "
            f"{', '.join(map(str, strides))})"
        )
    if recipe.stages < STAGES:
        options |= {"features_only": True, "feature_cls": "getter", "out_indices": (last,)}
    return options
