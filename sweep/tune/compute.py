"""The thread of a process that computes: cells and measurements. This module does not import Ray.

Ray Tune calls a reused worker in a new thread for each cell. What torch keeps for each thread would be lost with it:
the convolution plans that cuDNN has measured, and CUDA graphs, which belong to the thread that recorded them.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def submit(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """Call a function in this process's thread for computing, after all earlier calls."""
    return _thread().submit(function, *args, **kwargs)


def compute(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function in this process's thread for computing, and wait for its result.

    What it raises is raised here, also SystemExit, by which Ray Tune ends a cell that shall not go on.
    """
    return submit(function, *args, **kwargs).result()


@cache  # of the process, as what torch keeps is
def _thread() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "compute")
