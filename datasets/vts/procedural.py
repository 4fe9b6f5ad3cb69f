"""Generates textures that need no download: four families named after the categories of DTD that they replace.

`stratified` (layers with faults), `veined` (a branching network), `matted` (tangled fibres) and `dotted` are drawn from
a fixed seed: they are the default data set, the same in every run and on every processor. Only structure distinguishes
the families. Each grey pattern is replaced by its ranks, so that its values are uniform in every family. Contrast
curve, palette, light and grain are then drawn from one distribution for all families. So the colour histogram of an
image is independent of its family by construction.

Processors differ in the last bits of their arithmetic. In float64 this changes no 8-bit pixel; in float32 it changed
one in ten thousand, and with it the fingerprint of the data.

Lengths are in pixels and scale with the side of a scene: wavelengths are from size/14 to size/9, times a factor for
each family, so that a Voronoi region (about size/4.5 across, 20 regions) shows more than one period.
"""

import platform
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

import numpy as np
import scipy
from jaxtyping import Float64, UInt8
from scipy.ndimage import gaussian_filter

from datasets.errors import InputError
from datasets.files import cache_read, cache_write
from datasets.vts.config import FAMILIES

SEED = 20221113  # another seed gives another data set
SMALLEST_SIZE = 32  # below it, the shortest wavelength is less than two pixels

Grey = Float64[np.ndarray, "side side"]


def generate(category: str, size: int, count: int) -> list[UInt8[np.ndarray, "side side 3"]]:
    """Draw `count` RGB textures of a family, of side round(1.5 * size) pixels, for scenes of `size` pixels.

    Image m depends only on (category, size, m), so a larger count only adds images.

    Raises:
        InputError: the category is unknown, `size` is below 32, or `count` below 1.
    """
    if category not in FAMILIES:
        raise InputError(f"procedural texture {category!r} is unknown; choose one of {', '.join(FAMILIES)}")
    if size < SMALLEST_SIZE:
        raise InputError(f"procedural textures need scenes of {SMALLEST_SIZE} pixels or more, not {size}; raise it")
    if count < 1:
        raise InputError(f"procedural textures need a count of 1 or more, not {count}; raise it")
    seeds = np.random.SeedSequence([SEED, FAMILIES.index(category)]).spawn(count)
    return [_texture(*_PATTERNS[category], size, seed) for seed in seeds]


def cached_textures(size: int, count: int) -> UInt8[np.ndarray, "families count side side 3"]:
    """`count` textures of each family from `generate`, which takes seconds, or from the user's cache.

    The key of the cache has the text of this file, the families, the versions of NumPy and SciPy, the machine, size and
    count.
    """
    side = round(1.5 * size)
    versions = f"{np.__version__} {scipy.__version__} {platform.machine()}"
    recipe = f"{Path(__file__).read_text()} {FAMILIES} {versions} {size} {count}"
    name = f"procedural-{blake2b(recipe.encode(), digest_size=8).hexdigest()}"
    shape = (len(FAMILIES), count, side, side, 3)
    if (content := cache_read(name)) is not None and len(content) == np.prod(shape):
        return np.frombuffer(content, np.uint8).reshape(shape)
    textures = np.stack([np.stack(generate(category, size, count)) for category in FAMILIES])
    cache_write(name, textures.tobytes())
    return textures


def _texture(
    pattern: Callable[[np.random.Generator, int, float], Grey],
    pitch: float,
    size: int,
    seed: np.random.SeedSequence,
) -> UInt8[np.ndarray, "side side 3"]:
    # Separate streams, so that image m has the same palette at each size.
    generator, painter = (np.random.default_rng(child) for child in seed.spawn(2))
    side = round(1.5 * size)
    wavelength = size * float(np.exp(generator.uniform(np.log(1 / 14), np.log(1 / 9))))
    grey = pattern(generator, side, wavelength * pitch)
    # Weak noise of the same wavelength in each family, so that none is recognised by its lack of noise.
    grey = grey + generator.uniform(0.03, 0.12) * grey.std() * smooth_noise(generator, side, wavelength / 2)
    return _colorize(_ranks(grey), painter)


