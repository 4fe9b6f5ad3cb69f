"""Every random stream derives from (seed, purpose) and never from the cell: common random numbers.

Two cells of one seed see the same scenes, initial weights, batch order, pairing draws and augmentations, so that
nothing but their coordinates can cause a difference. A stream that is used over steps is derived anew for each step,
so training can resume at any step without a saved generator state.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

import torch
from jaxtyping import Int
from torch import Tensor


def derive(seed: int, *purpose: str | int) -> int:
    """A 63-bit integer for this seed and purpose; other purposes give independent ones.

    >>> derive(0, "scenes train") == derive(0, "scenes train") != derive(0, "scenes val")
    True
    """
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def stream(seed: int, *purpose: str | int) -> torch.Generator:
    """A fresh CPU generator for this seed and purpose.

    It is always on the CPU, so that a GPU run uses the same random numbers.
    """
    return torch.Generator().manual_seed(derive(seed, *purpose))


@contextmanager
def seeded(seed: int, *purpose: str | int) -> Iterator[None]:
    """Seed torch's global generators inside the context and restore them afterwards.

    For library code that takes no generator, such as weight initialisation and dropout.
    """
    with torch.random.fork_rng():
        torch.manual_seed(derive(seed, *purpose))
        yield


def batch_indices(seed: int, purpose: str, step: int, *, count: int, batch: int) -> Int[Tensor, " batch"]:
    """The images of training step `step`: a new permutation each epoch, the incomplete last batch dropped."""
    epoch, position = divmod(step, count // batch)
    order = torch.randperm(count, generator=stream(seed, purpose, epoch))
    return order[position * batch : (position + 1) * batch]
