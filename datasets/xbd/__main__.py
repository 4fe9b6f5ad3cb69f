"""The command line of xBD: convert it to arrays, preview it, or list it as a manifest."""

import argparse
import csv
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from datasets import cli
from datasets.errors import InputError
from datasets.images.read import Embedded, Picture
from datasets.source import Place
from datasets.tiles.pairs import PairFiles, ProblemsError, left_out_notes
from datasets.tiles.source import USUAL_SHARE, format_tables
from datasets.tiles.store import summary
from datasets.types import SPLITS
from datasets.xbd import tree
from datasets.xbd.config import CLASSES, DAMAGED, XbdSettings
from datasets.xbd.source import (
    PREPARE,
    REMEDY,
    SHOWN,
    build_request,
    check_splits,
    draw_splits,
    load,
    notes,
    open_tiles,
)

PRESET = XbdSettings(size=64, min_share=USUAL_SHARE)
"""The settings of the preset `xbd-quick`."""
COLUMNS = ("image", "partner", "split", "mask", "partner_mask", "group")
MAX_TILES = 50
"""Rows of a preview: 50 are 29,000 px high, and Pillow and browsers fail at 65,535."""


def prepare(args: argparse.Namespace) -> None:
    """Convert the images to arrays, then print a summary."""
    settings = XbdSettings(
        size=args.size,
        masks=args.masks,
        unclassified=args.unclassified,
        split_by=args.split_by,
        split_seed=args.split_seed,
    )
    place = Place(root=args.root, store=args.store, skip_bad=args.skip_bad)
    source = load(settings, place, jobs=args.jobs)
    print(source.title)
    print(f"\n{summary(source.store)}\n\n{format_tables(source)}\n")
    for line in (*notes(settings, source, args.root), *left_out_notes(source.store.left_out, PREPARE)):
        print(line)
    print(f"store {source.store.path}\nfingerprint {source.fingerprint}")
    print(f"\na sweep on these tiles:\n{next_command(args, settings)}")


def next_command(args: argparse.Namespace, settings: XbdSettings) -> str:
    """The command of a sweep on the same tiles with the same split."""
    words = ["python", "-m", "sweep.run", "xbd-quick", "--data-root", str(args.root)]
    for name in ("size", "masks", "unclassified", "split_by", "split_seed"):
        if (value := getattr(settings, name)) != getattr(PRESET, name):
            words += [f"--data.{name.replace('_', '-')}", str(value)]
    if args.store:
        words += ["--store", str(args.store)]
    return shlex.join([*words, *(["--skip-bad"] if args.skip_bad else [])])


def draw_preview(args: argparse.Namespace) -> None:
    """Draw some tiles with their masks."""
    from datasets.xbd.preview import choose_tiles, save_preview  # imports matplotlib, which takes a second

    settings, amount = XbdSettings(size=args.size, masks=args.masks, unclassified=args.unclassified), cli.amounts(args)
    if not 1 <= args.tiles <= MAX_TILES:
        raise InputError(f"--tiles {args.tiles}: must be from 1 to {MAX_TILES}")
    if not 1 <= args.zoom <= settings.size:
        raise InputError(f"--zoom {args.zoom}: must be from 1 to {settings.size}, the side of a tile")
    if args.seed < 0:
        raise InputError(f"--seed {args.seed}: must be 0 or more")
    with tempfile.TemporaryDirectory(prefix="xbd-preview-") as folder:
        place = Place(root=args.root, store=args.store or Path(folder), skip_bad=True)
        request = build_request(settings, place, quiet=args.store is None)
        if args.store is None:
            request = replace(request, pairs=_sample(request.pairs, args.tiles, args.seed))
        args.out.parent.mkdir(parents=True, exist_ok=True)
        store = open_tiles(request)
        for line in left_out_notes(store.left_out, PREPARE, most=SHOWN):
            print(line, file=sys.stderr)
        tiles = choose_tiles(store, args.tiles, args.seed).tolist()
        caption = f"xBD: {len(tiles)} tiles of {settings.size} px from {len(store.pairs):,} pairs, seed {args.seed}"
        save_preview(args.out, store, tiles, zoom=args.zoom, caption=caption, misregistration=amount)
    print(args.out)


def _sample(pairs: Sequence[PairFiles], tiles: int, seed: int) -> list[PairFiles]:
    """Draw enough pairs to choose tiles from; reading all of xBD would take minutes."""
    order = np.random.default_rng(seed).permutation(len(pairs))[: max(12, 4 * tiles)]
    return [pairs[place] for place in sorted(order.tolist())]


