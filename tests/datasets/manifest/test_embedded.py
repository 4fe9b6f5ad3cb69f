"""Parquet files that hold their images give what a list of the same files gives, or one line says why not."""

import os
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from datasets.errors import InputError
from datasets.images import gdal
from datasets.manifest import batches, embedded
from datasets.manifest.__main__ import main
from datasets.manifest.batches import KEPT, Cells, Window, table_files
from datasets.tiles import cutting
from sweep.cli import parse
from tests.helpers import fake_s3
from tests.helpers.fake_pairs import SMALL, Rows, data, line, listed, load, own_store, pixels, read_rows, sound

FIXTURES = (data, own_store)  # pytest finds them by their names
NAMES = {"image": "t1_image", "partner": "t2_image", "mask": "t1_mask", "partner_mask": "t2_mask"}


def cells_of(folder: Path, rows: Rows, *, structs: bool = False) -> list[dict]:
    """The rows with the bytes of the files that they name."""

    def cell(name: str) -> object:
        content = (folder / name).read_bytes()
        return {"bytes": content, "path": Path(name).name} if structs else content

    return [
        {
            **{new: cell(row[old]) for old, new in NAMES.items()},
            "image_name": row["image"],
            **{name: row[name] for name in ("split", "noisy", "group")},
        }
        for row in rows
    ]


def written(path: Path, cells: list[dict], **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(cells), path, **options)
    return path


# --- the same as a list


@pytest.mark.parametrize("structs", [False, True])
def test_images_in_cells_are_those_of_files(data: Path, structs: bool) -> None:
    rows = sound(data)
    given = load(listed(data / "pairs.csv", rows))
    found = load(written(data / "x.parquet", cells_of(data, rows, structs=structs)))
    assert found.fingerprint == given.fingerprint
    assert found.store.pairs.equals(given.store.pairs)
    np.testing.assert_array_equal(found.store.partner(), given.store.partner())


def test_many_files_are_one_set_with_the_splits_of_their_names(data: Path) -> None:
    rows = sound(data)
    cells = [{name: value for name, value in cell.items() if name != "split"} for cell in cells_of(data, rows)]
    names = {"train": "train-{}", "val": "x_validation_{}", "test": "test/part{}"}
    for number, (row, cell) in enumerate(zip(rows, cells, strict=True)):
        written(data / "many" / f"{names[row['split']].format(number)}.parquet", [cell])
    (data / "many" / "._train-0.parquet").write_bytes(b"of macOS")
    given = load(listed(data / "pairs.csv", [rows[5], *rows[:5]]))  # in the order of the names
    assert load(data / "many").fingerprint == given.fingerprint
    some = read_rows(data / "many" / "*a*-*.parquet")[0]
    assert [pair.name for pair in some] == [row["image"] for row in rows[:3]]


def test_columns_have_other_names_and_values(data: Path) -> None:
    cells = cells_of(data, sound(data))
    for cell in cells:
        cell |= {"before": cell.pop("t1_image"), "extra": 7, "split": cell["split"].replace("val", "validation")}
        del cell["image_name"]
        cell["t1_mask"] = None
    path = written(data / "x.parquet", cells)
    source = load(path, replace(SMALL, columns=("image=before",)))
    assert source.store.pairs["pair"].tolist() == [f"x.parquet:{row}" for row in range(1, 7)]
    assert "columns that are not read: extra" in source.notes
    assert not (source.store.path / "masks.npy").exists()


def test_columns_may_be_dictionaries(data: Path) -> None:
    """As pandas writes categories."""
    cells = cells_of(data, sound(data))
    table = pa.Table.from_pylist(cells)
    for name in ("t1_image", "t1_mask", "split"):
        table = table.set_column(table.column_names.index(name), name, table[name].dictionary_encode())
    pq.write_table(table, data / "categories.parquet")
    assert pa.types.is_dictionary(pq.read_schema(data / "categories.parquet").field("t1_image").type)
    found, given = load(data / "categories.parquet"), load(written(data / "x.parquet", cells))
    np.testing.assert_array_equal(found.store.image(), given.store.image())
    assert found.store.pairs["split"].tolist() == given.store.pairs["split"].tolist()


def test_a_cell_may_name_a_file_beside_the_table(data: Path) -> None:
    rows = sound(data)
    cells = cells_of(data, rows, structs=True)
    cells[3]["t2_image"] = {"bytes": None, "path": rows[3]["partner"]}
    found = load(written(data / "x.parquet", cells))
    assert found.fingerprint == load(listed(data / "pairs.csv", rows)).fingerprint
    cells[3]["t2_image"]["path"] = "gone.png"
    with pytest.raises(InputError, match=r"row 4: partner gone\.png: does not exist"):
        load(written(data / "x.parquet", cells))


# --- batches