def _ranks(grey: Grey) -> Grey:
    """Replace values by their ranks, scaled to (0, 1), which gives every pattern the same uniform histogram."""
    ranks = np.empty(grey.size)
    ranks[np.argsort(grey, axis=None, kind="stable")] = (np.arange(grey.size) + 0.5) / grey.size
    return ranks.reshape(grey.shape)


def _colorize(ranks: Grey, generator: np.random.Generator) -> UInt8[np.ndarray, "side side 3"]:
    """Apply contrast curve, palette of three colours, light gradient and fine grain, whatever the family."""
    side = len(ranks)
    threshold, softness = generator.uniform(0.45, 0.75), generator.uniform(0.2, 0.5)
    tone = np.clip((ranks - threshold) / (2 * softness) + 0.5, 0, 1)
    tone = tone * tone * (3 - 2 * tone)
    middle, contrast = generator.uniform(0.44, 0.56), generator.uniform(0.24, 0.36)
    contrast *= generator.choice([-1.0, 1.0])  # polarity: light on dark or dark on light
    value = np.array([middle - contrast, middle + generator.uniform(-0.3, 0.3) * contrast, middle + contrast])
    hue = generator.uniform() + np.array([0, 1, 2]) * generator.normal(0, 0.08)
    saturation = generator.uniform(0.05, 0.4) * generator.uniform(0.6, 1, 3)
    palette = hsv_to_rgb(hue, saturation, value)
    image = np.stack([np.interp(tone, [0, 0.5, 1], palette[:, c]) for c in range(3)], axis=2)
    angle, slope = generator.uniform(0, 2 * np.pi), generator.uniform(0, 0.15)
    grit = generator.uniform(0.01, 0.04)
    ramp = np.linspace(-1, 1, side)
    light = 1 + slope * (np.cos(angle) * ramp[:, None] + np.sin(angle) * ramp)
    # Grain is last, because it takes one draw for each pixel.
    grain = generator.standard_normal((side, side), dtype=np.float32) * grit
    return np.clip(255 * (image * light[..., None] + grain[..., None]) + 0.5, 0, 255).astype(np.uint8)


def hsv_to_rgb(
    hue: Float64[np.ndarray, " n"], saturation: Float64[np.ndarray, " n"], value: Float64[np.ndarray, " n"]
) -> Float64[np.ndarray, "n 3"]:
    """Convert hue (of period 1), saturation and value (both 0 to 1) to RGB from 0 to 1 (Smith, 1978)."""
    k = (np.array([5.0, 3.0, 1.0]) + 6 * hue[:, None]) % 6
    fall = np.clip(np.minimum(k, 4 - k), 0, 1)
    return value[:, None] * (1 - saturation[:, None] * fall)


def smooth_noise(generator: np.random.Generator, side: int, wavelength: float) -> Grey:
    """Smooth random field of mean 0 and standard deviation about 1: a random grid interpolated by cubic B-splines."""
    knots = int(np.ceil(2 * side / wavelength)) + 4
    position = np.arange(side) * (2 / wavelength) + generator.uniform(0, 1) + 1
    distance = np.abs(position[:, None] - np.arange(knots))
    near, far = (4 - 6 * distance**2 + 3 * distance**3) / 6, np.clip(2 - distance, 0, None) ** 3 / 6
    basis = np.where(distance < 1, near, far)
    field = basis @ generator.standard_normal((knots, knots), dtype=np.float32) @ basis.T
    return field * 2.1  # one over the mean square of the weights of the cubic B-spline


def _axes(side: int, angle: float) -> tuple[Grey, Grey]:
    """Pixel coordinates rotated by `angle`: (along, across)."""
    line = np.arange(side) - side / 2
    cos, sin = np.cos(angle), np.sin(angle)
    return cos * line + sin * line[:, None], cos * line[:, None] - sin * line


