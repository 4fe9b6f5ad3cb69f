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
from datasets.tiles.build import JoinedPair
from datasets.tiles.cutting import IMAGES, Cut
from datasets.tiles.earlier import SOURCES, sources_table
from datasets.tiles.pairs import Problem
from datasets.tiles.request import FORMAT, BuildRequest

INFO = "store.json"
SMALL = ("tiles.parquet", "pairs.parquet", "counts.npy", SOURCES)
SUBTYPES = (BUILDING, *DAMAGES, UNCLASSIFIED)  # the order of their columns


@dataclass(frozen=True, kw_only=True)
class StoreInfo:
    """The content of `store.json`."""

    format: int
    signature: str
    """Of the source files: names, sizes, times."""
    fingerprint: str
    """Of the content."""
    size: int
    bands: int
    dtype: str
    files: Mapping[str, int]
    """Size of each other file, bytes."""
    digests: Mapping[str, str]
    """Digests of the small files. The arrays are too large to read at each start; only their sizes are checked."""
    left_out: tuple[Problem, ...]
    """Problems found when its pairs were read."""


def write_store_files(request: BuildRequest, joined: Sequence[JoinedPair], problems: Sequence[Problem]) -> None:
    """Write the tables into the work folder, which has the arrays, and `store.json` last.

    Args:
        request: what the store is built for.
        joined: the pairs in the arrays, in order.
        problems: why the other pairs of the request are absent.
    """
    work, cut = request.work, request.cut
    counts = _counts(joined, cut)
    _tiles(joined, cut, counts).to_parquet(work / "tiles.parquet", index=False)
    _pairs(joined).to_parquet(work / "pairs.parquet", index=False)
    keys = [request.keys[one.pair.name] for one in joined]
    sources_table(keys, [one.tiles for one in joined]).to_parquet(work / SOURCES, index=False)
    np.save(work / "counts.npy", counts)
    dtype = np.load(work / f"{IMAGES}.npy", mmap_mode="r", allow_pickle=False).dtype.name
    files = sorted(path for path in work.iterdir() if path.suffix in (".npy", ".parquet"))
    info = StoreInfo(
        format=FORMAT,
        signature=request.signature,
        fingerprint=_fingerprint(joined, cut, dtype),
        size=cut.size,
        bands=cut.bands,
        dtype=dtype,
        files={path.name: path.stat().st_size for path in files},
        digests={name: _digest(work / name) for name in SMALL},
        left_out=tuple(sorted(problems)),
    )
    for path in files:
        sync(path)
    write_text_atomically(work / INFO, json.dumps(asdict(info), indent=1))


def read_info(folder: Path) -> StoreInfo | str:
    """The `store.json` of a folder, or why its store cannot be used."""
    path = folder / INFO
    if not folder.is_dir():
        return "it does not exist"
    try:
        content = json.loads(path.read_text())
        info = StoreInfo(**{**content, "left_out": tuple(Problem(**problem) for problem in content["left_out"])})
        if info.format != FORMAT:
            return f"it has format {info.format}, not {FORMAT}"
        for name, size in info.files.items():
            if (actual := (folder / name).stat().st_size) != size:
                return f"{name} has {actual} bytes instead of {size}"
        for name, digest in info.digests.items():
            if _digest(folder / name) != digest:
                return f"the content of {name} has changed"
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        return f"it is damaged ({error})"
    return info


def _digest(path: Path) -> str:
    return blake2b(path.read_bytes(), digest_size=16).hexdigest()


def _counts(joined: Sequence[JoinedPair], cut: Cut) -> Int64[np.ndarray, "2 tiles classes"]:
    """Pixels of each class. The last column is the largest class in any mask or in the noisy classes of the cut."""
    classes = max(1, *(number + 1 for number in cut.noisy_classes), *(one.tiles.counts.shape[2] for one in joined))
    padding = (((0, 0), (0, 0), (0, classes - one.tiles.counts.shape[2])) for one in joined)
    return np.concatenate([np.pad(one.tiles.counts, pad) for one, pad in zip(joined, padding, strict=True)], axis=1)


def _tiles(joined: Sequence[JoinedPair], cut: Cut, counts: Int64[np.ndarray, "2 tiles classes"]) -> pd.DataFrame:
    numbers = [one.tiles.counts.shape[1] for one in joined]
    owner = np.repeat(np.arange(len(joined)), numbers)
    in_grid = np.concatenate([np.arange(number) for number in numbers])
    across = np.array([one.across for one in joined])[owner]
    image, partner = (counts[:, :, list(cut.noisy_classes)].sum(axis=2) > 0).astype(bool)
    pairs = [one.pair for one in joined]
    both = np.array([pair.mask is not None and pair.partner_mask is not None for pair in pairs])
    given = np.array([-1 if pair.noisy is None else int(pair.noisy) for pair in pairs])[owner]
    labelled = ["partner" if pair.partner_mask else "image" if pair.mask else "" for pair in pairs]
    changed = np.concatenate(
        [
            np.full(number, -1) if one.tiles.changed is None else one.tiles.changed
            for one, number in zip(joined, numbers, strict=True)
        ]
    )
    by_classes = partner & ~image & both[owner]
    tiles = pd.DataFrame(
        {
            **{name: column[owner] for name, column in _names(joined).items()},
            "top": in_grid // across * cut.size,
            "left": in_grid % across * cut.size,
            "noisy": np.where(given < 0, np.where(changed < 0, by_classes, changed > 0), given == 1),
            "labelled": np.array(labelled, object)[owner],
            "number": np.arange(len(owner)),
        }
    )
    if (changed >= 0).any():
        tiles["changed"] = np.where(changed < 0, np.nan, changed / cut.size**2)
    return tiles


def _pairs(joined: Sequence[JoinedPair]) -> pd.DataFrame:
    present = {subtype for one in joined for subtype in one.tiles.buildings}
    return pd.DataFrame(
        {
            **_names(joined),
            "tiles": np.array([one.tiles.counts.shape[1] for one in joined], np.int64),
            **{
                subtype: np.array([one.tiles.buildings.get(subtype, 0) for one in joined], np.int64)
                for subtype in SUBTYPES
                if subtype in present
            },
        }
    )


def _names(joined: Sequence[JoinedPair]) -> dict[str, np.ndarray]:
    """The columns that both tables have, one value for each pair."""
    attributes = {"pair": "name", "group": "group", "split": "split"}
    return {
        column: np.array([getattr(one.pair, name) for one in joined], object) for column, name in attributes.items()
    }


def _fingerprint(joined: Sequence[JoinedPair], cut: Cut, dtype: str) -> str:
    content: list[Any] = [cut.described, dtype]
    for one in joined:
        pair = one.pair
        masks = [pair.mask is not None, pair.partner_mask is not None, *(["change"] if pair.change_mask else [])]
        content.append([pair.name, pair.group, pair.split, pair.noisy, *masks, one.across, one.tiles.digest])
    return blake2b(json.dumps(content).encode(), digest_size=8).hexdigest()