@pytest.mark.parametrize("group", [1, 3, 100])
@pytest.mark.parametrize("batch", [1, 2000, 2**24])
def test_cells_are_read_in_batches_in_any_order(
    data: Path, monkeypatch: pytest.MonkeyPatch, group: int, batch: int
) -> None:
    monkeypatch.setattr(batches, "BATCH", batch)
    values = [os.urandom(1000) for _ in range(10)]
    path = written(
        data / "x.parquet", [{"a": value, "b": number} for number, value in enumerate(values)], row_group_size=group
    )
    cells = Cells(table_files(path)[0], ["a", "b"], Window())
    order = [*range(10), *np.random.default_rng(0).permutation(10).tolist(), *range(9, -1, -1)]
    assert [(cells.read(row, "b"), cells.read(row, "a")) for row in order] == [(row, values[row]) for row in order]


def open_files() -> int:
    """Of this process; 0 where the system does not tell."""
    place = Path("/proc/self/fd")
    return len(list(place.iterdir())) if place.exists() else 0


def test_many_files_hold_no_more_batches_than_one_and_are_closed(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "BATCH", 2000)
    for number in range(30):
        written(data / f"{number:02}.parquet", [{"a": bytes([number, row]) * 500} for row in range(4)])
    window, opened = Window(), open_files()
    for number, file in enumerate(table_files(data)):
        cells = Cells(file, ["a"], window)
        assert [cells.read(row, "a")[:2] for row in (0, 1, 2, 3, 0)] == [
            bytes([number, row]) for row in (0, 1, 2, 3, 0)
        ]
        assert cells.read(3, "a")[1] == 3
    assert len(window.batches) <= KEPT
    assert open_files() <= opened + 1


