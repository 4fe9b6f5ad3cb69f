"""The losses as parameters of tests. Each has tests of its own; what all share is tried on some in `make test`."""

import pytest

from trainables.registry import losses_for

QUICK = ("moco", "within_image", "cross_image", "pixpro")
"""The losses of the paper, and one that uses what they do not: the maps of the views, a second network."""

EACH_LOSS = [
    loss if loss in QUICK else pytest.param(loss, marks=pytest.mark.slow) for loss in losses_for("segmentation")
]
"""All losses of images with classes of pixels; `make test-all` takes those that are slow."""
