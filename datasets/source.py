"""What a data set is to the rest: settings that load a source in the driver and open it in a worker. No torch here.

A data set's module has three functions, which `datasets.registry` calls:

- `load(settings, place) -> Source`, in the driver;
- `check(settings, source, demands) -> None` refuses a sweep that the source cannot serve, in the driver;
- `open_data(settings, source, seed, device) -> datasets.dataset.Dataset`, in a worker.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

from datasets.errors import InputError
from datasets.types import Pairing, Task


@runtime_checkable
class Settings(Protocol):
    """What describes a data set in a recipe: a frozen dataclass, whose fields become the flags `--data.*`.

    Where `has_nu` is true there is also `check_nu(nu)`, which raises `InputError` for a per-image noise that cannot be.
    """

    @property
    def dataset(self) -> str:
        """Name of the data set: a field with this default."""

    pairings: ClassVar[tuple[Pairing, ...]]
    """The pairings it can have."""
    has_nu: ClassVar[bool]
    """Whether the per-image noise can be set."""
    task: ClassVar[Task]
    """What the probe learns."""
    extra_scores: ClassVar[tuple[str, ...]]
    """Scores besides F1, such as `xview2`."""

    @property
    def bands(self) -> int:
        """Bands of an image; of the class, or a field."""

    @property
    def size(self) -> int:
        """Side of an image, px; of the class, or a field."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where data lie, and what may be done to get at them."""

    root: Path | None = None
    """Folder (or file) of the data, as the user gave it."""
    store: Path | None = None
    """Folder for the arrays that images are brought into; None: the user's cache."""
    download: bool = False
    """Whether the data may be downloaded into `root`."""
    skip_bad: bool = False
    """Whether files that cannot be used are left out (and named) instead of refused."""

    def refuse_flags(self, what: str, flags: Sequence[str]) -> None:
        """Refuse flags that do nothing: one that is ignored in silence is taken for one that works.

        Args:
            what: what they do nothing for.
            flags: names of fields.

        Raises:
            InputError: one of them is set.
        """
        for name in flags:
            if getattr(self, name):
                flag = {"root": "data-root", "skip_bad": "skip-bad"}.get(name, name)
                raise InputError(f"--{flag} does nothing for {what}: leave it out")


@runtime_checkable
class Source(Protocol):
    """Data as they were found: made in the driver, handed to workers; can be pickled."""

    @property
    def fingerprint(self) -> str:
        """16 hex digits of the content, the same on every machine."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Downstream classes in label order."""

    @property
    def title(self) -> str:
        """What the data are, for records and tables, such as `xBD (3 disasters, 15 image pairs)`."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines that a sweep says before it begins: what was left out, what results must not be taken for."""

    @property
    def files(self) -> tuple[Path, ...]:
        """What workers open on their machine's disk; none where all of it travels with the source."""


@dataclass(frozen=True, kw_only=True)
class Demands:
    """What a sweep wants of its data; checked before anything is run."""

    rho: tuple[float, ...]
    """Noisy-pairs rates of its contrastive cells; none without such cells."""
    pairings: tuple[Pairing, ...]
    """Pairings of its cells with noisy pairs."""
    labels: bool
    """Whether a loss looks at the labels of both images of a pair."""
    batch: int
    """Pairs a step of its contrastive cells."""
    supervised_batch: int
    """Labelled images a step that the baseline `supervised` is trained on; 0 without it."""
    probe_batch: int
    """Downstream images a step."""