def test_a_file_is_read_once_and_then_remembered(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(data / "x.parquet", cells_of(data, sound(data)))
    before = load(path)

    def refuse(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(embedded, "batches", refuse)
        patch.setattr(batches, "batches", refuse)
        assert load(path).fingerprint == before.fingerprint
        os.utime(path, ns=(0, 10**18))
        with pytest.raises(KeyboardInterrupt):
            load(path)
    assert load(path).fingerprint == before.fingerprint


def test_what_only_rasterio_reads_is_looked_at_again_with_it(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = cells_of(data, sound(data))
    cells[0]["t1_image"] = imagecodecs.jpeg2k_encode(pixels(0), level=0)
    path = written(data / "x.parquet", cells)
    with monkeypatch.context() as patch:
        patch.setattr(gdal, "is_installed", lambda: False)
        with pytest.raises(InputError, match="is JPEG 2000; install rasterio"):
            load(path)
    assert load(path).store.pairs["pair"].nunique() == 6


def test_rows_that_are_added_are_cut_alone(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = cells_of(data, sound(data))
    load(written(data / "x.parquet", cells[1:]))
    cut, names = cutting.cut_pair, []
    monkeypatch.setattr(cutting, "cut_pair", lambda pair, *rest: (names.append(pair.name), cut(pair, *rest))[1])
    after = load(written(data / "x.parquet", cells))
    assert names == ["before/0.png"]
    assert after.fingerprint == load(written(data / "y.parquet", cells)).fingerprint


def test_a_file_that_changes_while_it_is_read_is_told(data: Path) -> None:
    cells = cells_of(data, sound(data))
    path = written(data / "x.parquet", cells)
    pairs, _ = read_rows(path)
    written(path, cells[:5])
    with pytest.raises(InputError, match="has changed since it was listed"):
        pairs[0].image.read()


# --- what is wrong


BAD = {
    "no partner": (
        lambda cells: [{"t1_image": cell["t1_image"], "after": cell["t2_image"]} for cell in cells],
        "has no column for partner (t2_image): say which with --data.columns partner=NAME; it has t1_image, after",
    ),
    "numbers": (lambda cells: [{**cell, "t1_mask": 7} for cell in cells], "column 't1_mask' holds int64; valid are"),
    "lists": (lambda cells: [{**cell, "group": [1]} for cell in cells], "column 'group' has values of type list"),
    "no split": (
        lambda cells: [{**cell, "split": None} for cell in cells],
        "no row has a split: add a column `split` (train, val or test), name Parquet files by it",
    ),
    "null": (lambda cells: [{**cells[0], "t2_image": None}, *cells[1:]], "row 1: no partner"),
    "empty": (lambda cells: [{**cells[0], "t2_image": b""}, *cells[1:]], "row 1: partner t2_image: is empty"),
    "text": (lambda cells: [*cells[:5], {**cells[5], "t1_image": b"x" * 99}], "row 6: image t1_image: is not a PNG"),
    "cut off": (
        lambda cells: [cells[0], {**cells[1], "t1_mask": cells[1]["t1_mask"][:-20]}, *cells[2:]],
        "row 2, column t1_mask: is cut off",
    ),
    "in two splits": (
        lambda cells: [*cells[:5], {**cells[5], "t2_image": cells[1]["t1_image"]}],
        "row 6: partner t2_image: is also in train (row 2)",
    ),
    "with itself": (
        lambda cells: [{**cells[0], "t2_image": cells[0]["t1_image"]}, *cells[1:]],
        "row 1: image and partner",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_table_that_cannot_be_used_says_where_and_why(data: Path, kind: str, capsys) -> None:
    spoil, message = BAD[kind]
    path = written(data / "x.parquet", spoil(cells_of(data, sound(data))))
    assert main(["check", str(path), "--size", "16"]) == 2
    assert message in capsys.readouterr().err


def test_files_that_are_damaged_are_all_named(data: Path, capsys) -> None:
    cells = cells_of(data, sound(data))
    for number in range(3):
        written(data / "many" / f"{number}.parquet", cells, compression="none")
    content = (data / "many" / "1.parquet").read_bytes()
    (data / "many" / "1.parquet").write_bytes(content[:-100])
    (data / "many" / "2.parquet").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    assert main(["check", str(data / "many"), "--size", "16"]) == 2
    message = capsys.readouterr().err
    assert "many: 2 problems" in message
    assert "\n  1.parquet: is not a valid Parquet file, or is cut off" in message
    assert "\n  2.parquet: is a pointer of Git LFS" in message
    with pytest.raises(InputError, match=r"no \.parquet file"):
        load(data / "before")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (("image=befor",), r"has no column 'befor' .*did you mean 'before'\?"),
        (("pre=before",), "--data.columns 'pre=before': write it as image=NAME; valid are image, partner"),
        (("image",), "write it as image=NAME"),
        (("image=a", "image=b"), "give each column once"),
    ],
)
def test_columns_that_are_not_there_are_refused(data: Path, columns: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(written(data / "x.parquet", [{"before": b"1", "after": b"2"}]), replace(SMALL, columns=columns))


def test_columns_of_a_list_have_fixed_names(data: Path) -> None:
    with pytest.raises(InputError) as error:
        load(listed(data.parent / "pairs.csv", [{"image": "a"}]), replace(SMALL, columns=("image=b",)))
    assert "is a list, whose columns have fixed names" in line(error)


def test_the_next_command_has_the_flags_of_the_table(data: Path, capsys) -> None:
    cells = [{"x": cell["t1_image"], **cell, "split": None} for cell in cells_of(data, sound(data))]
    for cell in cells:
        del cell["t1_image"]
    path = written(data / "x.parquet", cells)
    words = ["--columns", "image=x", "--holdout", "0.4", "0.2", "--holdout-seed", "3"]
    # Two groups cannot be divided among three splits.
    assert main(["check", str(path), "--size", "16", *words]) == 2
    assert "2 groups cannot be divided among train, val and test" in capsys.readouterr().err
    pq.write_table(pq.read_table(path).drop_columns(["group"]), path)
    main(["check", str(path), "--size", "16", *words])
    output = capsys.readouterr().out
    assert "--data.columns image=x --data.holdout 0.4 0.2 --data.holdout-seed 3" in output


# --- an object store


def test_an_address_is_read_as_a_folder_is(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store is a folder here: what is tested is all but the connection."""
    cells = cells_of(data, sound(data))
    written(data / "bucket" / "many" / "x.parquet", cells)
    asked = []

    def open_address(uri: str) -> tuple[fs.FileSystem, str]:
        asked.append(uri)
        return fs.SubTreeFileSystem(str(data), fs.LocalFileSystem()), uri.removeprefix("s3://")

    monkeypatch.setattr(batches, "open_address", open_address)
    sweep = parse(["manifest", "--data", "s3://bucket/many", "--data.size", "16"]).sweep
    found = load(sweep.data_root)
    assert found.fingerprint == load(data / "bucket" / "many").fingerprint
    monkeypatch.chdir(data)
    assert load(Path("s3://bucket/many")).store.path == found.store.path
    assert set(asked) == {"s3://bucket/many"}
    with pytest.raises(InputError, match=r"\As3://bucket/none: no \.parquet file"):
        load(Path("s3://bucket/none"))
    cells[0]["t1_image"] = "a.png"
    written(data / "bucket" / "many" / "x.parquet", [{**cell, "t1_image": "a.png"} for cell in cells])
    with pytest.raises(InputError, match=r"image a\.png: is a file, which is not read from an object store"):
        load(Path("s3://bucket/many"))


@pytest.mark.slow  # starts a server
def test_an_address_on_a_server_is_read(data: Path) -> None:
    path = written(data / "x.parquet", cells_of(data, sound(data)))
    with fake_s3.serving():
        fake_s3.client().upload_file(str(path), fake_s3.BUCKET, "sets/x.parquet")
        found = load(Path(f"s3://{fake_s3.BUCKET}/sets"))
        with pytest.raises(InputError, match=r"s3://nowhere/x: no \.parquet file"):
            load(Path("s3://nowhere/x"))
    assert found.fingerprint == load(path).fingerprint
