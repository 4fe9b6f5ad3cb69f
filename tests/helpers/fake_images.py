"""Images of random and of smooth pixels, and how a file is refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.errors import InputError
from datasets.images.read import read_image


def random_pixels(height: int, width: int, bands: int, dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    most = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, most, (height, width, bands), dtype, endpoint=True)


def smooth_pixels(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 5) + np.cos(y / 7), np.cos((x + y) / 9) * 2, np.sin(x * y / 300) * 2]
    return np.clip(np.stack(waves, 2) * 60 + 128, 0, 255).astype(np.uint8)


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def refused(path: Path, function=read_image) -> str:
    with pytest.raises(InputError) as error:
        function(path)
    message = str(error.value)
    assert "\n" not in message
    assert str(path) not in message  # who calls knows which name the user knows it by
    return message
