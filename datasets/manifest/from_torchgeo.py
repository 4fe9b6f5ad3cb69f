"""Writes a torchgeo data set of image pairs as one Parquet file, which `--data` reads.

torchgeo is imported here alone, and a sweep does not need it.
"""

import ast
import difflib
import importlib
import inspect
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import imagecodecs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tifffile
from jaxtyping import Shaped, UInt8
from tqdm import tqdm

from datasets.errors import InputError, describe_error, one_line
from datasets.outside import import_module_of
from datasets.tiles.pairs import Problem, ProblemsError
from datasets.types import IGNORED

Kind = Literal["uint8", "uint16", "float32"]
KINDS: tuple[Kind, ...] = ("uint8", "uint16", "float32")
MASKS = ("t1_mask", "t2_mask")
SPLITS = {"train": ("train",), "val": ("val", "validation", "valid"), "test": ("test",)}
"""Our splits, and what torchgeo's data sets call them."""
LOOKED_AT = 8
"""Samples of each split that decide how pixels are stored."""
_GROUP = 2**26  # bytes of a row group, about
_PNG_BANDS = (1, 3)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to write, and how."""

    dtype: Kind | None = None
    """How pixels are stored; None: as the smallest kind that holds the first samples."""
    mask: str = "change_mask"
    """What a sample's one `mask` is: the column it is written to."""
    times: tuple[int, int] | None = None
    """Which two of several images are the pair, from 0; None: there must be two."""


