"""Augmentation with the same shapes in every step does what the one does that changes only what was drawn."""

from dataclasses import replace

import pytest
import torch

from datasets.augment import static, transforms
from datasets.augment.config import MOCO_V2, XVIEW2
from datasets.seeding import stream

MILD = replace(MOCO_V2, flip=0.0, crop=0.0, hue=0.0, grey=0.0)  # leaves images as they are, and has no hue and grey


@pytest.mark.parametrize("recipe", [MOCO_V2, XVIEW2, MILD])
@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_the_same_bits_or_rounding_alone_where_channels_lie_side_by_side(recipe, bands, seed):
    recipe = recipe if bands == 3 else replace(recipe, hue=0.0)
    images = torch.rand(16, bands, 40, 40, generator=stream(seed, "images"))
    labels = torch.randint(0, 256, (16, 40, 40), generator=stream(seed, "labels"), dtype=torch.uint8)
    drawn = transforms.draw(recipe, 16, 40, stream(seed, "draws"))
    for known in (labels, None):
        expected = transforms.augmented(images, known, drawn.radius, *transforms.plan(drawn))
        found = static.augmented(images, known, drawn.radius, *static.plan(recipe, drawn))
        assert torch.equal(found[0], expected[0])
        assert (found[1] is None) if known is None else torch.equal(found[1], expected[1])
        beside = images.contiguous(memory_format=torch.channels_last)
        other = static.augmented(beside, known, drawn.radius, *static.plan(recipe, drawn))
        torch.testing.assert_close(other[0], expected[0], atol=1e-6, rtol=0)
        assert (other[1] is None) if known is None else torch.equal(other[1], expected[1])


def test_what_the_device_gets_has_the_same_shapes_whatever_is_drawn():
    for recipe in (MOCO_V2, XVIEW2, MILD):
        plans = [static.plan(recipe, transforms.draw(recipe, 4, 40, stream(seed, "draws"))) for seed in range(20)]
        assert len({tuple(None if one is None else (one.shape, one.dtype) for one in plan) for plan in plans}) == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of torch's own compiler
def test_compiling_changes_rounding_alone():
    images = torch.rand(8, 3, 40, 40, generator=stream(0, "images"))
    drawn = transforms.draw(MOCO_V2, 8, 40, stream(0, "draws"))
    found, _ = torch.compile(static.augmented, dynamic=False)(images, None, 2, *static.plan(MOCO_V2, drawn))
    expected, _ = static.augmented(images, None, 2, *static.plan(MOCO_V2, drawn))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
