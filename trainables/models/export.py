"""Export a cell's encoder for other programs: safetensors, with timm's parameter names."""

import json
from dataclasses import asdict
from pathlib import Path

import safetensors.torch

from datasets.files import write_atomically
from trainables.models.encoders import Backbone, timm_options
from trainables.recipe import Encoder


def save_encoder(encoder: Backbone, path: Path, recipe: Encoder, *, bands: int = 3) -> None:
    """Write the encoder's network, completely or not at all; makes the folder.

    One line loads it into timm; for the plain ResNet-18:

        timm.create_model("resnet18", num_classes=0).load_state_dict(safetensors.torch.load_file(path))

    The file's metadata say how else the model must be made: `timm` (its name), `options` (JSON: further arguments
    of `create_model`; empty for the plain model at output stride 32), `mean` and `std` (JSON: images in [0, 1] are
    brought to (image - mean) / std), and `encoder` (JSON: our own settings). A stem that timm cannot make
    (`small_stem`, `stem_pool` false in `encoder`) is made by `trainables.models.encoders.make_encoder`.

    Raises:
        OSError: it cannot be written.
    """
    tensors = {name: value.cpu().contiguous() for name, value in encoder.network.state_dict().items()}
    metadata = {
        "timm": recipe.name,
        "options": json.dumps(timm_options(recipe, bands)),
        "encoder": json.dumps(asdict(recipe)),
        "mean": json.dumps(encoder.mean.flatten().tolist()),
        "std": json.dumps((1 / encoder.gain).flatten().tolist()),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, safetensors.torch.save(tensors, metadata))