def open_sets(name: str, root: Path, splits: Sequence[str], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The data sets of a class by our splits.

    Args:
        name: of a class of `torchgeo.datasets`, or `package.module:Class`.
        root: where its files are.
        splits: its splits, by its own names; empty: those of the usual names that it has.
        settings: further arguments of the class.

    Raises:
        InputError: there is no such class, or it finds no data there.
    """
    kind = _class(name)
    parameters = inspect.signature(kind).parameters
    if unknown := [one for one in settings if one not in parameters]:
        raise InputError(f"--set {unknown[0]}=...: {name} has no such argument; valid are {', '.join(parameters)}")
    if "split" not in parameters:
        return {"": _opened(name, kind, {"root": root, **settings})}
    wanted = {split: (split,) for split in splits} if splits else SPLITS
    found: dict[str, Any] = {}
    reason = ""
    for split, names in wanted.items():
        for one in names:
            try:
                found[split] = _opened(name, kind, {"root": root, "split": one, **settings})
                break
            except _NoSuchSplit as error:
                reason = f"{one}: {error}"
                if splits:
                    raise InputError(f"--splits {one}: {name} refuses it ({error})") from error
    if not found:
        raise InputError(f"{name}: refuses the splits train, val and test ({reason}); name its own with --splits")
    return found


def write_pairs(sets: Mapping[str, Any], out: Path, wanted: Wanted) -> dict[str, int]:
    """Write all samples to a Parquet file, which appears when it is complete.

    Returns:
        The number of pairs in each split.

    Raises:
        InputError: the file exists, or cannot be written.
        ProblemsError: samples cannot be used. It lists all of them.
    """
    if out.exists():
        raise InputError(f"{out} exists; name another file with --out, or delete it")
    dtype = wanted.dtype or _smallest(sets, wanted)
    schema = _schema(wanted)
    part = out.with_name(f".{out.name}.part")
    problems: list[Problem] = []
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(part, schema, compression="none") as writer:  # the images are compressed
            rows, size = [], 0
            for row in _rows(sets, wanted, dtype, problems):
                rows.append(row)
                size += sum(len(value) for value in row.values() if isinstance(value, bytes))
                if size > _GROUP:
                    writer.write_table(pa.Table.from_pylist(rows, schema=schema))
                    rows, size = [], 0
            if rows:
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
        if problems:
            raise ProblemsError(out, problems, "nothing was written")
        part.replace(out)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror or describe_error(error)})") from error
    finally:
        part.unlink(missing_ok=True)
    return {split: len(samples) for split, samples in sets.items()}


# --- classes


class _NoSuchSplit(Exception):
    """A class does not know a split."""


def _class(name: str) -> Callable[..., Any]:
    if ":" in name:
        module: Any = import_module_of(name, f"CLASS {one_line(name, most=120)}")
    else:
        try:
            module = importlib.import_module("torchgeo.datasets")
        except ImportError as error:
            why = describe_error(error)
            raise InputError(
                f"torchgeo cannot be imported ({why}): pip install torchgeo, for this command only"
            ) from error
    attribute = name.rpartition(":")[2]
    if not inspect.isclass(found := getattr(module, attribute, None)):
        near = difflib.get_close_matches(attribute, [one for one in dir(module) if one[0].isupper()], n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise InputError(f"{module.__name__} has no class {one_line(attribute, most=60)}{meant}")
    return found


def _opened(name: str, kind: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    try:
        return kind(**arguments)
    except (AssertionError, ValueError, KeyError) as error:  # how these classes refuse an argument
        if "split" in arguments:
            raise _NoSuchSplit(describe_error(error)) from error
        raise InputError(f"{name}: {type(error).__name__}: {describe_error(error)}") from error
    except Exception as error:  # torchgeo has errors of its own for absent data
        raise InputError(f"{name}: {type(error).__name__}: {describe_error(error)}") from error


# --- samples


def _schema(wanted: Wanted) -> pa.Schema:
    texts, images = ("image_name", "split"), ("t1_image", "t2_image", *dict.fromkeys((*MASKS, wanted.mask)))
    return pa.schema([*((name, pa.string()) for name in texts), *((name, pa.binary()) for name in images)])


def _rows(
    sets: Mapping[str, Any], wanted: Wanted, dtype: Kind, problems: list[Problem]
) -> Iterator[dict[str, str | bytes]]:
    for split, samples in sets.items():
        for number in tqdm(range(len(samples)), desc=split or "all", unit="pair", disable=None):
            name = f"{split}-{number:06}" if split else f"{number:06}"
            try:
                images, masks = _pair(samples[number], wanted)
                row: dict[str, str | bytes] = {"image_name": name, "split": split}
                row |= {f"t{time}_image": _encoded(image, dtype) for time, image in zip((1, 2), images, strict=True)}
                yield {**row, **{column: bytes(imagecodecs.png_encode(mask)) for column, mask in masks.items()}}
            except Exception as error:  # those of a data set, too
                what = (
                    str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {describe_error(error)}"
                )
                problems.append(Problem(where=f"sample {number} of {split or 'all'}", what=what))


def _pair(
    sample: Mapping[str, Any], wanted: Wanted
) -> tuple[Sequence[Shaped[np.ndarray, "h w b"]], dict[str, UInt8[np.ndarray, "h w"]]]:
    """Both images, and the masks by column."""
    if "image1" in sample and "image2" in sample:
        images = [np.asarray(sample[name]) for name in ("image1", "image2")]
    elif "image" in sample:
        images = list(np.asarray(sample["image"]))
        if np.ndim(sample["image"]) != 4:
            raise InputError(f"its image has the shape {_shape(sample['image'])}; (2, bands, height, width) is needed")
    else:
        raise InputError(f"has {', '.join(map(str, sample))}, but neither image nor image1 and image2")
    times = wanted.times or (0, 1)
    if wanted.times is None and len(images) != 2:
        raise InputError(f"has {len(images)} images; say which two make a pair, as in --times 0 {len(images) - 1}")
    if max(times) >= len(images):
        raise InputError(f"has {len(images)} images, but --times names {max(times)}; they count from 0")
    chosen = [images[time] for time in times]
    if any(image.ndim != 3 for image in chosen) or chosen[0].shape != chosen[1].shape:
        raise InputError(f"its images have the shapes {' and '.join(map(_shape, chosen))}; they must agree")
    masks = {}
    for column, name in (("t1_mask", "mask1"), ("t2_mask", "mask2"), (wanted.mask, "mask")):
        if name in sample:
            masks[column] = _mask(np.asarray(sample[name]), chosen[0].shape[1:])
    if "change_mask" in masks and not any(set(np.unique(masks["change_mask"])) <= {0, one} for one in (1, IGNORED)):
        shown = ", ".join(map(str, np.unique(masks["change_mask"])[:5].tolist()))
        raise InputError(
            f"its mask has the values {shown}, but one of changes has 0 and 1, or 0 and 255: if it shows classes of "
            "the second image, add --mask t2_mask (of the first, t1_mask)"
        )
    return [np.ascontiguousarray(image.transpose(1, 2, 0)) for image in chosen], masks


def _mask(mask: np.ndarray, size: tuple[int, ...]) -> UInt8[np.ndarray, "h w"]:
    flat = mask.reshape(mask.shape[-2:]) if mask.ndim > 2 and mask.size == np.prod(mask.shape[-2:]) else mask
    if flat.shape != size:
        raise InputError(f"its mask has the shape {_shape(mask)}, but its images {_shape(np.empty(size))}")
    classes = flat.astype(np.int64)
    if (classes != flat).any() or classes.min() < 0 or classes.max() > IGNORED:
        raise InputError(f"its mask has values from {flat.min():g} to {flat.max():g}; valid are 0 to {IGNORED}")
    return np.ascontiguousarray(classes.astype(np.uint8))


def _shape(array: Any) -> str:
    return f"({', '.join(map(str, np.shape(array)))})"


# --- pixels


def _smallest(sets: Mapping[str, Any], wanted: Wanted) -> Kind:
    """The smallest kind that holds the pixels of some samples of each split."""
    kinds: list[Kind] = ["uint8"]
    for samples in sets.values():
        for number in sorted(set(np.linspace(0, len(samples) - 1, LOOKED_AT).astype(int).tolist())) * bool(
            len(samples)
        ):
            try:
                images, _ = _pair(samples[number], wanted)
            except Exception:  # `_rows` lists it
                continue
            kinds.append(next(kind for kind in KINDS if all(_holds(kind, image) for image in images)))
    return max(kinds, key=KINDS.index)


def _holds(kind: Kind, image: np.ndarray) -> bool:
    if kind == "float32":
        return True
    whole = bool(np.isfinite(image).all()) and bool((image == np.floor(image)).all())
    return whole and bool(image.min() >= 0) and bool(image.max() <= np.iinfo(kind).max)


def _encoded(image: Shaped[np.ndarray, "h w b"], dtype: Kind) -> bytes:
    if not _holds(dtype, image):
        raise InputError(
            f"has values from {np.nanmin(image):g} to {np.nanmax(image):g}, which {dtype} does not hold; add "
            f"--dtype {'uint16' if dtype == 'uint8' and _holds('uint16', image) else 'float32'}"
        )
    pixels = image.astype(dtype)
    if dtype != "float32" and pixels.shape[2] in _PNG_BANDS:
        return bytes(imagecodecs.png_encode(pixels[..., 0] if pixels.shape[2] == 1 else pixels))
    content = io.BytesIO()
    tifffile.imwrite(
        content,
        pixels,
        photometric="minisblack",
        planarconfig="contig",
        compression="zlib",
        predictor=True,
        metadata=None,
    )
    return content.getvalue()


def parse_settings(words: Sequence[str]) -> dict[str, Any]:
    """`NAME=VALUE` as arguments: values are written as in Python, or are text.

    Raises:
        InputError: a word has no equals sign.
    """
    settings: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise InputError(f"--set {word!r}: write it as NAME=VALUE")
        try:
            settings[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            settings[name] = value
    return settings
