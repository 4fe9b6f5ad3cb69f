"""From the CPU to the device of the data: all that a step sends goes in one copy, for which the host does not wait."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

_ALIGNED = 16  # bytes; kernels read as many at once

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, kw_only=True, eq=False)
class Filled:
    """A large tensor that does not exist yet: it is written once, into the memory from which it is sent."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    fill: Callable[[Tensor], None]
    """Writes a tensor on the CPU with this shape and dtype."""

    @property
    def nbytes(self) -> int:
        """Its size."""
        return torch.Size(self.shape).numel() * self.dtype.itemsize


Content = Tensor | Filled | None
"""What can be sent; None arrives as None."""


class Packed(Generic[T]):
    """A transfer that is ready to be sent: on the way to a GPU, everything is in one block of pinned memory.

    Each copy costs a GPU some microseconds, and one from memory that is not pinned may wait for the work before it.
    """

    def __init__(self, device: torch.device, contents: Sequence[Content], make: Callable[..., T]) -> None:
        """Write the block. If the device is the CPU, the contents stay where they are."""
        self._device, self._contents, self._make = device, contents, make
        self._lengths = [0 if one is None else -(-one.nbytes // _ALIGNED) * _ALIGNED for one in contents]
        self.block: Tensor | None = None
        if device.type == "cuda" and any(self._lengths):
            self.block = torch.empty(sum(self._lengths), dtype=torch.uint8, pin_memory=True)
            for place, one in zip(self.parts(self.block), contents, strict=True):
                if isinstance(one, Filled):
                    one.fill(place)
                elif one is not None:
                    place.copy_(one)

    @property
    def ahead(self) -> bool:
        """Whether it takes so long to write that the next one should be written meanwhile."""
        return self.block is not None and any(isinstance(one, Filled) for one in self._contents)

    def sent(self) -> T:
        """Send everything, and let the device make what it is for."""
        if self.block is not None:
            return self.made(self.block.to(self._device, non_blocking=True))
        contents = []
        for one in self._contents:
            if isinstance(one, Filled):
                made = torch.empty(one.shape, dtype=one.dtype)
                one.fill(made)
                one = made
            contents.append(None if one is None else one.to(self._device))
        return self._make(*contents)

    def made(self, block: Tensor) -> T:
        """What the device makes of the block, which is there already. Its parts are not to be changed."""
        return self._make(*self.parts(block))

    def parts(self, block: Tensor) -> list[Any]:
        """Parts of the block with the dtypes and shapes of the contents."""
        return [
            None if one is None else part[: one.nbytes].view(one.dtype).view(one.shape)
            for part, one in zip(block.split(self._lengths), self._contents, strict=True)
        ]


@dataclass(frozen=True, eq=False)
class Transfer(Generic[T]):
    """What the device makes from contents that the host sends, such as a batch of images from their numbers."""

    device: torch.device
    contents: Sequence[Content]
    make: Callable[..., T]
    """Called with the contents on the device."""

    def then(self, function: Callable[[T], U]) -> "Transfer[U]":
        """A transfer of which the device makes more."""
        return Transfer(self.device, self.contents, lambda *sent: function(self.make(*sent)))

    def packed(self) -> Packed[T]:
        """Ready to be sent."""
        return Packed(self.device, self.contents, self.make)

    def sent(self) -> T:
        """Send it now."""
        return self.packed().sent()


def together(*transfers: Transfer[Any]) -> Transfer[list[Any]]:
    """One transfer of several, of which the device makes all that they are for."""

    def make(*sent: Any) -> list[Any]:
        rest = iter(sent)
        return [transfer.make(*islice(rest, len(transfer.contents))) for transfer in transfers]

    return Transfer(transfers[0].device, [one for transfer in transfers for one in transfer.contents], make)


def send(device: torch.device, *contents: Content) -> list[Any]:
    """The contents on the device, None for None. On a GPU they are parts of one block, which are not to be changed."""
    return Transfer(device, contents, lambda *sent: list(sent)).sent()
