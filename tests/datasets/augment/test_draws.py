"""Drawing the parameters of augmentation: streams, probabilities, ranges, what is refused."""

from dataclasses import replace

import pytest
import torch

from datasets.augment import transforms
from datasets.augment.config import MOCO_V2, XVIEW2, Augment
from datasets.errors import InputError

PROBABILITIES = ("flip", "vertical", "rot90", "shift", "rotate", "crop", "jitter", "grey", "blur")
OFF = Augment(**dict.fromkeys(PROBABILITIES, 0.0))
EVERYTHING = replace(MOCO_V2, **dict.fromkeys(PROBABILITIES, 1.0))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("recipe", [OFF, EVERYTHING, XVIEW2, MOCO_V2])
def test_every_recipe_leaves_the_generator_in_the_same_state(recipe):
    used, expected = seeded(), seeded()
    transforms.draw(recipe, 7, 32, used)
    transforms.draw(Augment(), 7, 256, expected)
    assert torch.equal(used.get_state(), expected.get_state())


def test_switching_one_change_on_leaves_the_others_as_they_were():
    with_blur, without = (transforms.draw(replace(XVIEW2, blur=b), 50, 32, seeded()) for b in (1.0, 0.0))
    assert with_blur.blur.all()
    assert not without.blur.any()
    for name in ("affine", "jitter", "brightness", "contrast", "saturation", "hue", "grey", "sigma"):
        assert torch.equal(getattr(with_blur, name), getattr(without, name))


def within_five_deviations(share, probability, count):
    return abs(share - probability) <= 5 * (probability * (1 - probability) / count) ** 0.5


@pytest.mark.parametrize("name", ["jitter", "grey", "blur"])
def test_colour_probabilities_are_met(name):
    count, probability = 20_000, 0.3
    parameters = transforms.draw(replace(OFF, **{name: probability}), count, 32, seeded())
    share = getattr(parameters, name).float().mean().item()
    assert within_five_deviations(share, probability, count)


@pytest.mark.parametrize(
    ("name", "moved"),
    [("flip", 1.0), ("vertical", 1.0), ("rot90", 0.75), ("shift", 1.0), ("rotate", 1.0), ("crop", 1.0)],
)
def test_geometry_probabilities_are_met(name, moved):
    """A rotation by a multiple of 90 degrees moves the image in three of four cases."""
    count, probability = 20_000, 0.3
    affine = transforms.draw(replace(OFF, **{name: probability}), count, 32, seeded()).affine
    share = (affine != torch.eye(2, 3)).flatten(1).any(dim=1).float().mean().item()
    assert within_five_deviations(share, probability * moved, count)


def test_quarter_turns_are_equally_frequent():
    affine = transforms.draw(replace(OFF, rot90=1.0), 20_000, 32, seeded()).affine
    kinds, counts = affine.flatten(1).unique(dim=0, return_counts=True)
    assert len(kinds) == 4
    assert all(within_five_deviations(count / 20_000, 0.25, 20_000) for count in counts.tolist())


def test_crops_have_uniform_area_and_lie_within_the_image():
    affine = transforms.draw(replace(OFF, crop=1.0, crop_low=0.2**0.5, crop_high=1.0), 20_000, 32, seeded()).affine
    area, offset = affine[:, 0, 0] * affine[:, 1, 1], affine[:, :, 2]
    assert area.min() >= 0.2 - 1e-6
    assert area.max() <= 1 + 1e-6
    assert area.mean().item() == pytest.approx(0.6, abs=0.01)
    assert area.std().item() == pytest.approx(0.8 / 12**0.5, abs=0.01)
    reach = torch.stack([affine[:, 0, 0], affine[:, 1, 1]], dim=1) + offset.abs()
    assert reach.max() <= 1 + 1e-6


def test_aspect_stays_within_its_bounds_both_ways():
    affine = transforms.draw(replace(MOCO_V2, flip=0.0), 20_000, 32, seeded()).affine
    ratio = affine[:, 0, 0] / affine[:, 1, 1]
    assert 3 / 4 - 1e-4 <= ratio.min() < 0.76
    assert 1.32 < ratio.max() <= 4 / 3 + 1e-4
    assert affine[:, [0, 1], [0, 1]].max() <= 1 + 1e-6


def test_factors_cover_their_ranges():
    parameters = transforms.draw(replace(MOCO_V2, brightness=1.5), 20_000, 224, seeded())
    for values, low, high in (
        (parameters.brightness, 0.0, 2.5),
        (parameters.contrast, 0.6, 1.4),
        (parameters.saturation, 0.6, 1.4),
        (parameters.hue, -0.1, 0.1),
        (parameters.sigma, 0.1, 2.0),
    ):
        margin = (high - low) / 500
        assert low - 1e-6 <= values.min() < low + margin
        assert high - margin < values.max() <= high + 1e-6


def test_blur_scales_with_the_image():
    small, large = (transforms.draw(MOCO_V2, 9, size, seeded()) for size in (56, 224))
    torch.testing.assert_close(4 * small.sigma, large.sigma)
    assert (small.radius, large.radius) == (2, 6)


def test_the_presets_differ_in_what_they_name():
    assert Augment() == XVIEW2
    assert MOCO_V2.crop_low**2 == pytest.approx(0.2)
    assert (MOCO_V2.brightness, MOCO_V2.contrast, MOCO_V2.saturation, MOCO_V2.hue) == (0.4, 0.4, 0.4, 0.1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"flip": 1.5}, "--augment.flip 1.5: should be less than or equal to 1"),
        ({"blur": -0.1}, "--augment.blur -0.1: should be greater than or equal to 0"),
        ({"grey": float("nan")}, "--augment.grey nan: should be a finite number"),
        ({"max_shift": 2.0}, "--augment.max-shift 2: should be less than or equal to 1"),
        ({"degrees": 200.0}, "--augment.degrees 200: should be less than or equal to 180"),
        ({"zoom": 1.0}, "--augment.zoom 1: should be less than or equal to 0.9"),
        ({"crop_low": 0.0}, "--augment.crop-low 0: should be greater than or equal to 0.01"),
        ({"crop_high": 0.5}, "--augment.crop-high 0.5: should be --augment.crop-low (0.85) or more"),
        ({"aspect": 0.75}, "--augment.aspect 0.75: should be greater than or equal to 1"),
        ({"contrast": -1.0}, "--augment.contrast -1: should be greater than or equal to 0"),
        ({"hue": 0.6}, "--augment.hue 0.6: should be less than or equal to 0.5"),
        ({"sigma_low": 0.0}, "--augment.sigma-low 0: should be greater than or equal to 0.001"),
        ({"sigma_high": 0.05}, "--augment.sigma-high 0.05: should be --augment.sigma-low (0.1) or more"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(wrong, message):
    with pytest.raises(InputError) as refused:
        Augment(**wrong)
    assert str(refused.value) == message
