"""Masks are drawn over images: classes tinted and outlined, everything else unchanged."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from datasets.panels import FILL, overlay
from datasets.types import IGNORED
from datasets.xbd.preview import COLORS

LABELS = (0, 1, 2, IGNORED)
masks = npst.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.sampled_from(LABELS))


@settings(deadline=None)  # two cores may be busy
@given(masks, st.integers(0, 9))
def test_a_class_is_tinted_and_outlined_where_it_meets_another(mask: np.ndarray, seed: int) -> None:
    picture = np.random.default_rng(seed).random((*mask.shape, 3))
    before = picture.copy()
    drawn = overlay(picture, mask, COLORS)
    np.testing.assert_array_equal(picture, before)
    expected = picture.copy()
    height, width = mask.shape
    for row, column in np.argwhere(mask > 0).tolist():
        label, color = mask[row, column], np.array(COLORS[mask[row, column]])
        neighbours = ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1))
        inside = [(r, c) for r, c in neighbours if 0 <= r < height and 0 <= c < width]
        edge = any(mask[place] != label for place in inside)
        expected[row, column] = color if edge else (1 - FILL) * picture[row, column] + FILL * color
    np.testing.assert_allclose(drawn, expected, atol=1e-9)
