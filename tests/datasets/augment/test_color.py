import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from datasets.augment import color


def photographs(count=6, size=24):
    """Random colours, among them grey, black, white and pure ones: the cases of HSV."""
    images = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))
    images[0, :, :8] = images[0, :1, :8]
    images[1, :, :8] = (images[1, :, :8] > 0.5).float()
    images[2] = 0.5 + (images[2] - 0.5) * 1e-3
    images[3, :2, :8] = images[3, :1, :8]
    return images


def uniform(low, high, count=6):
    return low + (high - low) * torch.rand(count, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("ours", "theirs", "low", "high", "tolerance"),
    [
        (color.brightness, reference.adjust_brightness, 0.0, 2.0, 1e-5),
        (color.contrast, reference.adjust_contrast, 0.0, 2.0, 1e-5),
        (color.saturation, reference.adjust_saturation, 0.0, 2.0, 1e-5),
        (color.hue, reference.adjust_hue, -0.5, 0.5, 1e-4),
    ],
)
def test_each_image_is_changed_as_torchvision_changes_it_alone(ours, theirs, low, high, tolerance):
    images, factor = photographs(), uniform(low, high)
    result = ours(images, factor)
    for i, value in enumerate(factor.tolist()):
        torch.testing.assert_close(result[i], theirs(images[i], value), atol=tolerance, rtol=0)


@pytest.mark.parametrize("factor", [-0.5, -1 / 3, -1 / 6, 0.0, 1 / 6, 1 / 3, 0.5])
def test_hue_turned_by_whole_sectors_agrees_with_torchvision(factor):
    images = photographs()
    turned = color.hue(images, torch.full((6,), factor))
    torch.testing.assert_close(turned, reference.adjust_hue(images, factor), atol=1e-4, rtol=0)


def test_a_third_of_a_turn_moves_red_to_green_to_blue():
    images = photographs()
    torch.testing.assert_close(color.hue(images, torch.full((6,), 1 / 3)), images.roll(1, dims=1), atol=1e-5, rtol=0)


def test_hue_keeps_greys_grey_even_when_rounding_tints_them():
    images = torch.full((4, 3, 8, 8), 0.3)
    images[:, 1] += 3e-8
    images[0] = 0.0
    images[1] = 1.0
    torch.testing.assert_close(color.hue(images, uniform(-0.5, 0.5, 4)), images, atol=1e-6, rtol=0)


def test_grey_is_torchvisions():
    images = photographs()
    expected = reference.rgb_to_grayscale(images, num_output_channels=3)
    torch.testing.assert_close(color.grey(images), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("radius", [1, 2, 6])
def test_blur_is_torchvisions_for_each_sigma(radius):
    images, sigma = photographs(), uniform(0.05, 2.0)
    blurred = color.blur(images, sigma, radius=radius)
    for i, value in enumerate(sigma.tolist()):
        expected = reference.gaussian_blur(images[i], [2 * radius + 1] * 2, [value, value])
        torch.testing.assert_close(blurred[i], expected, atol=1e-5, rtol=0)


def test_jitter_is_the_four_changes_in_their_order():
    images = photographs()
    factors = [uniform(0.6, 1.4), uniform(0.5, 1.5), uniform(0.7, 1.3), uniform(-0.1, 0.1)]
    result = color.jitter(images, *factors)
    for i in range(6):
        b, c, s, h = (factor[i].item() for factor in factors)
        expected = reference.adjust_contrast(reference.adjust_brightness(images[i], b), c)
        expected = reference.adjust_hue(reference.adjust_saturation(expected, s), h)
        torch.testing.assert_close(result[i], expected, atol=1e-4, rtol=0)


def test_nothing_is_changed_in_place():
    images = photographs()
    before = images.clone()
    color.jitter(images, *[uniform(0.4, 0.5)] * 4)
    color.grey(images)
    color.blur(images, uniform(0.4, 0.5), radius=2)
    assert torch.equal(images, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_dtype_stays(dtype):
    images, factor = photographs().to(dtype), uniform(0.1, 0.5).to(dtype)
    assert color.jitter(images, factor, factor, factor, factor).dtype == dtype
    assert color.blur(images, factor, radius=2).dtype == dtype


def test_a_change_that_is_left_out_or_neutral_leaves_the_bits_alone():
    images = photographs()
    assert torch.equal(color.jitter(images, None, None, None, None), images)
    factor = uniform(0.5, 1.5)
    assert torch.equal(
        color.jitter(images, factor, None, factor, None), color.saturation(color.brightness(images, factor), factor)
    )
    neutral = [torch.full((6,), value) for value in color.NEUTRAL[:3]]
    assert torch.equal(color.jitter(images, *neutral, None), images)
