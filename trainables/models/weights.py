"""Weights from a file: safetensors, or a state dictionary that is read without running anything in it."""

import json
import pickle
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from timm.models import load_state_dict
from torch import Tensor, nn

from datasets.errors import InputError, one_line
from trainables.engine import PLAIN, Engine
from trainables.models.encoders import Backbone, check_map, make_encoder, timm_network
from trainables.recipe import Encoder

State = Mapping[str, Tensor]
"""The names of weights, and the weights."""


def read_weights(path: Path) -> State:
    """The named weights in a file: safetensors by its suffix, otherwise written by `torch.save`.

    timm's reader also finds the weights in checkpoints of a training (`state_dict`, `model`). Only tensors are
    unpickled.

    Raises:
        InputError: the file cannot be read, or does not hold named weights.
    """
    try:
        state = load_state_dict(str(path), weights_only=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or 'no such file'})") from error
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError, SafetensorError) as error:
        raise InputError(
            f"{path}: is not a file of weights written by torch.save or safetensors, or cannot be read safely"
        ) from error
    except (AttributeError, TypeError) as error:  # timm cleans the names, of whatever it finds
        raise InputError(f"{path}: is not a state dictionary of named weights") from error
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


def load_weights(network: nn.Module, state: State) -> str:
    """Load weights with timm's names into an encoder's network. Those of its classifier and of later stages are left.

    Returns:
        What does not fit, in which case the network is unchanged; empty if all is loaded.
    """
    model = timm_network(network)
    found = _without_classifier(model, state)
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    problem = _misfit(model, found)
    if problem and convert:  # timm's conversion of the file that the authors of the model publish
        try:
            converted = _without_classifier(model, convert(dict(state), model))
        except Exception:  # its code expects that file and no other
            converted = found
        found = found if _misfit(model, converted) else converted
        problem = _misfit(model, found)
    if not problem and not any(weight.is_meta for weight in model.parameters()):
        model.load_state_dict(dict(_renamed(model, found)))
    return problem


def _normalisation(network: nn.Module, path: Path) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and standard deviation of the images for which the weights in a file were trained.

    They are in the metadata of an encoder of ours, otherwise in timm's description of the model. None: not known.
    """
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            facts = file.metadata() or {}
        if {"encoder", "mean", "std"} <= facts.keys():
            return tuple(json.loads(facts["mean"])), tuple(json.loads(facts["std"]))
    described: Mapping[str, Any] = cast(Any, timm_network(network)).pretrained_cfg
    return (tuple(described["mean"]), tuple(described["std"])) if "mean" in described else None


def pretrained_encoder(recipe: Encoder, weights: Path, engine: Engine = PLAIN, *, bands: int = 3) -> Backbone:
    """The encoder with the weights in a file, and the normalisation of images that belongs to them.

    Args:
        recipe: the encoder. Its random weights are drawn too, so that other random numbers stay the same.
        weights: the file.
        engine: how it is executed.
        bands: of the images.

    Raises:
        InputError: the file cannot be read, or its weights do not fit the encoder.
    """
    encoder = make_encoder(recipe, engine, bands=bands)
    _load_or_refuse(encoder.network, recipe, weights)
    known = _normalisation(encoder.network, weights)
    # Statistics of three bands say nothing about images of other bands.
    return Backbone(encoder.network, engine, *known) if known and len(known[0]) in (1, bands) else encoder


def check_encoder(
    recipe: Encoder, weights: Path | None = None, engine: Engine = PLAIN, *, bands: int = 3, size: int = 64
) -> None:
    """Check that an encoder can be built, returns maps of its stride, and takes the weights. Makes no random weights.

    Args:
        recipe: the encoder.
        weights: the file of its weights.
        engine: how it is executed.
        bands: of the images.
        size: side of the images in px.

    Raises:
        InputError: it cannot.
    """
    plain = replace(PLAIN, recompute=engine.recompute)
    with torch.no_grad(), torch.device("meta"):  # sizes without values
        encoder = make_encoder(recipe, plain, bands=bands).eval()
        check_map(recipe, encoder, bands=bands, size=size)
    if weights is not None:
        _load_or_refuse(encoder.network, recipe, weights)


def _load_or_refuse(network: nn.Module, recipe: Encoder, weights: Path) -> None:
    try:
        state = read_weights(weights)
    except InputError as error:
        raise InputError(f"--encoder.weights {error}") from error
    if problem := load_weights(network, state):
        raise InputError(
            f"--encoder.weights {weights}: does not fit {recipe.name} with these --encoder settings: {problem}"
        )


def _without_classifier(model: nn.Module, state: State) -> State:
    classifier = cast(Any, model).pretrained_cfg.get("classifier") or ()
    parts = tuple(f"{part}." for part in ((classifier,) if isinstance(classifier, str) else classifier))
    own = model.state_dict()
    return {name: value for name, value in state.items() if name in own or not name.startswith(parts)}


def _renamed(model: nn.Module, state: State) -> Iterable[tuple[str, Tensor]]:
    """The weights under the names that they have in the first stages of a model, or under their own."""
    own = model.state_dict()
    first_stages = not hasattr(model, "forward_features")
    for name, value in state.items():
        # timm joins `stages.0` to `stages_0`, or keeps the model as a part.
        known = next((one for one in (name, name.replace(".", "_", 1), f"model.{name}") if one in own), None)
        if known or not first_stages:
            yield known or name, value


def _misfit(model: nn.Module, state: State) -> str:
    """The weights that are missing, unexpected or of another shape."""
    own, found = model.state_dict(), dict(_renamed(model, state))
    shapes = [
        f"{name} {tuple(value.shape)} instead of {tuple(own[name].shape)}"
        for name, value in found.items()
        if name in own and value.shape != own[name].shape
    ]
    faults = (("missing", [*(own.keys() - found.keys())]), ("unexpected", [*(found.keys() - own.keys())]))
    parts = [f"{len(names)} {kind} ({_some(sorted(names))})" for kind, names in faults if names]
    return "; ".join([*parts, *([f"{len(shapes)} of another shape ({_some(shapes)})"] if shapes else [])])


def _some(names: list[str]) -> str:
    return one_line(", ".join(names[:3]) + (", ..." if len(names) > 3 else ""), most=160)
