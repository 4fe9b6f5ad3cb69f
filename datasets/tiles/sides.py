"""The two sides of all tiles of a store, images or masks, of which batches come to a device."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Int64, Shaped
from torch import Tensor

from datasets.transfer import send

KEPT = 0.1
"""Share of a GPU's free memory that the array of a side may take to be kept there."""


class Sides:
    """The first and the second side, each an array (tiles, h, w, ...). A GPU keeps one if it is small enough."""

    def __init__(self, first: Callable[[], np.ndarray], second: Callable[[], np.ndarray], device: torch.device) -> None:
        """Functions that open the arrays, which both have one shape and dtype; a side is opened when it is needed."""
        self._open, self.device = (first, second), device
        self._kept: dict[int, Tensor | None] = {}

    def take(self, rows: Int64[np.ndarray, " n"], second: Bool[np.ndarray, " n"]) -> Shaped[Tensor, "n ..."]:
        """Rows of the second side where `second` is true, else of the first; on the device. uint16 becomes int32."""
        used = [side for side, needed in enumerate((not second.all(), bool(second.any()))) if needed] or [1]
        if self.device.type != "cuda":
            found = self._gathered(used, rows, second)
            # torch supports few operations on uint16.
            return torch.from_numpy(found.astype(np.int32) if found.dtype == np.uint16 else found)
        kept = [one for side in used if (one := self._on_gpu(side)) is not None]
        if len(kept) < len(used):
            return _unsigned(self._pinned(rows, second).to(self.device, non_blocking=True))
        index, which = send(self.device, torch.from_numpy(rows), torch.from_numpy(second))
        chosen = [one[index] for one in kept]
        if len(chosen) == 1:
            return _unsigned(chosen[0])
        return _unsigned(torch.where(which.view(-1, *[1] * (chosen[0].ndim - 1)), chosen[1], chosen[0]))

    def _gathered(
        self, used: list[int], rows: Int64[np.ndarray, " n"], second: Bool[np.ndarray, " n"]
    ) -> Shaped[np.ndarray, "n ..."]:
        if len(used) == 1:
            return np.take(self._open[used[0]](), rows, axis=0)
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

    def _on_gpu(self, side: int) -> Tensor | None:
        if side not in self._kept:
            array = self._open[side]()
            fits = array.nbytes <= KEPT * torch.cuda.mem_get_info(self.device)[0]
            parts = np.array_split(array, len(array) // 256 + 1) if fits else []
            moved = [torch.from_numpy(_signed(np.array(part))).to(self.device) for part in parts]
            self._kept[side] = torch.cat(moved) if fits else None
        return self._kept[side]


def _signed(array: np.ndarray) -> np.ndarray:
    """The same bits in a type that torch can index: uint16 becomes int16."""
    return array.view(np.int16) if array.dtype == np.uint16 else array


def _unsigned(values: Tensor) -> Tensor:
    """Undo `_signed`."""
    return values.int().bitwise_and_(0xFFFF) if values.dtype == torch.int16 else values
