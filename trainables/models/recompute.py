"""Features that keep little for the backward pass, which computes them again, block by block.

Every block sees the whole batch, so batch norms have the statistics of the whole batch, and the result is the same.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm  # of 1, 2 and 3 dimensions
from torch.utils.checkpoint import checkpoint

from datasets.errors import InputError

STEM = ("conv1", "bn1", "act1", "maxpool")
"""The parts of a ResNet's stem."""
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
    """The stem of a ResNet, then all blocks of all stages."""
    parts = dict(network.named_children())
    stem = [part for name, part in parts.items() if name in STEM]
    stages = [part for name, part in parts.items() if name.startswith(STAGE)]
    return [nn.Sequential(*stem), *(block for stage in stages for block in stage.children())]


def is_resnet(network: nn.Module) -> bool:
    """Whether the network has the parts of a ResNet, or of its first stages."""
    names = [name for name, _ in network.named_children()]
    return set(STEM) <= set(names) and any(name.startswith(STAGE) for name in names)


def recompute_blocks(network: nn.Module) -> None:
    """Let timm compute the blocks of a network that is no ResNet again in the backward pass.

    Raises:
        InputError: it cannot, or would update the running statistics of batch norms twice.
    """
    model: Any = getattr(network, "model", network)  # of a `FeatureGetterNet`
    if not hasattr(model, "set_grad_checkpointing") or any(isinstance(part, BatchNorm) for part in model.modules()):
        raise InputError("--engine.recompute: works only for ResNets and for models without batch norm, such as ViT")
    model.set_grad_checkpointing()


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
