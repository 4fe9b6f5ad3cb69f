from dataclasses import fields, replace

import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from datasets.augment import color, transforms
from datasets.augment.config import MOCO_V2, XVIEW2, Augment

PROBABILITIES = ("flip", "vertical", "rot90", "shift", "rotate", "crop", "jitter", "grey", "blur")
OFF = Augment(**dict.fromkeys(PROBABILITIES, 0.0))
EVERYTHING = replace(MOCO_V2, **dict.fromkeys(PROBABILITIES, 1.0))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def smooth(count=4, size=48):
    """Photographs without fine detail, so that half a pixel changes little."""
    noise = torch.rand(count, 3, size, size, generator=seeded())
    return color.blur(noise, torch.full((count,), 2.0), radius=6)


def labelled(count=4, size=48):
    """Two classes in large patches, and images that show the label: value / 255 in every channel."""
    patches = torch.randint(0, 2, (count, size // 12, size // 12), generator=seeded()) * 255
    labels = patches.repeat_interleave(12, 1).repeat_interleave(12, 2)
    return (labels / 255)[:, None].expand(-1, 3, -1, -1).contiguous(), labels


def geometry(count=4, **changed):
    """The affine maps of `changed`, the same for every image, and nothing else."""
    still = {
        "flip": False,
        "vertical": False,
        "quarters": 0,
        "shift": [0.0, 0.0],
        "degrees": 0.0,
        "scale": 1.0,
        "crop_centre": [0.0, 0.0],
        "crop_sides": [1.0, 1.0],
    }
    return transforms.geometry(**{name: torch.tensor([value] * count) for name, value in (still | changed).items()})


def inside(images, border):
    return images[..., border:-border, border:-border]


@pytest.mark.parametrize("size", [48, 33, 64])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_nothing_to_do_gives_back_every_bit(size, dtype):
    images = torch.rand(5, 3, size, size, generator=seeded())
    labels = torch.randint(0, 256, (5, size, size), generator=seeded()).to(dtype)
    warped, picked = transforms.apply(images, labels, transforms.draw(OFF, 5, size, seeded()))
    assert torch.equal(warped, images)
    assert torch.equal(picked, labels)
    assert picked.dtype == dtype
    assert warped.data_ptr() != images.data_ptr()


@pytest.mark.parametrize("size", [48, 33])
@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"flip": True}, lambda x: x.flip(-1)),
        ({"vertical": True}, lambda x: x.flip(-2)),
        ({"quarters": 1}, lambda x: x.rot90(1, (-2, -1))),
        ({"quarters": 2}, lambda x: x.rot90(2, (-2, -1))),
        ({"quarters": 3}, lambda x: x.rot90(3, (-2, -1))),
        ({"flip": True, "quarters": 1}, lambda x: x.flip(-1).rot90(1, (-2, -1))),
    ],
)
def test_flips_and_quarter_turns_are_exact(size, changed, expected):
    images = torch.rand(2, 3, size, size, generator=seeded())
    labels = torch.randint(0, 256, (2, size, size), generator=seeded(), dtype=torch.uint8)
    warped, picked = transforms.warp(images, labels, geometry(2, **changed))
    torch.testing.assert_close(warped, expected(images), atol=1e-5, rtol=0)
    assert torch.equal(picked, expected(labels))


def test_shift_moves_right_and_down():
    images, labels = labelled()
    warped, picked = transforms.warp(images, labels, geometry(shift=[6 / 48, 12 / 48]))
    rolled = images.roll((12, 6), dims=(2, 3))
    torch.testing.assert_close(warped[:, :, 12:, 6:], rolled[:, :, 12:, 6:], atol=1e-5, rtol=0)
    assert torch.equal(picked[:, 12:, 6:], labels.roll((12, 6), dims=(1, 2))[:, 12:, 6:])


def test_what_comes_in_from_beyond_the_border_is_the_image_reflected():
    images, labels = labelled()
    warped, picked = transforms.warp(images, labels, geometry(shift=[0.25, 0.0]))
    torch.testing.assert_close(warped[..., :12], images[..., :12].flip(-1), atol=1e-5, rtol=0)
    assert torch.equal(picked[..., :12], labels[..., :12].flip(-1))


@pytest.mark.parametrize(("degrees", "scale"), [(10.0, 1.0), (-7.0, 1.1), (0.0, 0.9), (30.0, 1.0)])
def test_rotation_and_zoom_agree_with_torchvision(degrees, scale):
    images = smooth()
    warped, _ = transforms.warp(images, None, geometry(degrees=degrees, scale=scale))
    # torchvision's affine turns clockwise
    expected = reference.affine(images, -degrees, [0, 0], scale, [0.0, 0.0], interpolation=InterpolationMode.BILINEAR)
    torch.testing.assert_close(inside(warped, 12), inside(expected, 12), atol=1e-4, rtol=0)
    if scale == 1:
        expected = reference.rotate(images, degrees, interpolation=InterpolationMode.BILINEAR)
        torch.testing.assert_close(inside(warped, 12), inside(expected, 12), atol=1e-4, rtol=0)


def test_crop_agrees_with_torchvision():
    images = smooth()
    left, top, width, height = 6, 3, 30, 24
    middle = [(left + width / 2) / 48 - 0.5, (top + height / 2) / 48 - 0.5]
    sides = [width / 48, height / 48]
    warped, _ = transforms.warp(images, None, geometry(crop_centre=middle, crop_sides=sides))
    expected = reference.resized_crop(images, top, left, height, width, [48, 48], antialias=False)
    torch.testing.assert_close(inside(warped, 2), inside(expected, 2), atol=1e-4, rtol=0)


