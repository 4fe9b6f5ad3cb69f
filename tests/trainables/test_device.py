"""How torch is prepared for an engine, and which errors say that memory is lacking or that a GPU no longer works."""

from dataclasses import replace

import pytest
import torch

from trainables.device import NoGpuError, out_of_memory, prepare_device, still_works
from trainables.engine import PLAIN

GPU = torch.device("cuda")
KINDS = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)


@pytest.fixture(autouse=True)
def flags_as_before():
    before, threads = [kind.fp32_precision for kind in KINDS], torch.get_num_threads()
    benchmark, deterministic = torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled()
    yield
    for kind, value in zip(KINDS, before, strict=True):
        kind.fp32_precision = value
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = benchmark


@pytest.mark.parametrize(("precision", "arithmetic"), [("fp32", "ieee"), ("tf32", "tf32"), ("bf16", "ieee")])
def test_a_gpu_computes_float32_in_the_arithmetic_that_the_engine_names(precision, arithmetic):
    prepare_device(replace(PLAIN, precision=precision))
    assert {kind.fp32_precision for kind in KINDS} == {arithmetic}


def test_a_deterministic_engine_measures_no_algorithms():
    for deterministic in (True, False):
        prepare_device(replace(PLAIN, deterministic=deterministic))
        assert torch.are_deterministic_algorithms_enabled() is deterministic
        assert torch.backends.cudnn.benchmark is not deterministic


def test_a_cell_compiles_with_as_many_processes_as_it_has_threads(monkeypatch):
    from torch._inductor import config

    monkeypatch.setattr(config, "compile_threads", 16)
    prepare_device(PLAIN)
    assert config.compile_threads == 16  # nothing is compiled
    prepare_device(replace(PLAIN, compile="default"))
    assert config.compile_threads == PLAIN.threads


def test_a_cell_that_needs_a_gpu_does_not_run_on_a_cpu(monkeypatch):
    def init():
        raise RuntimeError("Found no NVIDIA driver\non your system")

    monkeypatch.setattr(torch.cuda, "init", init)
    with pytest.raises(NoGpuError, match=r"\AFound no NVIDIA driver on your system\Z"):
        prepare_device(PLAIN, needs_gpu=True)
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    assert prepare_device(PLAIN, needs_gpu=True) == GPU


def test_a_gpu_works_unless_waiting_for_it_repeats_the_error(monkeypatch):
    def waits(device):
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    assert still_works(torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    assert still_works(GPU)
    monkeypatch.setattr(torch.cuda, "synchronize", waits)
    assert not still_works(GPU)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED"),
        RuntimeError("GET was unable to find an engine to execute this computation"),
        RuntimeError("FIND was unable to find an engine to execute this computation"),
        RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"),
    ],
)
def test_lack_of_memory_is_known_by_its_errors(error):
    assert out_of_memory(error)


@pytest.mark.parametrize("text", ["shapes do not match", "CUDA error: device-side assert triggered"])
def test_other_errors_are_no_lack_of_memory(text):
    assert not out_of_memory(RuntimeError(text))
