"""8-bit values become the same numbers on every device."""

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from datasets.dataset import from_bytes


class Divisors(TorchDispatchMode):
    """Collects the devices of all divisors, None for a number of Python's."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "div" in func.name():
            self.seen.append(getattr(args[1], "device", None))
        return func(*args, **(kwargs or {}))


def test_all_values_are_divided_as_numpy_divides_them():
    pixels = torch.arange(256, dtype=torch.uint8)
    assert np.array_equal(from_bytes(pixels).numpy(), np.arange(256, dtype=np.float32) / np.float32(255))


def test_the_divisor_is_on_the_device_of_the_images_because_cuda_does_not_divide_by_one_on_the_host():
    with Divisors() as divisors:
        from_bytes(torch.zeros(2, 3, 4, 4, dtype=torch.uint8, device="meta"))
    assert [device.type for device in divisors.seen] == ["meta"]
