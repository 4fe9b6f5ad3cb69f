"""The command line of manifests: write a list from folders, check every file and summarise them, or draw some pairs."""

import argparse
import re
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
from datasets.manifest.batches import address_of
from datasets.manifest.config import ManifestSettings
from datasets.manifest.holdout import HoldOut
from datasets.manifest.init import Folders, list_pairs, write_list
from datasets.manifest.source import CHECK, SHOWN, build_store, needs_scale, read_listing, tile_source
from datasets.manifest.statistics import band_statistics, sample_rows
from datasets.source import Place
from datasets.tiles.pairs import left_out_notes
from datasets.tiles.source import USUAL_SHARE, TileSource, check_change, class_pixels, labelled, split_counts
from datasets.tiles.splits import undersample
from datasets.tiles.store import Store
from datasets.types import SPLITS

PRESET = ManifestSettings(size=64, min_share=USUAL_SHARE)
"""The settings of the preset `manifest`."""
RATES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""The noisy-pairs rates of a sweep on a manifest by default."""
FEW = 64
"""Training pairs below which a batch may be larger than the set it is drawn from."""
MAX_PAIRS = 50
"""Rows of a preview; Pillow and browsers fail above 65,535 px."""
ENOUGH = 2**28
"""Pixel values for mean and standard deviation; reading all of a large set would take many minutes."""


def check_manifest(args: argparse.Namespace) -> None:
    """Read every file; list all problems, or summarise the pairs and print the next command."""
    settings = settings_from(args)
    listing = read_listing(args.file, settings)
    store = build_store(
        listing, settings, Place(root=args.file, store=args.store, skip_bad=args.skip_bad), jobs=args.jobs
    )
    for line in left_out_notes(listing.in_rows(store.left_out), CHECK):
        print(line)
    source = tile_source(listing, settings, store)
    if source.no_classes:
        check_change(source.aimed("change"))
    rows = np.flatnonzero(source.split == SPLITS.index("train"))
    chosen = sample_rows(rows, ENOUGH // (2 * store.size**2 * store.bands))
    absent = [float(value) for value in settings.nodata if value != "alpha"]
    mean, std, constant = band_statistics(store, chosen, absent)
    numbers = [f"{number:.5g}" for number in (*mean, *std)]
    scale = ["--data.mean", *numbers[: len(mean)], "--data.std", *numbers[len(mean) :]]
    blocks = [source.title, table_by_group(store), table_by_split(source)]
    blocks += [table_by_class(one) for one in predictable(source)]
    number = "all" if len(chosen) == len(rows) else f"{len(chosen):,} of {len(rows):,}"
    blocks.append(f"mean and std of each band of {number} training tiles\n{' '.join(scale)}")
    print("\n\n".join(blocks))
    if constant:
        print(f"all pixels are equal (std is given as 1, not 0) in band {', '.join(map(str, constant))}")
    for line in source.notes:
        if not line.startswith("left out"):  # printed above
            print(f"note: {line}")
    if note := small_set_note(source):
        print(f"note: {note}")
    needed = scale if needs_scale(settings, store.dtype) else []
    print(f"\nnext:\n{next_command(args, settings, source, needed)}")


def settings_from(args: argparse.Namespace) -> ManifestSettings:
    """The settings from the flags."""
    return ManifestSettings(
        size=args.size,
        bands=args.bands,
        select=tuple(args.select),
        nodata=tuple(args.nodata),
        align=args.align,
        classes=tuple(args.classes),
        noisy_classes=tuple(args.noisy_classes),
        dense_labels=args.dense_labels,
        columns=tuple(args.columns),
        holdout=tuple(args.holdout),
        holdout_seed=args.holdout_seed,
    )


def small_set_note(source: TileSource) -> str:
    """A note if the set of a rate is smaller than a usual batch; else empty."""
    clean, noisy = split_counts(source)[["clean", "noisy"]].to_numpy()[SPLITS.index("train")].tolist()
    if not clean or not noisy:
        return ""
    number, rho = min((sum(undersample(clean, noisy, rho)), rho) for rho in RATES)
    if number >= FEW:
        return ""
    return (
        f"at rho {rho:g} there are {number} training pairs: lower --pretrain.batch to {number}, or leave the rate out"
    )


def table_by_group(store: Store) -> str:
    """Number of pairs of each group in each split."""
    names = store.pairs["group"].replace("", "(no group)")
    table = pd.crosstab(names, store.pairs["split"]).reindex(columns=list(SPLITS), fill_value=0)
    total = table.sum()
    if not store.pairs["group"].any():
        table = table[:0]
    table.loc["all pairs"] = total
    return table.rename_axis(index=None, columns=None).to_string(formatters=dict.fromkeys(SPLITS, "{:,}".format))


def table_by_split(source: TileSource) -> str:
    """Tiles of each split, and the shares that are noisy and that have a mask."""
    counts = split_counts(source)
    masked = labelled(source)
    counts["noisy, %"] = 100 * counts["noisy"] / counts["tiles"]
    counts["labelled, %"] = 100 * np.bincount(source.split[masked], minlength=len(counts)) / counts["tiles"]
    columns = ["tiles", "clean", "noisy", "noisy, %", "labelled, %"]
    return counts[columns].to_string(formatters=dict.fromkeys(columns[:3], "{:,}".format), float_format="%.1f")


def predictable(source: TileSource) -> list[TileSource]:
    """The tiles for the targets that a probe can predict: classes, change."""
    change = source.aimed("change")
    return [*([] if source.no_classes else [source]), *([change] if labelled(change).any() else [])]


def table_by_class(source: TileSource) -> str:
    """The share of each class in the pixels that are not ignored, by split, without classes that no mask shows."""
    pixels = pd.DataFrame({split: class_pixels(source, split) for split in SPLITS}, index=pd.Index(source.classes))
    shares = 100 * pixels / pixels.sum()
    return shares[pixels.any(axis=1)].rename(columns="{}, %".format).to_string(float_format="%.3f")


def next_command(
    args: argparse.Namespace, settings: ManifestSettings, source: TileSource, scale_words: Sequence[str]
) -> str:
    """The command of a sweep on these pairs, with the flags that they need."""
    words = ["python", "-m", "sweep.run", "manifest", "--data", address_of(args.file) or str(args.file)]
    for name in ("size", "bands"):
        if (value := getattr(settings, name)) != getattr(PRESET, name):
            words += [f"--data.{name}", str(value)]
    for name in ("select", "nodata"):
        if values := getattr(settings, name):
            words += [f"--data.{name}", *map(str, values)]
    if settings.align != PRESET.align:
        words += ["--data.align", settings.align]
    if settings.classes:
        words += ["--data.classes", *settings.classes]
    if settings.noisy_classes:
        words += ["--data.noisy-classes", *map(str, settings.noisy_classes)]
    if settings.dense_labels != PRESET.dense_labels:
        words += ["--data.dense-labels", settings.dense_labels]
    if settings.columns:
        words += ["--data.columns", *settings.columns]
    if settings.holdout:
        words += ["--data.holdout", *(f"{share:g}" for share in settings.holdout)]
    if settings.holdout_seed:
        words += ["--data.holdout-seed", str(settings.holdout_seed)]
    words += scale_words
    if settings.bands != 3:
        words += ["--augment.hue", "0"]  # a sweep refuses to change the hue of images that are not RGB
    if not split_counts(source).loc["train", "noisy"]:
        words += ["--rho", "0"]
    if source.no_classes:
        words += ["--probe.target", "change"]
    if args.store:
        words += ["--store", str(args.store)]
    if args.skip_bad:
        words += ["--skip-bad"]
    name = re.sub(r"[*?\[\]]+", "", args.file.stem).strip("-") or args.file.parent.name  # of a pattern
    return shlex.join([*words, "--out", f"results/{name}"])


def draw_preview(args: argparse.Namespace) -> None:
    """Draw some pairs."""
    from datasets.manifest.preview import sample_pairs, save_preview  # imports matplotlib, which takes a second

    if not 1 <= args.pairs <= MAX_PAIRS:
        raise InputError(f"--pairs {args.pairs}: must be from 1 to {MAX_PAIRS}")
    if args.seed < 0:
        raise InputError(f"--seed {args.seed}: must be 0 or more")
    settings, amount = settings_from(args), cli.amounts(args)
    listing = read_listing(args.file, settings)
    if not listing.pairs:
        raise listing.refusal(listing.problems)
    if listing.problems:
        print(f"{args.file}: {len(listing.problems)} problems, which `check` lists", file=sys.stderr)
    chosen = sample_pairs(listing.pairs, args.pairs, args.seed)
    # A temporary store of these pairs: reading all pairs would take minutes.
    with tempfile.TemporaryDirectory(prefix="manifest-preview-") as folder:
        place = Place(store=Path(folder), skip_bad=True)
        store = build_store(replace(listing, pairs=chosen, problems=()), settings, place, quiet=True)
        for line in left_out_notes(listing.in_rows(store.left_out), CHECK, most=SHOWN):
            print(line, file=sys.stderr)
        save_preview(args.out, listing, store, settings.classes, amount)
    print(args.out)


def write_manifest(args: argparse.Namespace) -> None:
    """Write the list of the pairs in two folders."""
    if not all(0 <= share < 1 for share in args.holdout) or sum(args.holdout) >= 1:
        raise InputError("--holdout: give two shares, of val and test, which leave pairs to train on, as in 0.2 0.2")
    if args.holdout_seed < 0:
        raise InputError(f"--holdout-seed {args.holdout_seed}: must be 0 or more")
    folders = Folders(image=args.before, partner=args.after, mask=args.masks_before, partner_mask=args.masks_after)
    val, test = args.holdout
    drawn = HoldOut(val, test, args.holdout_seed)
    listed = list_pairs(folders, args.out, holdout=drawn, group=args.group, noisy=args.noisy)
    write_list(args.out, listed.rows)
    print("\n".join(listed.lines))
    print(f"\nnext:\npython -m datasets.manifest check {shlex.quote(str(args.out))}")


def add_init(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The command `init` and its options."""
    about = "write the list of pairs from two folders, matched by name, stem or number"
    command = commands.add_parser("init", help=about, description=about)
    command.add_argument(
        "before", type=cli.local_path, metavar="BEFORE", help="folder of the first images, or 'pattern'"
    )
    command.add_argument("after", type=cli.local_path, metavar="AFTER", help="folder of their partners, or 'pattern'")
    for name, of in (("before", "first images"), ("after", "partners")):
        about = f"folder of the masks of the {of}"
        command.add_argument(f"--masks-{name}", type=cli.local_path, metavar="DIR", help=about)
    command.add_argument(
        "--noisy", type=cli.local_path, metavar="FILE", help="names of the noisy pairs, one in each line"
    )
    command.add_argument(
        "--group",
        default="",
        metavar="REGEX",
        help="part of an image's name that is its place (default: its folder)",
    )
    command.add_argument(
        "--holdout", type=float, nargs=2, default=[0.2, 0.2], metavar="SHARE", help="shares of val and test (0.2 0.2)"
    )
    command.add_argument("--holdout-seed", type=int, default=0, help="seed of that draw (%(default)s)")
    command.add_argument("--out", type=cli.local_path, required=True, metavar="FILE.csv", help="list to write")
    command.set_defaults(run=write_manifest)


