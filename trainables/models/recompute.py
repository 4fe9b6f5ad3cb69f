"""Features of a ResNet that keep little for the backward pass, which computes them again, block by block.

Every block sees the whole batch, so batch norms have the statistics of the whole batch, and the result is the same.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from datasets.errors import InputError

STAGE = "layer"
"""The names of a ResNet's stages begin with this."""


def features_again(network: nn.Module, images: Tensor) -> Tensor:
    """The features of a ResNet, as `features_of` returns them, kept only between blocks."""
    features = images
    for block in blocks(network):
        passes = partial(_passes, block)
        features = checkpoint(block, features, use_reentrant=False, context_fn=passes)
    return features


def _passes(block: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Context managers of the first and the second pass."""
    return nullcontext(), _second_pass(block)


def blocks(network: nn.Module) -> Sequence[nn.Module]:
    """The stem, then all blocks of all stages.

    Raises:
        InputError: the network is no ResNet.
    """
    parts = dict(network.named_children())
    stages = [parts[name] for name in parts if name.startswith(STAGE)]
    stem = [part for name, part in parts.items() if name in ("conv1", "bn1", "act1", "maxpool")]
    if len(stem) < 4 or not stages:
        raise InputError("--engine.recompute: works only for ResNets")
    return [nn.Sequential(*stem), *(block for stage in stages for block in stage.children())]


@contextmanager
def _second_pass(block: nn.Module) -> Iterator[None]:
    """Context manager in which a block changes copies of its buffers: its batch norms have updated them already."""
    kept = [(part, name, buffer) for part in block.modules() for name, buffer in part.named_buffers(recurse=False)]
    for part, name, buffer in kept:
        setattr(part, name, buffer.clone())
    try:
        yield
    finally:
        for part, name, buffer in kept:
            setattr(part, name, buffer)
