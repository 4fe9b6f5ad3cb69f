"""Reads the batches of CIFAR-10, which are pickles, without executing code or creating the objects that they name."""

import io
import pickle
import pickletools
import re
from math import prod
from typing import Any

import numpy as np

TYPE = re.compile(r"[|<=>]?[iu][1248]")


def unpickle_batch(content: bytes) -> Any:
    """Read a pickle of plain Python objects and of NumPy arrays of integers; refuse anything else.

    Raises:
        Exception: of many kinds, for other or damaged content.
    """
    _check_memo_places(content)
    batch = _Plain(io.BytesIO(content), encoding="latin1").load()
    return {key: _unwrap(value) for key, value in batch.items()} if isinstance(batch, dict) else batch


def _unwrap(value: Any) -> Any:
    return value.array if isinstance(value, _Array) else value


def _check_memo_places(content: bytes) -> None:
    """Refuse memo indices larger than the pickle: the unpickler allocates memory up to the index."""
    for operation, argument, _ in pickletools.genops(content):
        if "PUT" in operation.name and not 0 <= int(argument or 0) <= len(content):
            raise pickle.UnpicklingError(f"it has the memo index {argument}")


class _Plain(pickle.Unpickler):
    """Unpickler that maps the few names that arrays need to safe substitutes, and refuses all others."""

    def find_class(self, module: str, name: str) -> Any:
        """The substitute for a function or class."""
        names = {
            ("numpy", "ndarray"): "ndarray",
            ("numpy", "dtype"): _Type,
            ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
            ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
            ("_codecs", "encode"): _encode,
        }
        if (module, name) not in names:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no batch of images needs")
        return names[module, name]


class _Type:
    """An integer type. numpy.dtype itself would accept invalid states and crash later."""

    def __init__(self, code: str, *_: object) -> None:
        if not isinstance(code, str) or not TYPE.fullmatch(code):
            raise pickle.UnpicklingError(f"it has numbers of type {code!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """A NumPy array whose number of bytes must match its shape."""

    def __init__(self) -> None:
        self.array: np.ndarray = np.empty(0, np.uint8)

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, by_columns, raw = state
        data = raw.encode("latin1") if isinstance(raw, str) else raw  # the text of Python 2 is the bytes of Python 3
        if not isinstance(kind, _Type) or not isinstance(data, bytes) or prod(shape) * kind.dtype.itemsize != len(data):
            raise pickle.UnpicklingError(f"it has an array of shape {shape} with another number of bytes")
        self.array = np.frombuffer(data, kind.dtype).reshape(shape, order="F" if by_columns else "C")


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _encode(text: str, encoding: str = "latin1", *_: object) -> bytes:
    """Bytes as written by protocol 2. Other encodings could expand a small pickle to a huge one."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it has text in {encoding!r}")
    return text.encode("latin1")
