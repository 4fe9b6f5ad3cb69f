"""The small files of a finished store: its tables, and `store.json`, which marks it as complete."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int64

from datasets.files import sync, write_text_atomically
from datasets.images.masks import BUILDING, DAMAGES, UNCLASSIFIED
from datasets.tiles.build import FORMAT
from datasets.tiles.cutting import MASKS, PARTNER_MASKS, Cut
from datasets.tiles.journal import Note
from datasets.tiles.pairs import PairFiles, Problem
from datasets.tiles.request import BuildRequest

INFO = "store.json"
SMALL = ("tiles.parquet", "pairs.parquet", "counts.npy")
SUBTYPES = (BUILDING, *DAMAGES, UNCLASSIFIED)  # the order of their columns


@dataclass(frozen=True, kw_only=True)
class StoreInfo:
    """The content of `store.json`."""

    format: int
    signature: str
    """Of the files it was made from: names, sizes, times."""
    fingerprint: str
    """Of what it holds."""
    size: int
    bands: int
    dtype: str
    files: Mapping[str, int]
    """Bytes of each file besides this one."""
    digests: Mapping[str, str]
    """Digests of the small files. The arrays are too large to be read at each start; they are checked by size."""
    left_out: tuple[Problem, ...]
    """Problems met while its pairs were read."""


@dataclass(frozen=True, kw_only=True)
class StoreContent:
    """What the arrays of a store hold."""

    pairs: Sequence[PairFiles]
    """In the order of their tiles."""
    notes: Sequence[Note]
    """One for each pair."""
    dtype: str
    """Of the images."""


def write_store_files(work: Path, request: BuildRequest, content: StoreContent, problems: Sequence[Problem]) -> None:
    """Write the tables beside the arrays in the folder `work`, and last of all `store.json`.

    `problems` say why pairs of the request are absent.
    """
    pairs, notes, cut = content.pairs, content.notes, request.cut
    counts = np.stack([_counts(notes, name, cut) for name in (MASKS, PARTNER_MASKS)])
    tables = {"tiles": _tiles(pairs, notes, cut, counts), "pairs": _pairs(pairs, notes)}
    for name, table in tables.items():
        table.to_parquet(work / f"{name}.parquet", index=False)
    np.save(work / "counts.npy", counts)
    files = sorted(path for path in work.iterdir() if path.suffix in (".npy", ".parquet"))
    info = StoreInfo(
        format=FORMAT,
        signature=request.signature,
        fingerprint=_fingerprint(content, cut),
        size=cut.size,
        bands=cut.bands,
        dtype=content.dtype,
        files={path.name: path.stat().st_size for path in files},
        digests={name: _digest(work / name) for name in SMALL},
        left_out=tuple(sorted(problems)),
    )
    for path in files:
        sync(path)
    write_text_atomically(work / INFO, json.dumps(asdict(info), indent=1))


def read_info(folder: Path) -> StoreInfo | str:
    """The `store.json` of a folder, or the reason why its store cannot be used."""
    path = folder / INFO
    if not folder.is_dir():
        return "there is none yet"
    try:
        content = json.loads(path.read_text())
        info = StoreInfo(**{**content, "left_out": tuple(Problem(**problem) for problem in content["left_out"])})
        if info.format != FORMAT:
            return f"it has format {info.format}, not {FORMAT}"
        for name, size in info.files.items():
            if (there := (folder / name).stat().st_size) != size:
                return f"{name} has {there} bytes instead of {size}"
        for name, digest in info.digests.items():
            if _digest(folder / name) != digest:
                return f"{name} has another content than it had"
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        return f"it is damaged ({error})"
    return info


def _digest(path: Path) -> str:
    return blake2b(path.read_bytes(), digest_size=16).hexdigest()


def _counts(notes: Sequence[Note], name: str, cut: Cut) -> Int64[np.ndarray, "tiles classes"]:
    """Pixels of each class in the masks called `name`; both kinds of mask have equally many columns."""
    met = (int(number) for note in notes for of_mask in note.counts.values() for tile in of_mask for number in tile)
    classes = 1 + max((*cut.noisy_classes, *met), default=0)
    counts = np.zeros((sum(note.tiles for note in notes), classes), np.int64)
    for note in notes:
        for tile, of_tile in enumerate(note.counts.get(name, ())):
            for number, pixels in of_tile.items():
                counts[note.first + tile, int(number)] = pixels
    return counts


def _tiles(
    pairs: Sequence[PairFiles], notes: Sequence[Note], cut: Cut, counts: Int64[np.ndarray, "2 tiles classes"]
) -> pd.DataFrame:
    which = np.repeat(np.arange(len(pairs)), [note.tiles for note in notes])
    in_grid = np.concatenate([np.arange(note.tiles) for note in notes])
    across = np.array([note.across for note in notes])[which]
    image, partner = (counts[:, :, list(cut.noisy_classes)].sum(axis=2) > 0).astype(bool)
    both = np.array([pair.mask is not None and pair.partner_mask is not None for pair in pairs])
    given = np.array([-1 if pair.noisy is None else int(pair.noisy) for pair in pairs])[which]
    labelled = ["partner" if pair.partner_mask else "image" if pair.mask else "" for pair in pairs]
    return pd.DataFrame(
        {
            **{name: np.array([getattr(pair, of) for pair in pairs], object)[which] for name, of in NAMES.items()},
            "top": in_grid // across * cut.size,
            "left": in_grid % across * cut.size,
            "noisy": np.where(given < 0, partner & ~image & both[which], given == 1),
            "labelled": np.array(labelled, object)[which],
            "number": np.arange(len(which)),
        }
    )


NAMES = {
    "pair": "name",
    "group": "group",
    "split": "split",
}  # columns of both tables, and the attribute of the pair that each has


def _pairs(pairs: Sequence[PairFiles], notes: Sequence[Note]) -> pd.DataFrame:
    met = {subtype for note in notes for subtype in note.buildings}
    return pd.DataFrame(
        {
            **{name: np.array([getattr(pair, of) for pair in pairs], object) for name, of in NAMES.items()},
            "tiles": np.array([note.tiles for note in notes], np.int64),
            **{
                subtype: np.array([note.buildings.get(subtype, 0) for note in notes], np.int64)
                for subtype in SUBTYPES
                if subtype in met
            },
        }
    )


def _fingerprint(content: StoreContent, cut: Cut) -> str:
    said: list[Any] = [asdict(cut), content.dtype]
    for pair, note in zip(content.pairs, content.notes, strict=True):
        masks = [pair.mask is not None, pair.partner_mask is not None]
        said.append([pair.name, pair.group, pair.split, pair.noisy, *masks, note.across, note.digest])
    return blake2b(json.dumps(said).encode(), digest_size=8).hexdigest()
