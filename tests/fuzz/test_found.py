"""What fuzzing and reading found, each with the file that did it."""

import io
import json
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from analysis.errors import RecordsError
from analysis.records.io import read_records, recorded_keys
from analysis.records.plan import read_plan
from analysis.records.predictions import PREDICTIONS, read_predictions
from analysis.records.schema import schema
from datasets.errors import UNPRINTABLE, InputError, one_line
from datasets.images.masks import read_mask
from datasets.images.read import read_image
from datasets.manifest.config import ManifestSettings
from datasets.manifest.table import read_table
from datasets.vts.photos import read_categories
from sweep.config.yaml_io import from_yaml
from tests.fuzz.bombs import jpeg
from tests.fuzz.pictures import jpegs
from tests.fuzz.tables import KEY, NAMES, ROWS, predictions, record_rows
from tests.helpers.fake_images import smooth_pixels
from tests.helpers.fake_pairs import read_rows
from tests.helpers.fake_xbd import box


def refused(function, *arguments, kind=InputError, **options) -> str:
    with pytest.raises(kind) as error:
        function(*arguments, **options)
    assert one_line(error.value, most=10**6) == " ".join(str(error.value).split())
    return str(error.value)


@pytest.mark.parametrize("value", ["!!timestamp 2001-99-99", "!!timestamp x", "[" * 1000, "9" * 5000, "!!int x"])
def test_values_that_yaml_itself_trips_over(tmp_path, value):
    path = tmp_path / "sweep.yaml"
    path.write_text(f"rho: {value}\n")
    assert "not valid YAML" in refused(from_yaml, path)
    assert read_plan(tmp_path) == {}


def test_a_control_character_in_a_settings_name_stays_in_the_line(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text('"a\\eb\\nc": 1\n')
    assert "unknown setting" in refused(from_yaml, path)


def test_a_run_of_fill_bytes_in_a_jpeg_takes_no_square_of_its_length(tmp_path):
    path = tmp_path / "image"
    whole = jpegs()[0]
    path.write_bytes(whole[:-2] + b"\xff" * 300_000 + whole[-1:])
    start = time.perf_counter()
    pixels = read_image(path)
    assert time.perf_counter() - start < 5  # minutes before
    path.write_bytes(whole)
    np.testing.assert_array_equal(pixels, read_image(path))


def test_a_progressive_jpeg_has_a_hundred_scans_at_most(tmp_path):
    for more, many in ((80, False), (100, True)):  # the same scan again is damage, but told otherwise
        (tmp_path / "image").write_bytes(jpeg(24, 24, scans=more))
        assert ("more than 100 scans" in refused(read_image, tmp_path / "image")) is many


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"metadata": {"width": "a\nb"}}, "a width of a b px"),
        ({"wkt": "\ud800"}, "not a polygon in px"),
        ({"wkt": f"GEOMETRYCOLLECTION ({box(0, 0, 3, 3)})"}, "not a polygon in px"),
        ({"wkt": "POLYGON ((0 0, 1e999 0, 1 1, 0 0))"}, "not a polygon in px"),
        ({"subtype": ["x" * 9999]}, "unknown subtype"),
    ],
)
def test_label_files(tmp_path, change, said):
    wkt, subtype = change.pop("wkt", box(0, 0, 3, 3)), change.pop("subtype", "destroyed")
    content = {"features": {"xy": [{"properties": {"subtype": subtype}, "wkt": wkt}]}, **change}
    (tmp_path / "a.json").write_text(json.dumps(content))
    message = refused(read_mask, tmp_path / "a.json", 8, 8, unclassified="ignore")
    assert said in message
    assert len(message) < 300


@pytest.mark.parametrize("cell", ["a\x00b", "a\nb", "\x1b[1m"])
def test_a_manifests_cell_with_a_control_character_is_a_problem_in_one_line(tmp_path, cell):
    rows = [dict(row) for row in ROWS]
    rows[1]["partner"] = cell
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pairs.parquet")
    _, problems = read_rows(tmp_path / "pairs.parquet", ManifestSettings(size=8))
    assert any(
        "zero byte" in problem.what if "\0" in cell else "does not exist" in problem.what for problem in problems
    )
    assert not any(UNPRINTABLE.search(problem.what) for problem in problems)