def test_combined_geometry_is_one_step_after_the_other():
    images = smooth()
    steps = (
        {"flip": True},
        {"quarters": 1},
        {"shift": [0.05, -0.1]},
        {"degrees": 8.0, "scale": 1.05},
        {"crop_centre": [0.05, 0.02], "crop_sides": [0.8, 0.9]},
    )
    expected, together = images, {}
    for step in steps:
        expected, _ = transforms.warp(expected, None, geometry(**step))
        together |= step
    warped, _ = transforms.warp(images, None, geometry(**together))
    # what differs is the blur of five interpolations instead of one
    torch.testing.assert_close(inside(warped, 12), inside(expected, 12), atol=0.02, rtol=0)


@pytest.mark.parametrize("recipe", [XVIEW2, replace(MOCO_V2, jitter=0.0, grey=0.0, blur=0.0), EVERYTHING])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_labels_follow_the_image_and_take_no_new_values(recipe, dtype):
    images, labels = labelled(count=32)
    parameters = transforms.draw(recipe, 32, 48, seeded())
    warped, _ = transforms.warp(images, None, parameters.affine)
    _, picked = transforms.apply(images, labels.to(dtype), parameters)
    assert picked.dtype == dtype
    assert set(picked.unique().tolist()) <= {0, 255}
    certain = (warped[:, 0] < 0.01) | (warped[:, 0] > 0.99)
    assert certain.float().mean() > 0.5
    assert torch.equal(picked[certain].float() / 255, warped[:, 0][certain].round())


def test_labels_do_not_alter_the_image():
    images, labels = labelled()
    parameters = transforms.draw(EVERYTHING, 4, 48, seeded())
    with_labels, _ = transforms.apply(images, labels, parameters)
    alone, none = transforms.apply(images, None, parameters)
    assert none is None
    assert torch.equal(with_labels, alone)


@pytest.mark.parametrize("recipe", [XVIEW2, MOCO_V2])
def test_equal_images_become_different_views(recipe):
    images = smooth(1).expand(8, -1, -1, -1).contiguous()
    before = images.clone()
    views, _ = transforms.apply(images, None, transforms.draw(recipe, 8, 48, seeded()))
    distance = torch.cdist(views.flatten(1), views.flatten(1))
    assert (distance + torch.eye(8) > 1e-3).all()
    assert torch.equal(images, before)


def test_an_image_is_augmented_alike_in_any_batch():
    """No parameter leaks from one image to the next, and blocks of a batch do not show."""
    images = smooth(8, 160)
    parameters = transforms.draw(EVERYTHING, 8, 160, seeded())
    views, _ = transforms.apply(images, None, parameters)
    for i in (0, 3, 7):
        values = {field.name: getattr(parameters, field.name) for field in fields(parameters)}
        one = {name: value if name == "radius" else value[i : i + 1] for name, value in values.items()}
        alone, _ = transforms.apply(images[i : i + 1], None, transforms.Parameters(**one))
        torch.testing.assert_close(views[i : i + 1], alone, atol=1e-5, rtol=0)


def test_colour_changes_the_chosen_images_only():
    images = smooth(64)
    recipe = replace(OFF, jitter=0.5, grey=0.2, blur=0.3, brightness=0.4, sigma_high=20.0)
    parameters = transforms.draw(recipe, 64, 48, seeded())
    views, _ = transforms.apply(images, None, parameters)
    changed = (views != images).flatten(1).any(dim=1)
    assert torch.equal(changed, parameters.jitter | parameters.grey | parameters.blur)
    assert 0 < changed.sum() < 64


@pytest.mark.parametrize("recipe", [XVIEW2, MOCO_V2, EVERYTHING])
def test_views_stay_in_range_and_in_their_dtype(recipe):
    images = (torch.rand(16, 3, 40, 40, generator=seeded()) > 0.5).float()
    views, _ = transforms.apply(images, None, transforms.draw(recipe, 16, 40, seeded()))
    assert views.dtype == images.dtype
    assert views.min() >= -1e-6
    assert views.max() <= 1 + 1e-6


def test_one_seed_gives_one_result():
    images, labels = labelled()
    views = [transforms.apply(images, labels, transforms.draw(MOCO_V2, 4, 48, seeded(3))) for _ in range(2)]
    assert torch.equal(views[0][0], views[1][0])
    assert torch.equal(views[0][1], views[1][1])
    other, _ = transforms.apply(images, labels, transforms.draw(MOCO_V2, 4, 48, seeded(4)))
    assert not torch.equal(other, views[0][0])


@pytest.mark.gpu
def test_a_gpu_gives_what_a_cpu_gives():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    images, labels = labelled(count=16)
    parameters = transforms.draw(MOCO_V2, 16, 48, seeded())
    expected, expected_labels = transforms.apply(images, labels, parameters)
    views, picked = transforms.apply(images.cuda(), labels.cuda(), parameters)
    assert views.is_cuda
    torch.testing.assert_close(views.cpu(), expected, atol=1e-4, rtol=0)
    # a place that rounding puts on either side of two pixels' middle may fall to the other
    assert (picked.cpu() == expected_labels).float().mean() > 0.999
