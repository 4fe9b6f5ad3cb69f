"""Encoders as files, for other programs and for further probes: safetensors, with timm's parameter names."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import safetensors.torch
import torch

from datasets.errors import InputError, one_line
from datasets.files import write_atomically
from trainables.engine import PLAIN, Engine
from trainables.models.encoders import Backbone, make_encoder, timm_network
from trainables.models.feature_maps import timm_options
from trainables.recipe import Encoder
from trainables.weights_file import NO_WEIGHTS


def save_encoder(encoder: Backbone, path: Path, recipe: Encoder, *, bands: int = 3) -> None:
    """Write the encoder's network atomically; create the folder if needed.

    One line loads it into timm. For the plain ResNet-18:

        timm.create_model("resnet18", num_classes=0).load_state_dict(safetensors.torch.load_file(path))

    The metadata of the file describe other models:

    - `timm`: the name;
    - `options` (JSON): further arguments of `create_model`; empty for the plain model at output stride 32;
    - `map` (JSON): the call that returns the feature map of `images`;
    - `mean` and `std` (JSON): images in [0, 1] are normalised to (image - mean) / std;
    - `encoder` (JSON): our own settings.

    timm cannot build a changed stem (`small_stem` or no `stem_pool` in `encoder`): use
    `trainables.models.encoders.make_encoder`.

    Raises:
        OSError: it cannot be written.
    """
    tensors = {name: value.cpu().contiguous() for name, value in timm_network(encoder.network).state_dict().items()}
    metadata = {
        "timm": recipe.name,
        "options": json.dumps(timm_options(recipe, bands)),
        "map": json.dumps(_call(encoder)),
        "encoder": json.dumps(asdict(replace(recipe, weights=NO_WEIGHTS))),
        "mean": json.dumps(encoder.mean.flatten().tolist()),
        "std": json.dumps((1 / encoder.gain).flatten().tolist()),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, safetensors.torch.save(tensors, metadata))


def _call(encoder: Backbone) -> str:
    """The call that makes timm's model return the encoder's feature map."""
    if timm_network(encoder.network) is not encoder.network:
        return "model.forward_intermediates(images, indices=1, norm=True, intermediates_only=True)[0]"
    return "model.forward_features(images)" if hasattr(encoder.network, "forward_features") else "model(images)[-1]"


def load_encoder(path: Path, recipe: Encoder, engine: Engine = PLAIN, *, bands: int = 3) -> Backbone:
    """The encoder in a file of `save_encoder`, with the same features, bit for bit.

    Raises:
        InputError: the file cannot be read, or holds another encoder.
    """
    encoder = make_encoder(recipe, engine, bands=bands)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            timm_network(encoder.network).load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
            metadata = file.metadata()
    except (OSError, safetensors.SafetensorError, RuntimeError) as error:
        raise InputError(f"{path}: is not the file of this encoder ({one_line(error, most=200)})") from error
    encoder.mean.copy_(torch.tensor(json.loads(metadata["mean"]))[:, None, None])
    encoder.gain.copy_(1 / torch.tensor(json.loads(metadata["std"]))[:, None, None])
    return encoder
