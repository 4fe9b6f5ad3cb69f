"""The objectives of this project, one line each. No torch here: their classes are imported when needed.

`trainables.objectives.base` explains how to write a loss, `trainables.objective_names` which names a grid accepts.
"""

from dataclasses import dataclass
from typing import Literal

from datasets.types import Task

Sees = Literal["pairs", "labelled pairs", "labelled images", "downstream"]
"""The training data of an objective: positive pairs, positive pairs with labels of positions, positive pairs with one
class each, or labelled downstream images."""


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
    also: tuple[str, ...] = ()
    """Further parts of the recipe that it uses, but not their learning rates."""
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
        if name.endswith("lr"):
            return part == self.settings and name == self.lr
        return part in (self.settings, *self.also)


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
    "rince": ObjectiveInfo(path="trainables.objectives.rince:Rince", settings="rince", also=("moco",)),
    "rince_within": ObjectiveInfo(
        path="trainables.objectives.rince:RinceWithin",
        sees="labelled pairs",
        cost=3.0,
        settings="rince",
        also=("dense",),
        lr="within_lr",
    ),
    "simclr": ObjectiveInfo(path="trainables.objectives.simclr:SimClr", cost=3.0, settings="simclr"),
    "supcon": ObjectiveInfo(
        path="trainables.objectives.supcon:SupCon", sees="labelled images", cost=3.0, settings="supcon"
    ),
    "byol": ObjectiveInfo(path="trainables.objectives.byol:Byol", cost=3.0, settings="byol"),
    "simsiam": ObjectiveInfo(path="trainables.objectives.simsiam:SimSiam", cost=3.0, settings="simsiam"),
    "vicreg": ObjectiveInfo(path="trainables.objectives.vicreg:VicReg", cost=3.0, settings="vicreg"),
    "densecl": ObjectiveInfo(
        path="trainables.objectives.densecl:DenseCl", cost=3.0, settings="densecl", also=("moco",)
    ),
    "pixpro": ObjectiveInfo(path="trainables.objectives.pixpro:PixPro", cost=3.0, settings="pixpro"),
}
"""Losses, starting with those of the paper. For a new one, add a file and a line with `ObjectiveInfo(path=...)`."""

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


def losses_for(task: Task) -> tuple[str, ...]:
    """The losses whose labels, if they use any, images of a task have: classes of pixels, or of whole images."""
    absent = "labelled pairs" if task == "classification" else "labelled images"
    return tuple(name for name, info in LOSSES.items() if info.sees != absent)
