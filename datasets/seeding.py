"""Every random stream derives from (seed, purpose) and never from the cell: common random numbers.

Two cells of one seed see the same scenes, initial weights, batch order, pairing draws and augmentations, so that
their difference is due to what the cells differ in. A stream that is used over steps is derived anew for each step:
nothing has to be remembered to go on from step 1,000.
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

    Always on the CPU, where the draws are few numbers an image: so a GPU sees the same draws.
    """
    return torch.Generator().manual_seed(derive(seed, *purpose))


@contextmanager
def seeded(seed: int, *purpose: str | int) -> Iterator[None]:
    """Fix torch's global streams inside, and restore them after.

    For library code that takes no generator: weight initialisation and dropout.
    """
    with torch.random.fork_rng():
        torch.manual_seed(derive(seed, *purpose))
        yield


def batch_indices(seed: int, purpose: str, step: int, *, count: int, batch: int) -> Int[Tensor, " batch"]:
    """The images of training step `step`: a new permutation of `count` for each epoch, the odd rest dropped."""
    epoch, position = divmod(step, count // batch)
    order = torch.randperm(count, generator=stream(seed, purpose, epoch))
    return order[position * batch : (position + 1) * batch]