def write_torchgeo(args: argparse.Namespace) -> None:
    """Write a torchgeo data set as a Parquet file."""
    from datasets.manifest import from_torchgeo as torchgeo  # slow to import, and of use to this command alone

    wanted = torchgeo.Wanted(dtype=args.dtype, mask=args.mask, times=tuple(args.times) if args.times else None)
    settings = torchgeo.parse_settings(args.set)
    sets = torchgeo.open_sets(args.name, args.root, args.splits, settings)
    counts = torchgeo.write_pairs(sets, args.out, wanted)
    print(f"{args.out}: {', '.join(f'{count:,} {split}' for split, count in counts.items())} pairs")
    lacking = [split for split in SPLITS if not counts.get(split)]
    drawn = f" --holdout {0.2 * ('val' in lacking):g} {0.2 * ('test' in lacking):g}" if lacking else ""
    print(f"\nnext:\npython -m datasets.manifest check {shlex.quote(str(args.out))}{drawn}")


def add_torchgeo(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The command `from-torchgeo` and its options."""
    about = "write a torchgeo data set of image pairs as a Parquet file (needs: pip install torchgeo)"
    command = commands.add_parser("from-torchgeo", help=about, description=about)
    command.add_argument("name", metavar="CLASS", help="of torchgeo.datasets, such as OSCD; or package.module:Class")
    command.add_argument("--root", type=cli.local_path, required=True, metavar="DIR", help="folder of its files")
    command.add_argument("--out", type=cli.local_path, required=True, metavar="FILE.parquet", help="file to write")
    command.add_argument(
        "--splits", nargs="+", default=(), help="its splits (default: train, val, test, as far as it has them)"
    )
    command.add_argument("--set", nargs="+", default=(), metavar="NAME=VALUE", help="further arguments of the class")
    command.add_argument(
        "--mask",
        choices=("t1_mask", "t2_mask", "change_mask"),
        default="change_mask",
        help="what a sample's mask shows: classes of the first or second image, or what changed (%(default)s)",
    )
    command.add_argument(
        "--dtype", choices=("uint8", "uint16", "float32"), help="of the pixels (default: the smallest that holds them)"
    )
    command.add_argument(
        "--times", type=int, nargs=2, metavar="NUMBER", help="which of several images make a pair, from 0"
    )
    command.set_defaults(run=write_torchgeo)


def parser() -> argparse.ArgumentParser:
    """Both commands and their options; those of the settings have the names and defaults of the preset."""
    default = PRESET
    shared = argparse.ArgumentParser(add_help=False)
    about = "CSV or Parquet file that lists the pairs; Parquet files with images (a file, folder, 'pattern' or address)"
    shared.add_argument("file", type=cli.local_path, metavar="FILE", help=about)

    def setting(name: str, kind: type, about: str, nargs: str | None = None) -> None:
        value = getattr(default, name.replace("-", "_"))
        shared.add_argument(f"--{name}", f"--data.{name}", type=kind, nargs=nargs, default=value, help=about)

    setting("size", int, "side of the tiles that images are cut into, px (%(default)s)")
    setting("bands", int, "bands of each image (%(default)s)")
    setting("select", int, "numbers of the bands to read, from 1, from files that have more", nargs="*")
    setting("nodata", str, "pixels that do not count: a number, or alpha", nargs="*")
    shared.add_argument(
        *("--align", "--data.align"),
        choices=("check", "crop", "ignore"),
        default=default.align,
        help="pairs whose coordinates differ: refuse them, use their common part, or ignore that (%(default)s)",
    )
    setting("classes", str, "names of the classes in the order of their labels", nargs="*")
    kinds = ("classes", "binary")
    shared.add_argument(
        *("--dense-labels", "--data.dense-labels"),
        choices=kinds,
        default=default.dense_labels,
        help="what the dense losses distinguish: all classes, or class 0 from all others (%(default)s)",
    )
    setting("noisy-classes", int, "classes in the mask of the partner that make a tile noisy", nargs="*")
    setting("columns", str, "columns of Parquet files with images, as in image=before partner=after", nargs="*")
    setting("holdout", float, "shares of the training pairs that become val and test, as in 0.2 0.2", nargs="*")
    setting("holdout-seed", int, "seed of that draw (%(default)s)")

    whole = argparse.ArgumentParser(prog="python -m datasets.manifest", description=__doc__)
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    about = "read every file; list all problems, or summarise the pairs and print the next command"
    command = commands.add_parser("check", parents=[shared], help=about, description=about)
    command.add_argument(
        "--store", type=cli.local_path, metavar="DIR", help="folder of the arrays (default: in the user's cache)"
    )
    command.add_argument("--skip-bad", action="store_true", help="leave out rows with problems, and list them")
    command.add_argument("--jobs", type=int, default=0, help="threads that read images (0: one per core)")
    command.set_defaults(run=check_manifest)
    about = "draw some pairs: image, partner and masks"
    command = commands.add_parser("preview", parents=[shared], help=about, description=about)
    command.add_argument("--out", type=cli.picture, required=True, metavar="FILE.png", help="picture to write")
    command.add_argument("--pairs", type=int, default=6, help="rows of the picture (%(default)s)")
    command.add_argument("--seed", type=int, default=0, help="seed of the draw (%(default)s)")
    cli.add_amounts(command)
    command.set_defaults(run=draw_preview)
    add_init(commands)
    add_torchgeo(commands)
    for command in commands.choices.values():
        # So that -3.4e38 is a number, which it is to argparse from Python 3.14 on; before, it is a flag.
        command._negative_number_matcher = re.compile(r"-(\d+\.?\d*|\.\d+)(e[-+]?\d+)?\Z", re.IGNORECASE)
    return whole


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m datasets.manifest`; see `cli.run`."""
    return cli.run(parser(), argv)


if __name__ == "__main__":
    raise SystemExit(main())
