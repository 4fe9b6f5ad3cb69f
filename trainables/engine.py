"""How a machine executes a cell. Engines may differ in rounding, but not in what they compute."""

from dataclasses import replace
from typing import Annotated, Literal

import tyro
from pydantic import NonNegativeInt

from datasets.errors import InputError
from datasets.settings import settings

Precision = Literal["auto", "fp32", "tf32", "bf16"]
Layout = Literal["auto", "channels_last", "contiguous"]


@settings("engine")
class Engine:
    """Arithmetic, memory layout, compilation and cores of a cell. `auto` and 0: the fastest, as measured."""

    precision: Annotated[Precision, tyro.conf.arg(aliases=("--precision",))] = "auto"
    """Arithmetic of the encoder: fp32 (IEEE, on a GPU too), tf32 (only on a GPU; 10 bits of mantissa), or bf16 by
    autocast (weights and losses stay in fp32)."""
    layout: Layout = "auto"
    """Memory layout of the encoder's images and features."""
    compile: Literal["auto", "no", "graph", "default", "reduce-overhead"] = "auto"
    """graph: nothing is compiled, but a GPU records a whole step of pretraining and repeats it (steps that cannot be
    recorded run as with `no`). Otherwise the mode of torch.compile for the encoder (reduce-overhead: CUDA graphs).
    `auto` compiles only if the sweep is long enough to make up for the minutes that this takes."""
    threads: Annotated[NonNegativeInt, tyro.conf.arg(aliases=("--threads",))] = 0
    """Cores of a cell. On a CPU, the same number gives bitwise equal results with any number of workers."""
    recompute: bool = False
    """Compute the features of each block of a ResNet again in the backward pass instead of keeping them: the same
    result with less memory, in about a third more time. A GPU on which nothing else fits uses it anyway."""
    deterministic: bool = False
    """Do not measure, and on a GPU use only deterministic algorithms (slower; a cell fails if an operation has none).
    On a CPU, results are bitwise reproducible anyway once the engine is fixed."""

    def __post_init__(self) -> None:
        """Refuse to compile what is computed again."""
        if self.recompute and self.compile not in ("auto", "no"):
            raise InputError(f"--engine.recompute: not with --engine.compile {self.compile}; use --engine.compile no")

    @property
    def compiles(self) -> bool:
        """Whether torch compiles the encoder."""
        return self.compile in ("default", "reduce-overhead")

    @property
    def settled(self) -> bool:
        """Whether nothing is left to measure."""
        return "auto" not in (self.precision, self.layout, self.compile) and self.threads > 0

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables that processes need from their start, on any machine."""
        # Each checkpoint is written by a thread of its own, and glibc keeps the memory that a thread has freed for that
        # thread. With one arena the memory of a worker does not grow with every cell.
        variables = {"MALLOC_ARENA_MAX": "1"}
        if self.deterministic:
            variables["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
        return variables

    def __str__(self) -> str:
        compiled = {"no": "", "graph": ", steps recorded"}.get(self.compile, f", compiled ({self.compile})")
        cores = f"{self.threads} thread" + ("" if self.threads == 1 else "s")
        again = ", features computed again" if self.recompute else ""
        return f"{self.precision}, {self.layout.replace('_', '-')}{compiled}{again}, {cores} per cell"

    def filled(self, other: "Engine") -> "Engine":
        """This engine, with the values of the other in place of `auto` and 0, and of a `recompute` that is off."""
        auto = {"precision": "auto", "layout": "auto", "compile": "auto", "threads": 0, "recompute": False}
        return replace(self, **{name: getattr(other, name) for name, a in auto.items() if getattr(self, name) == a})


PLAIN = Engine(precision="fp32", layout="channels_last", compile="no", threads=1)
"""The engine that works on every machine. Others are checked against it."""

NO_GPU = "no GPU that torch can use"
"""The message of `NoGpuError` begins with this."""
