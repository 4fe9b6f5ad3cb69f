"""A manifest's table: what editors, spreadsheets and pandas write is read alike, and what is none is one clear line."""

import csv
import io
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.errors import InputError
from datasets.manifest.table import OPTIONAL, REQUIRED, read_table

HEAD = "image,partner,split\n"
CELLS = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\0"), max_size=12).map(str.strip)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def cells(path: Path) -> list[tuple[str, ...]]:
    return [tuple(row.cells.values()) for row in read_table(path).rows]


@given(
    st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=5),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.lists(st.integers(0, 2), min_size=6, max_size=6),
)
def test_any_names_come_back_with_the_number_of_their_line(tmp_path_factory, rows, newline, mark, gaps) -> None:
    path = tmp_path_factory.mktemp("table") / "pairs.csv"
    text, lines = io.StringIO(), []
    writer = csv.writer(text, lineterminator=newline, quoting=csv.QUOTE_ALL)
    writer.writerow(REQUIRED)
    for row, gap in zip(rows, gaps, strict=False):
        text.write(newline * gap)
        lines.append(text.getvalue().count("\n") + 1)
        writer.writerow(row)
    write(path, ("\ufeff" if mark else "") + text.getvalue())
    found = read_table(path).rows
    assert [tuple(row.cells.values()) for row in found] == rows
    assert [row.number for row in found] == lines


def test_a_value_may_hold_commas_quotes_and_line_breaks(tmp_path: Path) -> None:
    path = write(
        tmp_path / "pairs.csv", HEAD + '"a,b.png","say ""hi"".png",train\n"two\nlines.png",c.png,val\nd,e,test\n'
    )
    found = read_table(path).rows
    assert [row.cells["image"] for row in found] == ["a,b.png", "two\nlines.png", "d"]
    assert found[0].cells["partner"] == 'say "hi".png'
    assert [row.number for row in found] == [2, 3, 5]


def test_white_space_around_values_and_names_does_not_count(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.csv", " image , partner,split \n a.png , b c.png,train\n")
    assert cells(path) == [("a.png", "b c.png", "train")]


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_columns_are_separated_by_what_the_first_line_has(tmp_path: Path, mark: str) -> None:
    text = "\ufeffimage,partner,split\r\na.png,b.png,train\r\nc.png,d.png,val\r\n".replace(",", mark)
    path = write(tmp_path / "pairs.csv", text)
    assert cells(path) == [("a.png", "b.png", "train"), ("c.png", "d.png", "val")]


def test_a_first_line_for_excel_is_no_header(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfsep=;\r\nimage;partner;split\r\na.png;b, c.png;train\r\n")
    (row,) = read_table(tmp_path / "a.csv").rows
    assert (row.number, row.cells["partner"]) == (3, "b, c.png")


def test_a_row_with_more_or_fewer_cells_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.csv", HEAD + "a.png,b.png,train,\nc.png,d.png\ne.png,f.png,val\n")
    long, short, right = read_table(path).rows
    assert "4 cells for 3 columns" in long.fault
    assert "2 cells for 3 columns" in short.fault
    assert not right.fault


def test_parquet_is_read_as_csv_is(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "image": ["a.png", "ü b.png", "c.png"],
            "partner": pd.Categorical(["x.png", "y.png", "x.png"]),
            "split": ["train", "val", "test"],
            "noisy": [True, False, None],
            "group": [1, 2, None],  # pandas makes floats of it
            "mask": [None, " m.png ", None],
        },
        index=[7, 8, 9],  # an index that pandas writes as a column
    )
    frame.to_parquet(tmp_path / "pairs.PARQUET")
    assert cells(tmp_path / "pairs.PARQUET") == [
        ("a.png", "x.png", "train", "True", "1", ""),
        ("ü b.png", "y.png", "val", "False", "2", "m.png"),
        ("c.png", "x.png", "test", "", "", ""),
    ]
    assert [row.number for row in read_table(tmp_path / "pairs.PARQUET").rows] == [1, 2, 3]


MISTAKES = {
    "empty": ("", "empty; the first line must name the columns"),
    "blank": ("\n  \n", "empty; the first line must name the columns"),
    "header_only": (HEAD, "no rows"),
    "typo": ("image,partner,split,partner_masks\na,b,train,c\n", "'partner_masks' (did you mean 'partner_mask'?)"),
    "capitals": ("Image,partner,split\na,b,train\n", "'Image' (did you mean 'image'?)"),
    "no_header": ("a.png,b.png,train\n", "unknown columns 'a.png', 'b.png', 'train'"),
    "lacking": ("image,split,mask\na,train,m\n", "lacks the column partner"),
    "twice": ("image,partner,split,image\na,b,train,c\n", "column 'image' occurs twice"),
    "pandas_index": (",image,partner,split\n0,a,b,train\n", "column 1 has no name (pandas: write with index=False)"),
    "latin_1": ((HEAD + "a,b,train\nfähre,b,train\n").encode("latin-1"), "line 3 is not UTF-8"),
    "utf_16": (HEAD.encode("utf-16"), "line 1 is not UTF-8"),
    "binary": (HEAD.encode() + b"a\0,b,train\n", "binary data"),
    "open_quote": (HEAD + 'a,b,train\n"c,d,val\ne,f,test\n', "invalid CSV from line 3 on"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_is_no_manifest_is_one_line_that_names_the_file(tmp_path: Path, name: str) -> None:
    content, message = MISTAKES[name]
    path = write(tmp_path / "pairs.csv", content)
    with pytest.raises(InputError) as error:
        read_table(path)
    assert message in str(error.value)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_unknown_columns_are_told_with_all_that_are_valid(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.csv", "image,partner,split,date,place\na,b,train,c,d\n")
    with pytest.raises(InputError, match="unknown columns 'date', 'place'") as error:
        read_table(path)
    assert all(name in str(error.value) for name in REQUIRED + OPTIONAL)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.csv", "cannot be read (No such file"),
        ("folder.csv", "is a folder"),
        ("pairs.xlsx", "a manifest is a .csv or .parquet file, not .xlsx"),
        ("pairs", "not one without a suffix"),
        ("damaged.parquet", "not a valid Parquet file"),
        ("other.parquet", "lacks the columns image, partner, split"),
        ("bytes.parquet", "column 'image' has values of type bytes"),
        ("none.parquet", "no rows"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    for other in ("pairs.xlsx", "pairs"):
        (tmp_path / other).write_text(HEAD)
    frame = pd.DataFrame({"image": ["a"], "partner": ["b"], "split": ["train"]})
    frame.to_parquet(tmp_path / "damaged.parquet")
    write(tmp_path / "damaged.parquet", (tmp_path / "damaged.parquet").read_bytes()[:-9])
    frame[["image"]].rename(columns={"image": "mask"}).to_parquet(tmp_path / "other.parquet")
    frame.assign(image=b"a").to_parquet(tmp_path / "bytes.parquet")
    frame[:0].to_parquet(tmp_path / "none.parquet")
    with pytest.raises(InputError) as error:
        read_table(tmp_path / name)
    assert message in str(error.value)
    assert name in str(error.value)
    assert "\n" not in str(error.value)
