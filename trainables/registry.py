"""The objectives of this project, one line each. No torch here: their classes are imported when needed.

`trainables.objectives.base` explains how to write a loss, `trainables.objective_names` which names a grid accepts.
"""

from dataclasses import dataclass
from typing import Literal

Sees = Literal["pairs", "labelled pairs", "downstream"]
"""The training data of an objective: positive pairs, positive pairs with labels, or labelled downstream images."""


@dataclass(frozen=True, kw_only=True)
class ObjectiveInfo:
    """What the driver needs to know about an objective."""

    path: str | None
    """Its class, as `module:Class`; None if the encoder is not trained."""
    sees: Sees = "pairs"
    cost: float = 2.0
    """Rough duration of a cell, relative to one without pretraining. It orders cells before any has been timed."""
    settings: str | None = None
    """The part of the recipe that holds its settings; None if they are part of its name."""
    lr: str = "lr"
    """The setting that is its learning rate."""
    takes_weights: bool = True
    """Whether its encoder starts from the weights of `--encoder.weights`."""

    @property
    def trained(self) -> bool:
        """Whether the encoder is trained, and so has a learning rate."""
        return self.path is not None

    def uses(self, setting: str) -> bool:
        """Whether a setting of the recipe, such as `pretrain.steps`, can change the score of a cell."""
        part, _, name = setting.partition(".")
        if setting == "encoder.weights":
            return self.takes_weights
        if part in ("data", "encoder", "probe"):
            return True
        if not self.trained:
            return False
        if part == "augment":
            return self.sees != "downstream"
        if part == "pretrain" or self.settings is None:  # a loss outside this project gets the whole recipe
            return True
        return part == self.settings and (name == self.lr or not name.endswith("lr"))


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
"""Contrastive losses, starting with those of the paper. For a new one, add a file and a line with
`ObjectiveInfo(path=...)`."""

BASELINES: dict[str, ObjectiveInfo] = {
    "random": ObjectiveInfo(path=None, cost=1.0, takes_weights=False),
    "pretrained": ObjectiveInfo(path=None, cost=1.0),
    "imagenet": ObjectiveInfo(path=None, cost=1.0, takes_weights=False),
    "supervised": ObjectiveInfo(
        path="trainables.objectives.supervised:Supervised", sees="downstream", settings="supervised"
    ),
}
"""Encoders without contrastive pretraining: random weights, those of --encoder.weights, torchvision's, or trained on
the downstream task.
rho, nu and pairing have no effect on them."""
