"""A pretended CUDA device: tensors that say they are on it, while their values are computed on the CPU.

It counts, by line of ours, what a GPU would be asked to do: launches, copies, waits of the host for the device, and
operations that mix devices. Composite operations are split as on a CPU, so the number of launches is that of a GPU to a
few per cent.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

DEVICE = torch.device("cuda", 0)
ROOT = Path(__file__).parents[2]
OURS = tuple(str(ROOT / package) for package in ("datasets", "trainables"))

READS = {"_local_scalar_dense", "is_nonzero", "equal", "allclose"}
"""Operations that tell the host a value."""
DYNAMIC = {"nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "bincount", "repeat_interleave"}
"""Operations whose result has a size that only the device knows."""
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}
COPIES = {"_to_copy", "copy_"}
FREE = {
    *("view", "_unsafe_view", "t", "transpose", "permute", "expand", "select", "slice", "unsqueeze", "squeeze"),
    *("detach", "alias", "as_strided", "split", "split_with_sizes", "unbind", "narrow", "diagonal", "unfold"),
    *("_reshape_alias", "lift_fresh", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"),
    *("is_pinned", "resize_", "set_"),
}
"""Operations without a kernel."""


class OnDevice(torch.Tensor):
    """A tensor that says it is on the pretended device."""

    value: torch.Tensor

    @staticmethod
    def __new__(cls, value: torch.Tensor) -> "OnDevice":
        """To C++ it is a tensor on the CPU, so that autograd and autocast work without a driver."""
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            value.size(),
            strides=value.stride(),
            storage_offset=value.storage_offset(),
            dtype=value.dtype,
            device=value.device,
        )
        made.value = value.detach()
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl
    device = DEVICE
    is_cuda = True
    is_cpu = False

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} outside of `pretended_cuda`")

    def to(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Copies to the CPU, which C++ takes for no copy at all, wait for the device."""
        device = kwargs.get("device", next((arg for arg in args if isinstance(arg, str | torch.device)), DEVICE))
        if torch.device(device).type == "cuda":
            return super().to(*args, **kwargs)
        _card().note("waits", "copy to the CPU")
        return self.value.clone().to(*args, **kwargs)

    def cpu(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return self.to("cpu")

    def tolist(self) -> Any:
        return self.to("cpu").tolist()

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("a tensor on a GPU is no NumPy array")


class Card(TorchDispatchMode):
    """The pretended device. Its counters have what happened since the last `reset`."""

    def __init__(self) -> None:
        super().__init__()
        self.pinned: set[int] = set()
        self.reset()

    def reset(self) -> None:
        """Forget what was counted."""
        self.launches: Counter[str] = Counter()
        self.copies: Counter[str] = Counter()
        self.unpinned: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        self.mixtures: Counter[str] = Counter()
        self.trace: list[tuple[Any, ...]] = []
        """Each operation with a kernel, with the shapes of its tensors and its other arguments."""

    def note(self, counter: str, what: str) -> None:
        """Count what happens at the innermost line of ours."""
        getattr(self, counter)[f"{what}: {line_of_ours()}"] += 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = func._schema.name.split("::")[1]
        if name == "is_pinned":
            return args[0].untyped_storage().data_ptr() in self.pinned
        if name == "_pin_memory":
            return self.pin(args[0].clone())
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        here = [tensor for tensor in tensors if isinstance(tensor, OnDevice)]
        elsewhere = [tensor for tensor in tensors if not isinstance(tensor, OnDevice)]
        device = kwargs.get("device")
        arrives = device is not None and torch.device(device).type == "cuda"
        if not here and not arrives:
            return func(*args, **kwargs)
        if name not in FREE:
            self._look_at(name, args, kwargs, here, elsewhere)
        if arrives:
            kwargs["device"] = torch.device("cpu")
        result = func(*tree_map_only(OnDevice, _value, args), **tree_map_only(OnDevice, _value, kwargs))
        if name.endswith("_") and isinstance(args[0], torch.Tensor):
            return args[0]
        same = {id(tensor.value): tensor for tensor in here}
        return tree_map_only(torch.Tensor, lambda made: same.get(id(made)) or OnDevice(made), result)

    def _look_at(self, name: str, args: Any, kwargs: Any, here: list[Any], elsewhere: list[torch.Tensor]) -> None:
        """Count an operation that has a kernel or copies."""
        if name in COPIES and elsewhere:
            self.note("copies", name)
            source = args[1] if name == "copy_" else args[0]
            if not (args[2] if len(args) > 2 else kwargs.get("non_blocking", False)):
                self.note("waits", "blocking copy")
            elif source.numel() and source.untyped_storage().data_ptr() not in self.pinned:
                self.note("unpinned", f"{source.numel() * source.element_size()} bytes")
            return
        self.note("launches", name)
        self.trace.append((name, *_shapes(args), *sorted(_shapes(kwargs).items())))
        # A tensor without dimensions on the CPU is an argument of the kernel.
        if here and any(tensor.dim() for tensor in elsewhere):
            self.note("waits" if name in INDEXING else "mixtures", f"{name} with a tensor on the CPU")
        masks = (torch.bool, torch.uint8)
        if name in READS | DYNAMIC:
            self.note("waits", name)
        if name in INDEXING and any(index is not None and index.dtype in masks for index in args[1]):
            self.note("waits", f"{name} by a mask")

    def pin(self, tensor: torch.Tensor) -> torch.Tensor:
        """From now on, the tensor's memory counts as pinned."""
        self.pinned.add(tensor.untyped_storage().data_ptr())
        return tensor


def _shapes(values: Any) -> Any:
    """The values, with its shape in place of each tensor."""
    return tree_map_only(torch.Tensor, lambda tensor: tuple(tensor.shape), values)


def _value(tensor: OnDevice) -> torch.Tensor:
    return tensor.value


def line_of_ours() -> str:
    """The innermost line of `datasets` or `trainables` that runs now."""
    frame = sys._getframe()
    while frame := frame.f_back:
        if frame.f_code.co_filename.startswith(OURS):
            return f"{Path(frame.f_code.co_filename).relative_to(ROOT)}:{frame.f_lineno}"
    return "elsewhere"


_cards: list[Card] = []


def _card() -> Card:
    return _cards[-1]


@contextmanager
def pretended_cuda() -> Iterator[Card]:
    """Inside, `DEVICE` can be used as if there were a GPU."""

    class Autocast(torch.autocast):
        def __init__(self, device_type: str, **kwargs: Any) -> None:
            super().__init__("cpu", **kwargs)

    always: Callable[..., bool] = lambda *args: True  # noqa: E731
    empty = torch.empty
    with pytest.MonkeyPatch.context() as patch, Card() as card:
        patch.setattr(torch.cuda, "_lazy_init", lambda: None)
        patch.setattr(torch, "autocast", Autocast)
        patch.setattr(torch.cuda, "mem_get_info", lambda device: (2**33, 2**33))
        # Not by dispatch, which sees only this thread.
        pinned: Callable[..., torch.Tensor] = lambda *args, pin_memory=False, **kwargs: (  # noqa: E731
            card.pin(empty(*args, **kwargs)) if pin_memory else empty(*args, **kwargs)
        )
        patch.setattr(torch, "empty", pinned)
        # To swap a weight's contents, as usual, would leave it a plain tensor.
        patch.setattr("torch.__future__.get_overwrite_module_params_on_conversion", always)
        # It asks for the type of the tensors, of which it knows only torch's own.
        patch.setattr("torch.nn.utils.clip_grad._has_foreach_support", always)
        _cards.append(card)
        try:
            yield card
        finally:
            _cards.pop()
