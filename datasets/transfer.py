"""From the CPU to the device of the data: many small tensors in one copy, for which the host does not wait."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_ALIGNED = 16  # bytes; kernels read as many at once


def send(device: torch.device, *tensors: Tensor | None) -> list[Any]:
    """The tensors on the device, None for None. On a GPU they are parts of one block, which are not to be changed.

    Each copy costs a GPU some microseconds, and one from memory that is not pinned may wait for the work before it.

    Args:
        device: where they go; if it is the CPU, the tensors themselves are returned.
        tensors: on the CPU.
    """
    if device.type != "cuda":
        return [None if tensor is None else tensor.to(device) for tensor in tensors]
    lengths = [0 if tensor is None else -(-tensor.nbytes // _ALIGNED) * _ALIGNED for tensor in tensors]
    block = torch.empty(sum(lengths), dtype=torch.uint8, pin_memory=True)
    for place, tensor in zip(_parts(block, lengths, tensors), tensors, strict=True):
        if tensor is not None:
            place.copy_(tensor)
    return _parts(block.to(device, non_blocking=True), lengths, tensors)


def _parts(block: Tensor, lengths: list[int], tensors: Sequence[Tensor | None]) -> list[Any]:
    """Parts of the block with the dtypes and shapes of the tensors."""
    return [
        None if tensor is None else part[: tensor.nbytes].view(tensor.dtype).view(tensor.shape)
        for part, tensor in zip(block.split(lengths), tensors, strict=True)
    ]
