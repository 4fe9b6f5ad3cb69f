"""The objectives of this project: a line for each. No torch here: a class is imported only when something needs it.

`trainables.objectives.base` says how to write a loss, `trainables.objective_names` what its name may look like.
"""

from dataclasses import dataclass
from typing import Literal

Sees = Literal["pairs", "labelled pairs", "downstream"]
"""What an objective is trained on: positive pairs, those with labels, or labelled downstream images."""


@dataclass(frozen=True, kw_only=True)
class ObjectiveInfo:
    """What the driver knows of an objective."""

    path: str | None
    """Its class as `module:Class`; None for an encoder that is not trained."""
    sees: Sees = "pairs"
    cost: float = 2.0
    """Seconds of a cell, very roughly, relative to a cell that is not pretrained: orders cells before any is timed."""
    settings: str | None = None
    """The part of the recipe that holds its settings; None: they are part of its name."""
    lr: str = "lr"
    """The setting that is its learning rate."""

    @property
    def trained(self) -> bool:
        """Whether the encoder is trained, and so has a learning rate."""
        return self.path is not None


LOSSES: dict[str, ObjectiveInfo] = {
    "moco": ObjectiveInfo(path="trainables.objectives.moco:MocoV2", settings="moco"),
    "within_image": ObjectiveInfo(
        path="trainables.objectives.dense:WithinImage",
        sees="labelled pairs",
        cost=3.0,
        settings="dense",
        lr="within_lr",
    ),
    "cross_image": ObjectiveInfo(
        path="trainables.objectives.dense:CrossImage",
        sees="labelled pairs",
        cost=3.0,
        settings="dense",
        lr="cross_lr",
    ),
}
"""Contrastive losses, the paper's first. A new one is its file and a line here: `ObjectiveInfo(path=...)`."""

BASELINES: dict[str, ObjectiveInfo] = {
    "random": ObjectiveInfo(path=None, cost=1.0),
    "imagenet": ObjectiveInfo(path=None, cost=1.0),
    "supervised": ObjectiveInfo(
        path="trainables.objectives.supervised:Supervised", sees="downstream", settings="supervised"
    ),
}
"""What an encoder can be instead of contrastively pretrained: untouched, torchvision's, trained on the downstream task.
rho, nu and pairing mean nothing to it."""
