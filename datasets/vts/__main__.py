"""The paper's Fig. 3 from our own scenes: textures, scene, labels, noisy partners, and the views of a pair."""

import argparse
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from datasets import cli
from datasets.augment import transforms
from datasets.augment.config import MOCO_V2, XVIEW2
from datasets.errors import InputError
from datasets.pairing import noisy_sides
from datasets.seeding import stream
from datasets.types import Pairing
from datasets.vts.config import CLASSES, VtsSettings
from datasets.vts.dataset import Vts
from datasets.vts.scenes import IRRELEVANT
from datasets.vts.textures import TextureBank, load_textures

PALETTE = np.array([[0.90, 0.62, 0.0], [0.0, 0.45, 0.70], [0.25, 0.25, 0.25]])  # Okabe-Ito: safe for the colour-blind
NUS = (0.25, 0.5, 0.75, 1.0)
AUGMENTATIONS = {"xview2": XVIEW2, "moco": MOCO_V2}


def panels(
    settings: VtsSettings, bank: TextureBank, *, seed: int, scene: int, augmentation: str
) -> Iterator[tuple[int, str, np.ndarray]]:
    """(row, title, picture) of every panel, for training scene number `scene` of `seed`.

    Raises:
        InputError: there is no such scene.
    """
    data = Vts(settings, bank, partial(stream, seed), torch.device("cpu"))
    if not 0 <= scene < data.count("train"):
        raise InputError(f"--scene {scene}: there are scenes 0 to {data.count('train') - 1}")
    index = torch.tensor([scene])
    yes, no = torch.tensor([True]), torch.tensor([False])
    for category, image in enumerate(data.scenes["train"].image[scene].tolist()):
        role = (*CLASSES, "irrelevant noise")[category]
        yield 0, f"texture of {role}\n({bank.categories[category]})", bank.image(image)
    clean = data.pairs("train", index, no, no, 0.0)
    images, labels = data.downstream("train", index)
    yield 0, "downstream image", picture(images)
    yield 0, "downstream labels", PALETTE[labels[0].numpy()]
    yield 1, "scene", picture(clean.first)
    free = data.noise_free_labels("train", index)
    yield 1, "noise-free labels", PALETTE[free[0].numpy()]
    for nu in NUS:
        yield 1, f"noisy partner, nu = {nu:g}", picture(data.pairs("train", index, no, yes, nu).second)
    if len(bank.categories) > IRRELEVANT:
        irrelevant = data.pairs("train", index, no, yes, NUS[1], noise=IRRELEVANT)
        yield 1, f"irrelevant noise, nu = {NUS[1]:g}", picture(irrelevant.second)
    settings_drawn = AUGMENTATIONS[augmentation]
    pairings: tuple[tuple[int, Pairing], ...] = ((2, "noisy"), (3, "exposure"))
    for row, pairing in pairings:
        sides = noisy_sides(yes, pairing)
        pair = data.pairs("train", index, *sides, NUS[1])
        for number, image in ((1, pair.first), (2, pair.second)):
            drawn = transforms.draw(settings_drawn, 1, settings.size, stream(seed, "preview", number))
            view, warped = transforms.apply(image, free, drawn)
            yield row, f"{pairing}, nu = .5: image {number}", picture(image)
            yield row, f"view {number}", picture(view)
            yield row, f"its labels {number}", PALETTE[warped[0].numpy()]


def picture(images: Tensor) -> np.ndarray:
    """The first image of a batch as matplotlib takes it, (H, W, 3)."""
    return images[0].permute(1, 2, 0).clamp(0, 1).numpy()


def draw(path: Path, shown_panels: Sequence[tuple[int, str, np.ndarray]], caption: str) -> None:
    """Lay the panels out in their rows and write the figure."""
    rows = [[panel for panel in shown_panels if panel[0] == row] for row in sorted({p[0] for p in shown_panels})]
    width = max(map(len, rows))
    figure, axes = plt.subplots(len(rows), width, figsize=(1.7 * width, 2.0 * len(rows)), squeeze=False)
    for line, row in zip(axes, rows, strict=True):
        for axis in line:
            axis.axis("off")
        for axis, (_, title, image) in zip(line, row, strict=False):
            _show(axis, title, image)
    figure.suptitle(caption, fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _show(axis: Axes, title: str, image: np.ndarray) -> None:
    axis.imshow(image, interpolation="nearest")
    axis.set_title(title, fontsize=7)


def draw_preview(args: argparse.Namespace) -> None:
    """Draw the panels into a file."""
    settings = VtsSettings(
        size=args.size,
        textures=args.textures,
        categories=tuple(args.categories),
        texture_scale=args.texture_scale,
    )
    bank = load_textures(settings, args.data_root)
    caption = f"VTS, {args.size} px, {bank.source} textures, seed {args.seed}, scene {args.scene}"
    drawn = list(panels(settings, bank, seed=args.seed, scene=args.scene, augmentation=args.augmentation))
    draw(args.preview, drawn, caption)
    print(args.preview)


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m datasets.vts --preview FILE.png`; see `cli.run`."""
    parser = argparse.ArgumentParser(prog="python -m datasets.vts", description=__doc__)
    parser.add_argument("--preview", type=Path, required=True, metavar="FILE.png", help="picture to write")
    parser.add_argument("--size", type=int, default=256, help="side of the scene, px (256)")
    parser.add_argument("--textures", choices=("procedural", "folder", "dtd"), default="procedural")
    parser.add_argument("--data-root", type=Path, help="folder of texture images, for --textures folder or dtd")
    parser.add_argument(
        "--categories", nargs="+", default=(), help="of a folder: first class, second class, noise (, irrelevant noise)"
    )
    parser.add_argument("--texture-scale", type=float, default=1.0, help="shrink texture images from files first")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scene", type=int, default=0, help="number of the training scene")
    parser.add_argument("--augmentation", choices=tuple(AUGMENTATIONS), default="moco")
    parser.set_defaults(run=draw_preview)
    return cli.run(parser, argv)


if __name__ == "__main__":
    raise SystemExit(main())
