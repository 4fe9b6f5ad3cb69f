"""Every random stream derives from (seed, purpose) and never from the cell: common random numbers.

Two cells of one seed have the same scenes, initial weights, batch order, pairing draws and augmentations, so that only
their coordinates can cause a difference. Streams for training are derived for each step, so that training can resume at
any step without a saved generator state.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from hashlib import blake2b

import torch
from jaxtyping import Int
from torch import Tensor


def derive(seed: int, *purpose: str | int) -> int:
    """A 63-bit integer for this seed and purpose; integers of other purposes are independent.

    >>> derive(0, "scenes train") == derive(0, "scenes train") != derive(0, "scenes val")
    True
    """
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def stream(seed: int, *purpose: str | int) -> torch.Generator:
    """A fresh CPU generator for this seed and purpose.

    It is always on the CPU, so that a run on a GPU uses the same random numbers.
    """
    return torch.Generator().manual_seed(derive(seed, *purpose))


@contextmanager
def seeded(seed: int, *purpose: str | int) -> Iterator[None]:
    """Seed torch's global generators inside the context and restore them afterwards.

    For library code that accepts no generator, such as weight initialisation and dropout.
    """
    with torch.random.fork_rng():
        torch.manual_seed(derive(seed, *purpose))
        yield


def batch_indices(seed: int, purpose: str, step: int, *, count: int, batch: int) -> Int[Tensor, " batch"]:
    """The images of a training step: a new permutation for each epoch, without the incomplete last batch."""
    epoch, position = divmod(step, count // batch)
    return _order(seed, purpose, epoch, count)[position * batch : (position + 1) * batch]


@lru_cache(maxsize=2)  # of pretraining and probe: the same order serves all steps of an epoch
def _order(seed: int, purpose: str, epoch: int, count: int) -> Int[Tensor, " count"]:
    return torch.randperm(count, generator=stream(seed, purpose, epoch))
