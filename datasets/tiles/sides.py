"""The two sides of all tiles of a store, images or masks, of which batches come to a device."""

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Int64, Shaped
from torch import Tensor

from datasets.transfer import send

KEPT = 0.2
"""Share of a GPU's free memory that the arrays of both sides may take to be kept there."""


class Sides:
    """The first and the second side, each an array (tiles, h, w, ...). A GPU keeps both if they are small enough."""

    def __init__(self, first: Callable[[], np.ndarray], second: Callable[[], np.ndarray], device: torch.device) -> None:
        """Functions that open the arrays, which both have one shape and dtype; a side is opened when it is needed."""
        self._open, self.device = (first, second), device

    def take(self, rows: Int64[np.ndarray, " n"], second: Bool[np.ndarray, " n"]) -> Shaped[Tensor, "n ..."]:
        """Rows of the second side where `second` is true, else of the first; on the device. uint16 becomes int32."""
        if self.device.type != "cuda":
            found = self._gathered(rows, second)
            # torch supports few operations on uint16.
            return torch.from_numpy(found.astype(np.int32) if found.dtype == np.uint16 else found)
        if self._on_gpu is None:
            return _unsigned(self._pinned(rows, second).to(self.device, non_blocking=True))
        (index,) = send(self.device, torch.from_numpy(rows + len(self._on_gpu) // 2 * second))
        return _unsigned(self._on_gpu[index])

    def _gathered(
        self, rows: Int64[np.ndarray, " n"], second: Bool[np.ndarray, " n"]
    ) -> Shaped[np.ndarray, "n ..."]:
        if second.all() or not second.any():
            return np.take(self._open[int(second.all())](), rows, axis=0)
        first, other = (make() for make in self._open)
        result = np.empty((len(rows), *first.shape[1:]), first.dtype)
        for array, chosen in ((first, ~second), (other, second)):
            result[chosen] = array[rows[chosen]]
        return result

    def _pinned(self, rows: Int64[np.ndarray, " n"], second: Bool[np.ndarray, " n"]) -> Shaped[Tensor, "n ..."]:
        """Rows in pinned memory, each copied once: a GPU reads from there without a wait."""
        arrays = {int(side): self._open[int(side)]() for side in np.unique(second)}
        one = _signed(np.empty_like(next(iter(arrays.values()))[:1]))
        block = torch.from_numpy(one).new_empty((len(rows), *one.shape[1:]), pin_memory=True)
        for place, row, side in zip(block.numpy(), rows, second, strict=True):
            place[...] = _signed(arrays[int(side)][row])
        return block

    @cached_property
    def _on_gpu(self) -> Tensor | None:
        """All tiles of the first side, then those of the second; None if they are too large."""
        arrays = [make() for make in self._open]
        if sum(array.nbytes for array in arrays) > KEPT * torch.cuda.mem_get_info(self.device)[0]:
            return None
        parts = [part for array in arrays for part in np.array_split(_signed(array), len(array) // 256 + 1)]
        shape, dtype = (2 * len(arrays[0]), *arrays[0].shape[1:]), torch.from_numpy(parts[0][:0].copy()).dtype
        both = torch.empty(shape, dtype=dtype, device=self.device)
        for place, part in zip(both.split([len(part) for part in parts]), parts, strict=True):
            place.copy_(torch.from_numpy(part.copy()))
        return both


def _signed(array: np.ndarray) -> np.ndarray:
    """The same bits in a type that torch can index: uint16 becomes int16."""
    return array.view(np.int16) if array.dtype == np.uint16 else array


def _unsigned(values: Tensor) -> Tensor:
    """Undo `_signed`."""
    return values.int().bitwise_and_(0xFFFF) if values.dtype == torch.int16 else values