def _stratified(generator: np.random.Generator, side: int, wavelength: float) -> Grey:
    """Layers of irregular thickness, gently bent, cut by up to three faults."""
    along, across = _axes(side, generator.uniform(0, np.pi))
    depth = across + smooth_noise(generator, side, side / 1.5) * (wavelength * generator.uniform(0.2, 1.2))
    depth += smooth_noise(generator, side, wavelength * 2) * (wavelength * generator.uniform(0.02, 0.14))
    for _ in range(generator.integers(0, 4)):
        tilt, place = generator.uniform(-0.6, 0.6), generator.uniform(-0.4, 0.4) * side
        depth += np.where(along + tilt * across > place, wavelength * generator.uniform(-1, 1), 0)
    # Layers alternate between light and dark with scatter, so that thin, thick, faint and strong layers mix.
    reach = float(np.abs(depth).max()) + wavelength
    number = int(6 * reach / wavelength) + 4
    thickness = generator.gamma(generator.uniform(2, 8), size=number)
    edges = np.cumsum(thickness / thickness.mean() * wavelength / 2)
    tones = np.where(np.arange(number) % 2, 0.5, -0.5) + generator.normal(0, 0.45, number)
    fine = np.arange(-reach, reach, 0.25)
    profile = tones[np.minimum(np.searchsorted(edges, fine + reach), number - 1)]
    profile = gaussian_filter(profile, wavelength * generator.uniform(0.04, 0.12) / 0.25)
    # Laminae inside the layers, of unit deviation before weighing; ranks would else blow up the noise there.
    laminae = gaussian_filter(generator.normal(size=fine.size), wavelength / 3)
    profile += generator.uniform(0.1, 0.35) * laminae / laminae.std()
    return np.interp(depth, fine, profile)


def _veined(generator: np.random.Generator, side: int, wavelength: float) -> Grey:
    """Veins of two or three scales between irregular cells (Worley's F2 - F1), bent and fading in places."""
    angle, stretch = generator.uniform(0, np.pi), generator.uniform(1, 1.8)
    along, across = _axes(side, angle)
    bend = wavelength * generator.uniform(0.15, 0.4)
    along = along + bend * smooth_noise(generator, side, 2.5 * wavelength)
    across = across + bend * smooth_noise(generator, side, 2.5 * wavelength)
    # A little high-frequency wander keeps the veins from being straight edges of polygons.
    along += 0.3 * bend * smooth_noise(generator, side, 0.8 * wavelength)
    across += 0.3 * bend * smooth_noise(generator, side, 0.8 * wavelength)
    veins = np.zeros((side, side))
    for scale, strength, width in ((2.6, 1.0, 0.16), (1.3, 0.6, 0.09), (0.7, 0.25, 0.06)):
        cell = wavelength * scale
        if cell < 5:  # smaller cells would be specks, not veins
            continue
        first, second = _worley(generator, along / (cell * stretch), across / cell)
        gap = cell * (second - first)
        fade = np.clip(0.75 + 0.35 * smooth_noise(generator, side, 4 * wavelength), 0.1, 1)
        thin = wavelength * width * generator.uniform(0.8, 1.4)
        veins = np.maximum(veins, strength * fade * np.exp(-gap / thin))
    return veins


def _dotted(generator: np.random.Generator, side: int, wavelength: float) -> Grey:
    """Round dots at irregular positions, whose size varies slowly."""
    across, down = _axes(side, generator.uniform(0, np.pi))
    pitch = wavelength * generator.uniform(0.8, 1.1)
    nearest, _ = _worley(generator, across / pitch, down / pitch)
    radius = generator.uniform(0.22, 0.34) * (1 + 0.2 * smooth_noise(generator, side, side / 2))
    return 1 / (1 + np.exp((nearest - radius) / 0.05))


