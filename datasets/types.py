"""Terms that all data sets share: splits, pairings, tasks, the ignored label."""

from typing import Literal

SPLITS = ("train", "val", "test")


Pairing = Literal["noisy", "exposure", "irrelevant", "false_positive", "none"]
"""What a noisy pair holds. `noisy`: clean image with its noisy partner; `exposure`: two augmentations of the noisy
partner (mere exposure); `irrelevant`: as noisy, with noise that the downstream task never shows (paper, B3);
`false_positive`: two images that have nothing to do with each other; `none`: there are no noisy pairs."""


Task = Literal["segmentation", "classification"]
"""What the probe learns: a class for each pixel, or for each image."""


IGNORED = 255
"""Label of pixels that are used neither in training nor in scores."""


TURNS: dict[Task, int] = {"segmentation": 8, "classification": 2}
"""Number of flips and rotations by 90 degrees that keep the classes: photographs can only be mirrored."""
