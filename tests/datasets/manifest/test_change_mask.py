"""A mask of what changed decides which tiles are noisy, and by how much; masks that contradict it are refused."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from datasets.errors import InputError
from datasets.manifest.preview import save_preview
from datasets.manifest.source import read_listing
from datasets.panels import DPI
from datasets.tiles.dataset import TileDataset
from tests.helpers.fake_pairs import SMALL, Rows, data, listed, load, own_store, read_rows, save, sound

FIXTURES = (data, own_store)  # pytest finds them by their names
CPU = torch.device("cpu")


def changing(folder: Path, *, changed: int = 1, masks: bool = False) -> Rows:
    """Pairs of four tiles of 16 px; of every other one the first 8 columns of the right tiles change.

    Without masks for training, or with masks that say the same.
    """
    rows = sound(folder)
    for number, row in enumerate(rows):
        changes = np.zeros((32, 32), np.uint8)
        if number % 2 == 0:
            changes[:, 16:24] = changed
        save(folder / f"changes/{number}.png", changes)
        row |= {"noisy": "", "change_mask": f"changes/{number}.png"}
        before = np.zeros((32, 32), np.uint8)
        before[:, :16] = 1
        save(folder / row["mask"], before)
        save(folder / row["partner_mask"], np.where(changes > 0, 2, before).astype(np.uint8))
        if row["split"] == "train" and number and not masks:
            row |= {"mask": "", "partner_mask": ""}
    return rows


@pytest.mark.parametrize(("changed", "masks"), [(1, False), (255, False), (255, True)])
def test_a_tile_is_noisy_where_the_pair_changes_and_nu_is_the_share(data: Path, changed: int, masks: bool) -> None:
    source = load(listed(data / "pairs.csv", changing(data, changed=changed, masks=masks)))
    tiles = source.store.tiles
    wanted = [(int(pair[7]) % 2 == 0) and left == 16 for pair, left in zip(tiles["pair"], tiles["left"], strict=True)]
    assert tiles["noisy"].tolist() == wanted
    assert tiles["changed"].tolist() == [0.5 * noisy for noisy in wanted]
    pool = TileDataset(source, CPU).pool(1.0, 0.0, "noisy", torch.Generator())
    assert len(pool) == 4
    assert pool.measured_nu() == 0.5


def test_masks_of_changes_in_the_cells_of_a_table_are_those_of_files(data: Path) -> None:
    rows = changing(data)
    given = load(listed(data / "pairs.csv", rows))
    files = ("image", "partner", "mask", "partner_mask", "change_mask")
    cells = [
        {name: (data / row[name]).read_bytes() if row[name] else None for name in files}
        | {"name": row["image"], "split": row["split"]}
        for row in rows
    ]
    pq.write_table(pa.Table.from_pylist(cells), data / "pairs.parquet")
    found = load(data / "pairs.parquet")
    assert found.store.tiles["changed"].equals(given.store.tiles["changed"])
    assert found.store.tiles["noisy"].equals(given.store.tiles["noisy"])


def test_pairs_without_such_a_mask_are_what_they_were(data: Path) -> None:
    rows = sound(data)
    plain = load(listed(data / "pairs.csv", rows)).store
    mixed = load(listed(data / "mixed.csv", [row | {"change_mask": ""} for row in rows])).store
    assert mixed.fingerprint == plain.fingerprint
    assert mixed.tiles.equals(plain.tiles)
    with pytest.raises(InputError, match="has no changes: no pair has one"):
        mixed.changes()
    changed = changing(data, masks=True)
    others = [row | {"change_mask": "", "noisy": "no"} for row in changed[1:]]
    some = load(listed(data / "some.csv", [changed[0], *others]))
    assert some.store.tiles["changed"].isna().tolist() == [False] * 4 + [True] * 20
    assert (some.store.changes()[4:] == 255).all()
    assert some.store.tiles["noisy"].tolist() == [False, True] * 2 + [False] * 20


def test_a_mask_of_changes_that_the_classes_contradict_is_named(data: Path) -> None:
    rows = changing(data, masks=True)
    changes = np.zeros((32, 32), np.uint8)
    changes[:2, :3] = 1
    save(data / rows[0]["change_mask"], changes)
    with pytest.raises(InputError) as error:
        load(listed(data / "pairs.csv", rows))
    told = str(error.value)
    assert "row 2: changes/0.png: contradicts mask and partner_mask: 256 px whose classes differ are unchanged" in told
    assert "and 6 px of equal classes are changed" in told


@pytest.mark.parametrize(
    ("values", "message"),
    [((0, 1, 255), "has the values 0, 1, 255; a mask of changes has 0"), ((0, 7), "has the values 0, 7")],
)
def test_values_that_could_mean_either_are_refused(data: Path, values: tuple[int, ...], message: str) -> None:
    rows = changing(data)
    save(data / rows[0]["change_mask"], np.resize(np.array(values, np.uint8), (32, 32)))
    with pytest.raises(InputError) as error:
        load(listed(data / "pairs.csv", rows))
    assert f"row 2: changes/0.png: {message}" in str(error.value)


def test_what_its_header_or_its_row_says_is_told_before_pixels_are_read(data: Path) -> None:
    rows = changing(data)
    rows[0]["noisy"] = "yes"
    save(data / rows[1]["change_mask"], np.zeros((16, 32), np.uint8))
    (data / rows[2]["change_mask"]).unlink()
    rows[3]["change_mask"] = "changes/3.json"
    (data / "changes/3.json").write_text("{}")
    _, problems = read_rows(listed(data / "pairs.csv", rows))
    told = [f"{problem.where}: {problem.what}" for problem in problems]
    assert told[0].startswith("row 2: noisy and change_mask are both filled in; leave noisy empty")
    assert told[1] == "row 3: change_mask changes/1.png: is 32 x 16 px, but its image 32 x 32 px"
    assert told[2] == "row 4: change_mask changes/2.png: does not exist"
    assert told[3].startswith("row 5: change_mask changes/3.json: is not a PNG, JPEG or TIFF")


@pytest.mark.slow
def test_the_preview_shows_what_changed_and_the_partner_displaced(data: Path, tmp_path: Path) -> None:
    rows = changing(data)
    path = listed(data / "pairs.csv", [*rows[:1], *rows[3:]])
    save_preview(tmp_path / "preview.png", read_listing(path, SMALL), load(path).store, (), SMALL)
    # Image, partner, both under their masks, what changed, and the partner displaced.
    with Image.open(tmp_path / "preview.png") as picture:
        assert picture.width == 6 * 3.5 * DPI