def test_a_manifests_columns_of_what_python_lacks(tmp_path):
    table = pa.table({name: [row[name] for row in ROWS] for name in NAMES})
    path = tmp_path / "pairs.parquet"
    for column in (pa.array([2**30] * 3, pa.date32()), pa.array([b"\xff\xfe\x80"] * 3).view(pa.string())):
        pq.write_table(table.set_column(0, "image", column), path)
        assert "pairs.parquet" in refused(read_table, path)


def test_a_manifest_of_a_hundred_thousand_columns_is_refused_at_once_and_in_short(tmp_path):
    path = tmp_path / "pairs.csv"
    start = time.perf_counter()
    for name in ("image", "unknown"):
        path.write_text(",".join([name] * 100_000) + "\n")
        assert len(refused(read_table, path)) < 1_000
    assert time.perf_counter() - start < 5  # the square of the number before


def test_records_with_two_columns_of_one_name_or_dates_for_numbers(tmp_path):
    path = tmp_path / "records" / "one.parquet"
    path.parent.mkdir()
    table = record_rows()
    for name in ("key", "status", "schema"):
        pq.write_table(table.append_column(name, pa.array(["x", "y"])), path)
        assert recorded_keys(tmp_path).unreadable == (path,)
        refused(read_records, tmp_path, kind=RecordsError)
    at = schema(("a", "b")).get_field_index("schema")
    pq.write_table(table.set_column(at, "schema", pa.array([2**30] * 2, pa.date32())), path)
    assert "schema is date32" in refused(read_records, tmp_path, kind=RecordsError)


def test_a_records_long_values_make_no_long_message(tmp_path):
    path = tmp_path / "records" / "one.parquet"
    path.parent.mkdir()
    for name in ("key", "status"):
        table = record_rows()
        at = table.schema.get_field_index(name)
        pq.write_table(table.set_column(at, table.schema.field(at), pa.array(["x\n" * 5000] * 2)), path)
        assert len(refused(read_records, tmp_path, kind=RecordsError)) < 400


@pytest.mark.parametrize("size", [{"height": -1}, {"width": -1}, {"height": 0}])
def test_a_prediction_has_a_size(tmp_path, size):
    (tmp_path / "predictions").mkdir()
    rows = [{**row, **size} for row in predictions().to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, PREDICTIONS), tmp_path / "predictions" / f"{KEY}.parquet")
    assert "is damaged (an image of" in refused(read_predictions, tmp_path, [KEY], kind=RecordsError)


def test_a_parquet_file_of_more_rows_than_are_read(tmp_path):
    nothing = pa.array([None] * 11_000_000, pa.null())
    pq.write_table(pa.table({"image": nothing}), tmp_path / "pairs.parquet")
    assert "11,000,000 rows" in refused(read_table, tmp_path / "pairs.parquet")


def test_a_texture_is_no_postscript_and_its_damaged_exif_does_not_matter(tmp_path):
    for name in ("first", "noise", "second"):
        (tmp_path / name).mkdir()
        for number in range(4):
            Image.fromarray(smooth_pixels(24, 24)).save(tmp_path / name / f"{number}.png")
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "x" * 90
    Image.fromarray(smooth_pixels(24, 24)).save(file, "jpeg", exif=exif)
    content = file.getvalue()
    at = content.index(b"Exif\0\0") + 14  # the number of entries, of which there is one
    (tmp_path / "first" / "3.png").write_bytes(content[:at] + b"\x09\x09" + content[at + 2 :])
    assert len(read_categories(tmp_path, (), min_side=16, scale=1)[1][0]) == 4
    Image.fromarray(smooth_pixels(24, 24)).save(tmp_path / "first" / "3.png", "eps")
    assert "cannot identify" in refused(read_categories, tmp_path, (), min_side=16, scale=1)
