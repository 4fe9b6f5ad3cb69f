"""How a cell is executed on a machine. Rounding may differ between engines; what is computed does not."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal

import tyro

from datasets.errors import InputError

Precision = Literal["auto", "fp32", "bf16"]
Layout = Literal["auto", "channels_last", "contiguous"]


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Arithmetic, memory layout, compilation and cores of a cell; `auto` and 0 stand for what measures fastest."""

    precision: Annotated[Precision, tyro.conf.arg(aliases=("--precision",))] = "auto"
    """Arithmetic of the encoder: fp32, or bf16 by autocast (weights and losses stay fp32)."""
    layout: Layout = "auto"
    """Order of the encoder's images and features in memory."""
    compile: Literal["auto", "no", "default", "reduce-overhead"] = "auto"
    """torch.compile of the encoder, by its mode (reduce-overhead: CUDA graphs); tried only where a sweep is long
    enough to earn back the minutes that compiling takes."""
    threads: Annotated[int, tyro.conf.arg(aliases=("--threads",))] = 0
    """Cores of a cell. The same number gives the same results bit for bit on a CPU, whatever the workers."""
    deterministic: bool = False
    """Measure nothing, and on a GPU take only algorithms that give the same bits again (slower; an operation that
    has none fails the cell). On a CPU results are the same bit for bit in any case, once the engine is settled."""

    def __post_init__(self) -> None:
        """Refuse what no machine has."""
        if self.threads < 0:
            raise InputError(f"--engine.threads {self.threads}: at least 1, or 0 for what measures fastest")

    @property
    def settled(self) -> bool:
        """Whether nothing is left to be measured."""
        return "auto" not in (self.precision, self.layout, self.compile) and self.threads > 0

    def __str__(self) -> str:
        compiled = "" if self.compile == "no" else f", compiled ({self.compile})"
        cores = f"{self.threads} thread" + ("" if self.threads == 1 else "s")
        return f"{self.precision}, {self.layout.replace('_', '-')}{compiled}, {cores} a cell"

    def filled(self, other: "Engine") -> "Engine":
        """This engine with the other's value wherever it says `auto` or 0."""
        auto = {"precision": "auto", "layout": "auto", "compile": "auto", "threads": 0}
        return replace(self, **{name: getattr(other, name) for name, a in auto.items() if getattr(self, name) == a})


PLAIN = Engine(precision="fp32", layout="channels_last", compile="no", threads=1)
"""What every machine can do; the others are checked against it."""
