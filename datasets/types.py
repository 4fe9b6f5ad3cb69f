"""Terms that all data sets share: splits, pairings, tasks, the ignored label."""

from typing import Literal

SPLITS = ("train", "val", "test")
EVERY_SPLIT = (*SPLITS, "ood")
"""`ood`: test images with content that training and validation do not show. Not every data set has some."""


Pairing = Literal["noisy", "exposure", "irrelevant", "false_positive", "misregistration", "none"]
"""The images of a noisy pair. `noisy`: the clean image and its noisy partner; `exposure`: two augmentations of the
noisy partner (mere exposure); `irrelevant`: as `noisy`, but the noise is no class of the downstream task (paper, B3);
`false_positive`: two unrelated images; `misregistration`: a clean pair of which one image is displaced;
`none`: no pair is noisy."""


Task = Literal["segmentation", "classification"]
"""What the probe predicts: the class of each pixel, or of each image."""


Target = Literal["classes", "change", "classes_from_pair"]
"""What the probe predicts of each pixel. `classes`: the class of the labelled image, from that image; `change`: whether
it changed between the two images of a pair, from both; `classes_from_pair`: as `classes`, from both images."""


CHANGE = ("unchanged", "changed")
"""The classes of the target `change`, in label order."""


IGNORED = 255
"""Label of pixels that neither training nor scores use."""


TURNS: dict[Task, int] = {"segmentation": 8, "classification": 2}
"""Number of flips and rotations by 90 degrees that keep the class: photographs may only be mirrored."""
