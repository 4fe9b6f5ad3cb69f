"""The embedded textures: the same each time, and told apart by structure alone."""

import os
import subprocess
import sys
from hashlib import blake2b

import numpy as np
import pytest

from datasets.errors import InputError
from datasets.vts import procedural, textures
from datasets.vts.config import VtsSettings

#: Switches off vector units of x86 processors that have no AVX. Other processors have none of these.
WITHOUT_AVX = {
    "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR",
    "OPENBLAS_CORETYPE": "Nehalem",
}


def digest() -> str:
    """A digest of six images of each family."""
    images = [procedural.generate(family, 64, 6) for family in procedural.FAMILIES]
    return blake2b(np.stack(images).tobytes(), digest_size=8).hexdigest()


@pytest.fixture(scope="module")
def bank() -> textures.TextureBank:
    return textures.make_procedural(32)


def test_procedural_is_the_same_each_time(bank: textures.TextureBank) -> None:
    again = textures.make_procedural(32)
    np.testing.assert_array_equal(again.pixels, bank.pixels)
    assert again.fingerprint == bank.fingerprint


def test_procedural_is_the_same_on_every_processor() -> None:
    command = [sys.executable, "-W", "ignore", "-c", f"from {__name__} import digest; print(digest())"]
    other = subprocess.run(command, env={**os.environ, **WITHOUT_AVX}, capture_output=True, text=True)
    assert other.stdout == f"{digest()}\n", other.stderr
    assert digest() == "4314357b3b10faa0"  # as on every machine so far


@pytest.mark.parametrize("size", [32, 45, 64, 160])
def test_procedural_shape_and_count(size: int) -> None:
    bank = textures.make_procedural(size, count=4)
    assert bank.categories == ("stratified", "veined", "matted", "dotted")
    assert np.bincount(bank.category).tolist() == [4, 4, 4, 4]
    assert set(bank.height) == set(bank.width) == {round(1.5 * size)}
    assert bank.enlarged == 0
    assert min(bank.image(m).std() for m in range(16)) > 5  # none is blank


def test_fewer_procedural_textures_are_the_first_of_more(bank: textures.TextureBank) -> None:
    few = textures.make_procedural(32, count=5)
    for c in range(4):
        for m in range(5):
            np.testing.assert_array_equal(few.image(5 * c + m), bank.image(120 * c + m))


def test_a_family_has_the_same_images_in_each_role(bank: textures.TextureBank) -> None:
    swapped = textures.make_procedural(32, categories=("matted", "dotted", "stratified"))
    assert swapped.categories == ("matted", "dotted", "stratified")
    for role, family in enumerate((2, 3, 0)):
        for m in (0, 119):
            np.testing.assert_array_equal(swapped.image(120 * role + m), bank.image(120 * family + m))


def test_the_default_roles_are_those_that_are_not_given() -> None:
    made = [
        textures.load_textures(VtsSettings(size=32, categories=roles), None)
        for roles in ((), textures.FAMILIES, textures.FAMILIES[:3], ("veined", "stratified", "matted", "dotted"))
    ]
    assert made[0].fingerprint == made[1].fingerprint
    assert made[0].title == made[1].title == "procedural textures (stratified, veined, matted, dotted)"
    assert len({bank.fingerprint for bank in made}) == 3


def test_no_two_procedural_textures_are_equal(bank: textures.TextureBank) -> None:
    assert len({bank.image(m).tobytes() for m in range(480)}) == 480


@pytest.mark.parametrize("options", [{"size": 31}, {"size": 64, "count": 3}])
def test_procedural_refuses(options: dict[str, int]) -> None:
    with pytest.raises(InputError, match=r"\A[^\n]+\Z"):
        textures.make_procedural(**options)


def centroid_accuracy(features: np.ndarray, category: np.ndarray) -> float:
    """Nearest class centroid, fitted on even images and scored on odd ones, averaged with the reverse."""
    features = (features - features.mean(0)) / features.std(0)
    even = np.arange(len(category)) % 2 == 0
    scores = []
    for fit in (even, ~even):
        centres = np.stack([features[fit & (category == c)].mean(0) for c in range(4)])
        nearest = ((features[~fit, None] - centres) ** 2).sum(-1).argmin(1)
        scores.append((nearest == category[~fit]).mean())
    return float(np.mean(scores))


def test_colour_tells_nothing_of_the_family_but_structure_does(bank: textures.TextureBank) -> None:
    images = np.stack([bank.image(m) for m in range(480)]).astype(np.float64)
    flat = images.reshape(480, -1, 3)
    colour = np.concatenate(
        [flat.mean(1), flat.std(1), np.quantile(flat, (0.1, 0.5, 0.9), 1).swapaxes(0, 1).reshape(480, 9)], 1
    )
    # Chance is 1/4 with a standard error of .02 over 480 images; the bound is three of them.
    assert abs(centroid_accuracy(colour, bank.category) - 1 / 4) < 0.06
    # Coherence of the gradients' direction (structure tensor), and energy of the gradient: no colour in it.
    grey = images.mean(3)
    down, right = np.gradient((grey - grey.mean((1, 2), keepdims=True)) / grey.std((1, 2), keepdims=True), axis=(1, 2))
    xx, yy, xy = (right**2).mean((1, 2)), (down**2).mean((1, 2)), (right * down).mean((1, 2))
    structure = np.stack([np.hypot(xx - yy, 2 * xy) / (xx + yy), np.log(xx + yy)], 1)
    assert centroid_accuracy(structure, bank.category) > 0.5
