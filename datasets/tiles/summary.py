"""The table that summarises a store."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Int64

WIDEST = 110  # characters of a line
LONGEST = 30  # of a group's name


def summary_table(
    tiles: pd.DataFrame, pairs: pd.DataFrame, class_counts: Int64[np.ndarray, "tiles classes"], subtypes: Sequence[str]
) -> str:
    """One line for each group, then the total: pairs, tiles, buildings or shares of classes, share of noisy tiles."""
    groups = sorted(set(pairs["group"]))
    chosen = [(name or "(no group)", tiles["group"] == name, pairs["group"] == name) for name in groups]
    everything = ("total", tiles["group"].notna(), pairs["group"].notna())
    shown = [everything] if len(groups) == 1 and not groups[0] else [*chosen, everything]
    classes = np.flatnonzero(class_counts.sum(axis=0)).tolist()
    rows = []
    for name, of_tiles, of_pairs in shown:
        cells = {"group": _short(name), "pairs": f"{of_pairs.sum():,}", "tiles": f"{of_tiles.sum():,}"}
        if subtypes:
            cells |= {subtype: f"{int(pairs.loc[of_pairs, subtype].sum()):,}" for subtype in subtypes}
        else:
            pixels = class_counts[of_tiles.to_numpy(bool)].sum(axis=0)
            cells |= {f"class {number}": _share(int(pixels[number]), int(pixels.sum())) for number in classes}
        cells["noisy"] = _share(int(tiles.loc[of_tiles, "noisy"].sum()), int(of_tiles.sum()))
        rows.append(cells)
    return _lines(rows)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 3]}..."


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def _lines(rows: list[dict[str, str]]) -> str:
    """Columns under their names; if they are too wide, `...` replaces the last ones before `noisy`."""
    names = list(rows[0])
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in names}
    while sum(widths[name] for name in names) + 2 * (len(names) - 1) > WIDEST:
        names = [*names[: names.index("...") if "..." in names else -1][:-1], "...", names[-1]]
        widths["..."] = 3
    lines = [{name: name for name in names}, *rows]
    return "\n".join(
        "  ".join(
            line.get(name, "...").ljust(widths[name]) if name == "group" else line.get(name, "...").rjust(widths[name])
            for name in names
        )
        for line in lines
    )
