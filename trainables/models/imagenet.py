"""The baseline `imagenet`: torchvision's weights in our encoder."""

import os
from pathlib import Path
from urllib.parse import urlparse

import torch

from datasets.errors import InputError
from trainables.engine import PLAIN, Engine
from trainables.models.encoders import Backbone, make_encoder
from trainables.models.weights import load_weights, read_weights
from trainables.recipe import Encoder

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Statistics of the images that torchvision's ImageNet weights were trained on, RGB in [0, 1]."""


def imagenet_encoder(recipe: Encoder, weights: Path, engine: Engine = PLAIN, *, bands: int = 3) -> Backbone:
    """The encoder with torchvision's ImageNet weights and the matching normalisation of images.

    Args:
        recipe: a model that torchvision has too, at full width with its standard stem. Its output stride is free.
        weights: file with a state dictionary. Only tensors are unpickled.
        engine: how it is executed.
        bands: of the images; must be 3.

    Raises:
        InputError: the file cannot be read, or its weights do not fit the encoder.
    """
    encoder = make_encoder(recipe, engine, bands=bands)
    if problem := load_weights(encoder.network, read_weights(weights)):
        raise InputError(
            f"baseline imagenet: the weights in {weights} do not fit {recipe.name} with these settings ({problem}): "
            "use --encoder.slim 1, the standard stem and images of 3 bands, or leave imagenet out of --losses"
        )
    return Backbone(encoder.network, engine, IMAGENET_MEAN, IMAGENET_STD)


def weights_file(recipe: Encoder, given: Path | None, *, download: bool) -> Path:
    """The file with torchvision's ImageNet weights for this encoder: the given one, or the one in torch's cache.

    Args:
        recipe: names the model.
        given: a file of the user, which takes precedence.
        download: whether torch may download a missing file.

    Raises:
        InputError: there is no such file, torchvision has no weights of that name, or the download fails.
    """
    from torchvision import models  # here, because importing it takes seconds

    if given is not None:
        if not given.is_file():
            raise InputError(f"--imagenet-weights {given}: no such file")
        return given
    try:
        weights = models.get_model_weights(recipe.name).IMAGENET1K_V1
    except (ValueError, AttributeError) as error:
        raise InputError(
            f"baseline imagenet: torchvision has no ImageNet weights for {recipe.name}; name a file with "
            "--imagenet-weights, or leave imagenet out of --losses"
        ) from error
    kept = Path(torch.hub.get_dir()) / "checkpoints" / os.path.basename(urlparse(weights.url).path)
    if not kept.is_file() and not download:
        raise InputError(
            f"baseline imagenet: torchvision's weights are not on this machine ({kept}): add --download, or "
            f"download {weights.url} and name the file with --imagenet-weights"
        )
    if not kept.is_file():
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            # The file's name ends with the first digits of its SHA-256.
            torch.hub.download_url_to_file(weights.url, str(kept), kept.stem.rsplit("-", 1)[-1], progress=False)
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:160]
            raise InputError(
                f"baseline imagenet: the download of {weights.url} failed ({reason}); try again, name a file with "
                "--imagenet-weights, or leave imagenet out of --losses"
            ) from error
    return kept
