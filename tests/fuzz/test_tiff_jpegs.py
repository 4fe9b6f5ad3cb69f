"""JPEGs inside of a TIFF fill their tiles, and no more."""

import numpy as np
import pytest
import tifffile

from datasets.images.read import read_image
from tests.fuzz.bombs import jpeg, tiff_of
from tests.helpers.fake_images import refused, smooth_pixels


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("cut", [{"tile": (32, 32)}, {"rowsperstrip": 16}, {}], ids=str)
def test_whatever_the_tiles_they_are_read(tmp_path, planar, cut):
    pixels = smooth_pixels(100, 90)
    given = pixels.transpose(2, 0, 1) if planar == "separate" else pixels
    tifffile.imwrite(tmp_path / "image", given, photometric="rgb", planarconfig=planar, compression="jpeg", **cut)
    found = read_image(tmp_path / "image")
    assert found.shape == pixels.shape
    assert np.abs(found.astype(int) - pixels).mean() < 5  # JPEG loses some


def test_one_larger_than_its_tile_is_refused(tmp_path):
    (tmp_path / "image").write_bytes(tiff_of(7, jpeg(40, 16)))
    assert "a JPEG of 40 x 16 px in a tile of 16 x 16" in refused(tmp_path / "image")
