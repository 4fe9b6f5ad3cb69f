"""The interface of a data set: settings, and a source that the driver loads. No torch.

The module of a data set has three functions, which `datasets.registry` calls:

- `load(settings, place) -> Source` runs in the driver;
- `check(settings, source, demands) -> None` runs in the driver, and refuses a sweep that the source cannot serve;
- `open_data(settings, source, seed, device) -> datasets.dataset.Dataset` runs in a worker.

If `load` writes files or takes long, `--dry-run` calls a fourth function, `survey(settings, place, demands) -> Source |
None`, instead. It raises the errors that are known before, and may return the source if it has loaded it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from datasets.errors import InputError
from datasets.types import Pairing, Target, Task


@runtime_checkable
class Settings(Protocol):
    """The settings of a data set: a frozen dataclass, whose fields become the flags `--data.*`.

    Annotate `dataset` with `tyro.conf.Suppress`, so that it does not become a flag. A class with `has_nu` also needs a
    method `check_nu(nu)`, which raises `InputError` for a per-image noise that the data set cannot have. A class whose
    source has a method `aimed(target)` may have a class attribute `targets`: all that a probe can predict.
    """

    @property
    def dataset(self) -> str:
        """Name of the data set, a field with this name as default."""

    pairings: ClassVar[tuple[Pairing, ...]]
    """The pairings that it supports."""
    has_nu: ClassVar[bool]
    """Whether the per-image noise can be set."""
    task: ClassVar[Task]
    """The task of the probe."""
    extra_scores: ClassVar[tuple[str, ...]]
    """Scores besides F1, such as `xview2`."""

    @property
    def bands(self) -> int:
        """Bands of an image, as a class attribute or a field."""

    @property
    def size(self) -> int:
        """Side of an image in px, as a class attribute or a field."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the data are, and how to obtain them."""

    root: Path | None = None
    """Folder or file of the data, as given by the user."""
    store: Path | None = None
    """Folder for the arrays that images are converted to; None: the user's cache folder."""
    download: bool = False
    """Whether to download missing data into `root`."""
    skip_bad: bool = False
    """Whether to leave out and name files that cannot be used, instead of raising an error."""
    cores: int = 0
    """Cores that reading them may use; 0: all that this process may use."""

    def refuse_flags(self, what: str, flags: Sequence[str]) -> None:
        """Refuse flags that would have no effect.

        Args:
            what: the data set that does not use them.
            flags: names of fields.

        Raises:
            InputError: one of them is set.
        """
        for name in flags:
            if getattr(self, name):
                flag = {"root": "data-root", "skip_bad": "skip-bad"}.get(name, name)
                raise InputError(f"--{flag} has no effect for {what}: leave it out")


@runtime_checkable
class Source(Protocol):
    """The data, which the driver loads and sends to the workers by pickle."""

    @property
    def fingerprint(self) -> str:
        """Hash of the contents, 16 hex digits, equal on every machine."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Downstream classes in label order."""

    @property
    def title(self) -> str:
        """A short description for records and tables, such as `xBD (3 disasters, 15 image pairs)`."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines that a sweep prints first: files that were left out, and limits of the results."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Files that workers open on the disk of their machine; empty if the source contains all data."""


def aimed(source: Source, target: Target) -> Source:
    """The data for a target of the probe. Those for `classes` are the data as they were loaded."""
    if target == "classes":
        return source
    with_targets: Any = source  # a recipe refuses the target for other data sets
    for_target: Source = with_targets.aimed(target)
    return for_target


@dataclass(frozen=True, kw_only=True)
class Demands:
    """What a sweep needs from its data; checked before any cell runs."""

    rho: tuple[float, ...]
    """Noisy-pairs rates of its contrastive cells; empty if there are none."""
    pairings: tuple[Pairing, ...]
    """Pairings of its cells with noisy pairs."""
    labels: bool
    """Whether a loss uses the labels of both images of a pair."""
    batch: int
    """Batch size of its contrastive cells, in pairs."""
    supervised_batch: int
    """Batch size of the baseline `supervised`, in labelled images; 0 without it."""
    probe_batch: int
    """Batch size of the probe, in downstream images."""
    ood: bool = False
    """Whether a probe is tested on the split `ood`, which settings have whose `has_ood` is true."""
    few_labels: bool = False
    """Whether a probe sees a share of the training images. To check that it shows all classes, they must be loaded."""
    targets: tuple[Target, ...] = ("classes",)
    """What its probes predict."""
