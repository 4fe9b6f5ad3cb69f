"""The two sides of all tiles of a store, images or masks, of which batches come to a device."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Int64, Shaped
from torch import Tensor

from datasets.errors import InputError
from datasets.transfer import Filled, Transfer

KEPT = 0.2
"""Share of a GPU's free memory that the arrays of both sides may take to be kept there."""


class Sides:
    """The first and the second side, each an array (tiles, h, w, ...). A GPU keeps both if they are small enough."""

    def __init__(self, first: Callable[[], np.ndarray], second: Callable[[], np.ndarray], device: torch.device) -> None:
        """Functions that open the arrays, which both have one shape and dtype; a side is opened when it is needed."""
        self._open, self.device = (first, second), device

    def transfer(
        self, rows: Int64[np.ndarray, " n"], second: Bool[np.ndarray, " n"]
    ) -> Transfer[Shaped[Tensor, "n ..."]]:
        """Rows of the second side where `second` is true, else of the first. uint16 becomes int32."""
        # Plain arrays, of which a row is found faster than of memory-mapped ones.
        arrays = {int(side): np.asarray(self._open[int(side)]()) for side in np.unique(second)}
        if self.device.type == "cuda" and self._on_gpu:
            tiles, starts = self._on_gpu
            index = torch.from_numpy(rows + np.where(second, starts[1], starts[0]))
            return Transfer(self.device, [index], lambda index: _unsigned(tiles[index]))
        one = next(iter(arrays.values()))

        def shown() -> Iterator[np.ndarray]:
            return (arrays[int(side)][row] for row, side in zip(rows, second, strict=True))

        return written(self.device, (len(rows), *one.shape[1:]), one.dtype, shown)

    @cached_property
    def _on_gpu(self) -> tuple[Tensor, list[int]] | None:
        """The tiles of both sides in one tensor, and where each side starts; None if they are too large."""
        arrays: list[np.ndarray] = []
        starts = []
        for make in self._open:
            starts.append(len(arrays[0]) if arrays else 0)
            with suppress(InputError):  # a side without masks is never asked for
                arrays.append(_signed(make()))
        if sum(array.nbytes for array in arrays) > KEPT * torch.cuda.mem_get_info(self.device)[0]:
            return None
        shape, dtype = (sum(map(len, arrays)), *arrays[0].shape[1:]), torch.from_numpy(arrays[0][:0].copy()).dtype
        tiles = torch.empty(shape, dtype=dtype, device=self.device)
        parts = [part for array in arrays for part in np.array_split(array, len(array) // 256 + 1)]
        for place, part in zip(tiles.split([len(part) for part in parts]), parts, strict=True):
            place.copy_(torch.from_numpy(part.copy()))
        return tiles, starts


def written(
    device: torch.device, shape: tuple[int, ...], kind: np.dtype, rows: Callable[[], Iterable[np.ndarray]]
) -> Transfer[Shaped[Tensor, "n ..."]]:
    """Rows of arrays of a dtype, written once into the memory from which they are sent. uint16 becomes int32."""

    def fill(place: Tensor) -> None:
        target = place.numpy() if place.dtype != torch.int16 else place.numpy().view(np.uint16)
        for part, row in zip(target, rows(), strict=True):
            part[...] = row

    wide = kind == np.uint16 and device.type != "cuda"
    dtype = torch.int32 if wide else torch.from_numpy(_signed(np.empty(0, kind))).dtype
    return Transfer(device, [Filled(shape=shape, dtype=dtype, fill=fill)], _unsigned)


def _signed(array: np.ndarray) -> np.ndarray:
    """The same bits in a type that torch can index: uint16 becomes int16."""
    return array.view(np.int16) if array.dtype == np.uint16 else array


def _unsigned(values: Tensor) -> Tensor:
    """Undo `_signed`, because torch supports few operations on uint16."""
    return values.int().bitwise_and_(0xFFFF) if values.dtype == torch.int16 else values
