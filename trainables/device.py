"""The device of cells in this process: torch is prepared for an engine, and a GPU that no longer works is found out."""

import gc
import sys
from typing import Any

import torch

from trainables.engine import NO_GPU, Engine


class NoGpuError(RuntimeError):
    """A cell must run on a GPU, and torch cannot use one in this process. The message says why."""


class LostGpuError(RuntimeError):
    """The GPU no longer works in this process. The message says since which error."""


def prepare_device(engine: Engine, *, needs_gpu: bool = False) -> torch.device:
    """Prepare torch in this process for cells with `engine`.

    Args:
        engine: without `auto` settings.
        needs_gpu: whether cells must run on a GPU. Otherwise they run on a CPU if there is none.

    Returns:
        The device of the cells.

    Raises:
        NoGpuError: they must run on a GPU, and there is none that torch can use.
    """
    torch.set_num_threads(engine.threads)
    torch.use_deterministic_algorithms(engine.deterministic)
    torch.backends.cudnn.benchmark = not engine.deterministic
    # By default cuDNN computes convolutions of float32 images in TF32, which has 10 bits of mantissa.
    arithmetic = "tf32" if engine.precision == "tf32" else "ieee"
    backends: Any = torch.backends  # whose types lack these settings
    for kind in (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn):
        kind.fp32_precision = arithmetic
    if engine.compiles:
        from torch._inductor import config  # here, because few engines need it

        config.compile_threads = engine.threads  # by default it starts as many processes as the machine has cores
    if needs_gpu:
        try:
            torch.cuda.init()
        except (RuntimeError, AssertionError) as error:  # AssertionError: torch without CUDA
            raise NoGpuError(f"{NO_GPU}: {' '.join(str(error).split())}") from error
    return torch.device("cuda" if needs_gpu or torch.cuda.is_available() else "cpu")


def still_works(device: torch.device) -> bool:
    """Whether the device works after an error.

    After an illegal access of memory, or a fault of the hardware, each later call of CUDA in the process fails.
    """
    try:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    except RuntimeError:
        return False
    return True


def free_memory(device: torch.device) -> None:
    """Free what no name refers to any more, so that the next engine has all memory, and begin its peak anew."""
    if "torch._dynamo" in sys.modules:  # otherwise nothing was compiled, and the import takes seconds
        torch.compiler.reset()  # compiled functions hold tensors, and CUDA graphs have memory pools of their own
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


NO_MEMORY = (
    "out of memory",
    "can't allocate memory",  # the host's allocator
    "ALLOC_FAILED",
    "ALLOCATION_FAILED",  # cuDNN 9: ..._DEVICE_ALLOCATION_FAILED, ..._HOST_ALLOCATION_FAILED
    "CUBLAS_STATUS_NOT_INITIALIZED",  # cuBLAS and cuDNN allocate their workspaces when they are initialised
    "CUDNN_STATUS_NOT_INITIALIZED",
    "unable to find an engine",  # cuDNN has tried every engine, and none got its workspace
    "Unable to find a valid cuDNN algorithm",
)
"""Parts of the messages of errors that have no class of their own."""


def out_of_memory(error: Exception) -> bool:
    """Whether the error is a lack of GPU or host memory. Such a cell may fit when it runs alone."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(text in str(error) for text in NO_MEMORY)
