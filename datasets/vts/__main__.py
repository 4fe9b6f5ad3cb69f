"""Draws Fig. 3 of the paper with our scenes: textures, scene, labels, noisy partners, and the views of a pair."""

import argparse
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from datasets import cli
from datasets.augment import transforms
from datasets.augment.config import MOCO_V2, XVIEW2
from datasets.errors import InputError
from datasets.misregistration import Misregistration
from datasets.pairing import displace, displacements, noisy_sides
from datasets.panels import save_panels
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
    settings: VtsSettings,
    bank: TextureBank,
    *,
    seed: int,
    scene: int,
    augmentation: str,
    amount: Misregistration | None = None,
) -> list[list[tuple[str, np.ndarray]]]:
    """Rows of titles and pictures for training scene number `scene` of `seed`; with an amount also displaced.

    Raises:
        InputError: there is no such scene.
    """
    data = Vts(settings, bank, partial(stream, seed), torch.device("cpu"))
    if not 0 <= scene < data.count("train"):
        raise InputError(f"--scene {scene}: must be from 0 to {data.count('train') - 1}")
    index = torch.tensor([scene])
    yes, no = torch.tensor([True]), torch.tensor([False])
    clean, free = data.pairs("train", index, no, no, 0.0), data.noise_free_labels("train", index)
    textures = [
        (f"texture of {(*CLASSES, 'irrelevant noise')[category]}\n({bank.categories[category]})", bank.image(image))
        for category, image in enumerate(data.scenes["train"].image[scene].tolist())
    ]
    images, labels = data.downstream("train", index)
    downstream = [("downstream image", picture(images)), ("downstream labels", PALETTE[labels[0].numpy()])]
    partners = [("scene", picture(clean.first)), ("noise-free labels", PALETTE[free[0].numpy()])]
    for nu in NUS:
        partners.append((f"noisy partner, nu = {nu:g}", picture(data.pairs("train", index, no, yes, nu).second)))
    if len(bank.categories) > IRRELEVANT:
        irrelevant = data.pairs("train", index, no, yes, NUS[1], noise=IRRELEVANT)
        partners.append((f"irrelevant noise, nu = {NUS[1]:g}", picture(irrelevant.second)))
    if amount:
        maps = displacements(amount, torch.zeros(1), yes, settings.size)
        partners.append((f"misregistered: {amount.text}", picture(displace(clean.first, maps))))
    rows = [textures + downstream, partners]
    pairings: tuple[Pairing, ...] = ("noisy", "exposure")
    for pairing in pairings:
        pair = data.pairs("train", index, *noisy_sides(yes, pairing), NUS[1])
        views = []
        for number, image in ((1, pair.first), (2, pair.second)):
            drawn = transforms.draw(AUGMENTATIONS[augmentation], 1, settings.size, stream(seed, "preview", number))
            view, warped = transforms.apply(image, free, drawn)
            views.append((f"{pairing}, nu = .5: image {number}", picture(image)))
            views.append((f"view {number}", picture(view)))
            views.append((f"its labels {number}", PALETTE[warped[0].numpy()]))
        rows.append(views)
    return rows


def picture(images: Tensor) -> np.ndarray:
    """The first image of a batch, (height, width, 3), from 0 to 1."""
    return images[0].permute(1, 2, 0).clamp(0, 1).numpy()


def draw_preview(args: argparse.Namespace) -> None:
    """Write the picture."""
    amount = cli.amounts(args)
    settings = VtsSettings(
        size=args.size,
        textures=args.textures,
        categories=tuple(args.categories),
        texture_scale=args.texture_scale,
    )
    bank = load_textures(settings, args.data_root)
    caption = f"VTS, {args.size} px, {bank.source} textures, seed {args.seed}, scene {args.scene}"
    rows = panels(settings, bank, seed=args.seed, scene=args.scene, augmentation=args.augmentation, amount=amount)
    save_panels(args.preview, rows, caption=caption, side=1.7)
    print(args.preview)


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m datasets.vts --preview FILE.png`; see `cli.run`."""
    parser = argparse.ArgumentParser(prog="python -m datasets.vts", description=__doc__)
    parser.add_argument("--preview", type=cli.picture, required=True, metavar="FILE.png", help="picture to write")
    parser.add_argument("--size", type=int, default=256, help="side of the scene, px (256)")
    parser.add_argument("--textures", choices=("procedural", "folder", "dtd"), default="procedural")
    parser.add_argument(
        "--data-root", type=cli.local_path, help="folder of texture images, for --textures folder or dtd"
    )
    parser.add_argument(
        "--categories",
        nargs="+",
        default=(),
        help="first class, second class, noise, and optionally irrelevant noise",
    )
    parser.add_argument(
        "--texture-scale",
        type=float,
        default=1.0,
        help="factor by which texture images from files are shrunk first (1)",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scene", type=int, default=0, help="number of the training scene")
    parser.add_argument("--augmentation", choices=tuple(AUGMENTATIONS), default="moco")
    cli.add_amounts(parser)
    parser.set_defaults(run=draw_preview)
    return cli.run(parser, argv)


if __name__ == "__main__":
    raise SystemExit(main())
