"""Features of a ResNet that keep little for the backward pass, which computes them again, block by block.

Every block sees the whole batch, so batch norms have the statistics of the whole batch, and the result is the same.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from datasets.errors import InputError

STAGE = "layer"
"""The names of a ResNet's stages begin with this."""


def features_again(network: nn.Module, images: Tensor) -> Tensor:
    """The features of a ResNet, as `features_of` returns them, kept only between blocks."""
    features = images
    for block in blocks(network):
        features = checkpoint(
            block, features, use_reentrant=False, context_fn=lambda block=block: (nullcontext(), _second_pass(block))
        )
    return features


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
    """Context manager in which the block's batch norms do not update their running statistics a second time."""
    norms = [part for part in block.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    updated = [norm.track_running_stats for norm in norms]
    try:
        for norm in norms:
            norm.track_running_stats = False
        yield
    finally:
        for norm, before in zip(norms, updated, strict=True):
            norm.track_running_stats = before
