"""The baseline `imagenet`: torchvision's weights in our encoder."""

import hashlib
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlparse

import torch

from datasets.errors import InputError
from trainables.engine import PLAIN, Engine
from trainables.models.encoders import Backbone, make_encoder
from trainables.recipe import STAGES, Encoder

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
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{weights}: cannot be read ({error.strerror or error})") from error
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise InputError(
            f"{weights}: is not a file of weights written by torch.save, or cannot be read safely"
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        raise InputError(f"{weights}: contains {type(state).__name__}, not a state dictionary of named weights")
    found = {name: value for name, value in state.items() if not name.startswith("fc.")}
    if recipe.stages < STAGES:
        found = {name: value for name, value in found.items() if name in encoder.network.state_dict()}
    try:
        encoder.network.load_state_dict(found)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"baseline imagenet: the weights in {weights} do not fit {recipe.name} with these settings ({reason}): "
            "use --encoder.slim 1, the standard stem and images of 3 bands, or leave imagenet out of --losses"
        ) from error
    return Backbone(encoder.network, engine, IMAGENET_MEAN, IMAGENET_STD)


def file_digest(path: Path) -> str:
    """Hash of a file's contents, 16 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()


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