def _worley(generator: np.random.Generator, x: Grey, y: Grey) -> tuple[Grey, Grey]:
    """Distances to the nearest and second nearest site, with one site in each unit square (Worley, 1996)."""
    column, row = np.floor(x).astype(np.int32), np.floor(y).astype(np.int32)
    left, top = int(column.min()) - 1, int(row.min()) - 1
    shape = (int(row.max()) - top + 2, int(column.max()) - left + 2)
    jitter_x, jitter_y = (generator.uniform(0.05, 0.95, shape) for _ in range(2))
    first, second = np.full(x.shape, 9.0), np.full(x.shape, 9.0)
    column, row = column - left, row - top
    inside_x, inside_y = x - np.floor(x), y - np.floor(y)
    flat = row * shape[1] + column
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            site = flat + (down * shape[1] + right)
            dx = jitter_x.ravel()[site] + right - inside_x
            dy = jitter_y.ravel()[site] + down - inside_y
            square = dx * dx + dy * dy
            second = np.minimum(second, np.maximum(first, square))
            first = np.minimum(first, square)
    return np.sqrt(first), np.sqrt(second)


def _matted(generator: np.random.Generator, side: int, wavelength: float) -> Grey:
    """Curved fibres in locally varying directions; later fibres cover earlier ones."""
    factor = 2 if side < 200 else 1  # small textures are drawn at twice the size and averaged, for thin fibres
    side, wavelength = side * factor, wavelength * factor
    width = max(wavelength * generator.uniform(0.16, 0.34), 1.5)
    length = wavelength * generator.uniform(3, 7)
    number = int(generator.uniform(3, 4) * side * side / (width * length)) + 1
    start = generator.uniform(-0.1, 1.1, (2, number)) * side
    # The field gives neighbouring fibres a common direction; the spread makes them cross.
    pixel = np.clip(start, 0, side - 1).astype(np.int64)
    field = smooth_noise(generator, side, side / generator.uniform(1, 3.5))[pixel[1], pixel[0]]
    heading = generator.uniform(0, 2 * np.pi) + field + generator.normal(0, generator.uniform(0.25, 0.8), number)
    turn = generator.normal(0, 0.2, number) / wavelength
    # Later fibres are brighter on average, which gives depth.
    shade = generator.uniform(0.15, 0.7, number) + np.linspace(0, 0.3, number)
    canvas = _draw_fibres(start, heading, turn, shade, side=side, width=width, length=length)
    canvas = canvas.reshape(side // factor, factor, side // factor, factor).mean(axis=(1, 3))
    return gaussian_filter(canvas, 0.06 * width / factor + 0.3)


def _draw_fibres(
    start: Float64[np.ndarray, "2 n"],
    heading: Float64[np.ndarray, " n"],
    turn: Float64[np.ndarray, " n"],
    shade: Float64[np.ndarray, " n"],
    *,
    side: int,
    width: float,
    length: float,
) -> Grey:
    """Draw n arcs: `start` is the middle (x, y), `heading` the direction there, `turn` the radians per pixel."""
    step = 0.9  # less than a pixel, so that arcs have no holes
    travel = np.arange(round(length / step)) * step - length / 2
    angle = heading[:, None] + turn[:, None] * travel
    sin, cos = np.sin(angle), np.cos(angle)
    x, y = np.cumsum(cos, axis=1) * step, np.cumsum(sin, axis=1) * step
    middle = travel.size // 2
    x += (start[0] - x[:, middle])[:, None]
    y += (start[1] - y[:, middle])[:, None]
    across = np.linspace(-0.5, 0.5, int(np.ceil(width / step)) + 1)
    column = np.rint(x[..., None] - sin[..., None] * (across * width)).astype(np.int32)
    row = np.rint(y[..., None] + cos[..., None] * (across * width)).astype(np.int32)
    tone = shade[:, None, None] * (1 - 3 * across**2)  # a round fibre, brightest along its middle
    seen = (column >= 0) & (column < side) & (row >= 0) & (row < side)
    canvas = np.zeros((side, side))
    # NumPy keeps the last of several values for one pixel, so the later fibre is on top.
    canvas[row[seen], column[seen]] = np.broadcast_to(tone, column.shape)[seen]
    return canvas


# Each pattern and its factor on the wavelength: layers are coarse, veins finer, fibres finest, as in DTD. With more
# similar factors, features of a slim random encoder hardly distinguish them at 64 px (macro F1 35 %, not 43 %).
_PATTERNS = {
    "stratified": (_stratified, 1.6),
    "veined": (_veined, 1.0),
    "matted": (_matted, 0.4),
    "dotted": (_dotted, 1.0),
}