def write_manifest(args: argparse.Namespace) -> None:
    """List the pairs in a CSV file that can serve as a manifest."""
    settings = XbdSettings(masks=args.masks, split_seed=args.split_seed)
    root = tree.find_root(args.root)
    pairs, problems = tree.list_pairs(root, settings.masks)
    if problems and not args.skip_bad:
        raise ProblemsError(root, problems, REMEDY)
    check_splits(root, {pair.split for pair in pairs}, problems)
    rows = pd.DataFrame({"pair": [pair.name for pair in pairs], "group": [pair.group for pair in pairs]})
    rows["split"] = [pair.split for pair in pairs]
    numbers = draw_splits(rows, split_by="image", seed=settings.split_seed)
    names = [SPLITS[number] for number in numbers.tolist()]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    with open(args.out, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(_row(pair, split, args.out.parent) for pair, split in zip(pairs, names, strict=True))
    for line in (*tree.remarks(root), *left_out_notes(problems, PREPARE)):
        print(line)
    counts = ", ".join(f"{names.count(split):,} {split}" for split in SPLITS)
    print(f"{args.out}: {len(pairs):,} pairs ({counts})")
    print("to use it with the settings of xBD, add")
    print(f"  --data.size 512 --data.noisy-classes {' '.join(map(str, DAMAGED))} --data.dense-labels binary \\")
    print(f"  --data.classes {' '.join(CLASSES)}")


def _row(pair: PairFiles, split: str, folder: Path) -> tuple[str, ...]:
    def relative(path: Picture | None) -> str:
        assert not isinstance(path, Embedded)  # xBD is a tree of files
        return "" if path is None else Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()

    files = relative(pair.mask), relative(pair.partner_mask)
    return relative(pair.image), relative(pair.partner), split, *files, pair.group


def parser() -> argparse.ArgumentParser:
    """The three commands and their options, with the defaults of a sweep."""
    default = XbdSettings()
    shared = argparse.ArgumentParser(add_help=False)
    text = "folder with train (or tier1), tier3 and test"
    shared.add_argument("root", type=cli.local_path, metavar="ROOT", help=text)
    masks = ("polygons", "targets")
    shared.add_argument("--masks", choices=masks, default=default.masks, help="source of the classes (%(default)s)")
    cut = argparse.ArgumentParser(add_help=False)
    cut.add_argument("--size", type=int, default=default.size, help="side of the tiles, px (%(default)s)")
    kinds = ("no-damage", "ignore")
    cut.add_argument(
        "--unclassified",
        choices=kinds,
        default=default.unclassified,
        help="class of un-classified buildings (%(default)s)",
    )
    cut.add_argument("--store", type=cli.local_path, metavar="DIR", help="folder of the arrays")
    skip = argparse.ArgumentParser(add_help=False)
    skip.add_argument("--skip-bad", action="store_true", help="leave out files that cannot be used, and list them")
    skip.add_argument(
        "--split-seed", type=int, default=default.split_seed, help="seed of the validation set (%(default)s)"
    )

    whole = argparse.ArgumentParser(prog="python -m datasets.xbd", description=__doc__)
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    about = "convert the images to arrays (default: in the user's cache); the same command resumes where it stopped"
    command = commands.add_parser("prepare", parents=[shared, cut, skip], help=about, description=about)
    command.add_argument(
        "--split-by",
        choices=("tile", "image"),
        default=default.split_by,
        help="what is drawn for validation: tiles or whole images (%(default)s)",
    )
    command.add_argument("--jobs", type=int, default=0, help="threads that decode images (0: one per core)")
    command.set_defaults(run=prepare)
    about = "draw tiles under their masks; without --store, from pairs that the seed draws"
    command = commands.add_parser("preview", parents=[shared, cut], help=about, description=about)
    command.add_argument("--out", type=cli.picture, required=True, metavar="FILE.png", help="picture to write")
    command.add_argument("--tiles", type=int, default=6, help="rows of the picture (%(default)s)")
    command.add_argument("--seed", type=int, default=0, help="seed of the draw (%(default)s)")
    command.add_argument(
        "--zoom", type=int, default=1, help="show the part of a tile, 1/ZOOM of its side, with most buildings"
    )
    cli.add_amounts(command)
    command.set_defaults(run=draw_preview)
    about = "list the pairs in a CSV file that can serve as a manifest; validation is drawn by image"
    command = commands.add_parser("manifest", parents=[shared, skip], help=about, description=about)
    command.add_argument("--out", type=cli.local_path, required=True, metavar="FILE.csv", help="file to write")
    command.set_defaults(run=write_manifest)
    return whole


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m datasets.xbd`; see `cli.run`."""
    return cli.run(parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
