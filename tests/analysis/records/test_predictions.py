"""Predictions on disk can be read back, and damage is an error of one line."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.errors import RecordsError
from analysis.records.predictions import PREDICTIONS, Prediction, read_predictions, write_predictions

KEY = "0" * 16


def made(number=3, height=2, width=4):
    rng = np.random.default_rng(number)
    flat = rng.integers(0, 255, (height, width), dtype=np.uint8)
    image = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Prediction(key=KEY, number=number, image=image, truth=flat, predicted=flat[::-1])


def test_what_is_written_is_read_in_the_order_asked_for(tmp_path):
    write_predictions(tmp_path, KEY, [made(3), made(5, 6, 2)])
    write_predictions(tmp_path, "1" * 16, [made(9)])
    found = read_predictions(tmp_path, ["1" * 16, "f" * 16, KEY])
    assert [one.number for one in found] == [9, 3, 5]
    for name in ("truth", "predicted"):
        np.testing.assert_array_equal(getattr(found[2], name), getattr(made(5, 6, 2), name))


def test_a_pair_keeps_its_first_image_and_single_images_are_written_as_ever(tmp_path):
    pair = replace(made(3, 24, 16), before=made(4, 24, 16).image)
    assert pq.read_table(write_predictions(tmp_path, KEY, [pair])).schema == PREDICTIONS.append(
        pa.field("before", pa.binary(), nullable=False)
    )
    (found,) = read_predictions(tmp_path, [KEY])
    assert (found.before.shape, found.image.shape) == ((24, 16, 3), (24, 16, 3))
    assert np.abs(found.before.astype(int) - found.image).mean() > 10
    assert pq.read_table(write_predictions(tmp_path, KEY, [made()])).schema == PREDICTIONS
    assert read_predictions(tmp_path, [KEY])[0].before is None
    with pytest.raises(RecordsError, match="the arrays of image 3 differ in size"):
        write_predictions(tmp_path, KEY, [replace(pair, before=pair.image[:1])])


def test_a_file_names_its_classes_and_an_older_one_none(tmp_path):
    path = write_predictions(tmp_path, KEY, [replace(made(), classes=("ground", "Häuser"))])
    assert read_predictions(tmp_path, [KEY])[0].classes == ["ground", "Häuser"]
    pq.write_table(pq.read_table(path).replace_schema_metadata(None), path)
    assert list(read_predictions(tmp_path, [KEY])[0].classes) == []
    pq.write_table(pq.read_table(path).replace_schema_metadata({"classes": "["}), path)
    with pytest.raises(RecordsError, match="is damaged"):
        read_predictions(tmp_path, [KEY])


def test_an_image_looks_as_it_did_and_takes_little_room(tmp_path):
    ramp = np.linspace(0, 255, 128).astype(np.uint8)
    image = np.stack(np.broadcast_arrays(ramp[None], ramp[:, None], 255 - ramp[None]), axis=-1)
    flat = np.zeros((128, 128), np.uint8)
    path = write_predictions(tmp_path, KEY, [Prediction(key=KEY, number=0, image=image, truth=flat, predicted=flat)])
    seen = read_predictions(tmp_path, [KEY])[0].image
    assert np.abs(seen.astype(int) - image).mean() < 2
    assert path.stat().st_size < image.size / 3


def test_arrays_that_do_not_fit_are_refused(tmp_path):
    one = made()
    with pytest.raises(RecordsError, match="the arrays of image 3 differ in size"):
        write_predictions(tmp_path, KEY, [Prediction(**{**vars(one), "truth": one.truth[:1]})])
    assert not (tmp_path / "predictions").exists()


def test_damage_and_foreign_files_are_one_line(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = write_predictions(tmp_path, KEY, [made()])
    whole = path.read_bytes()
    path.write_bytes(whole[:50])
    with pytest.raises(RecordsError, match=r"cannot be read.*delete it"):
        read_predictions(tmp_path, [KEY])
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(RecordsError, match="does not hold predictions"):
        read_predictions(tmp_path, [KEY])
    row = {"key": KEY, "number": 1, "height": 3, "width": 3, "jpeg": b"12", "truth": b"1", "predicted": b"1"}
    pq.write_table(pa.Table.from_pylist([row], PREDICTIONS), path)
    with pytest.raises(RecordsError, match=r"is damaged.*delete it"):
        read_predictions(tmp_path, [KEY])


def test_a_damaged_picture_is_a_picture_or_one_line(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = write_predictions(tmp_path, KEY, [made(1, 24, 16)])
    row = pq.read_table(path).to_pylist()[0]
    rng = np.random.default_rng(0)
    said = []
    for _ in range(100):
        spoilt = bytearray(row["jpeg"])
        for at in rng.integers(0, len(spoilt), rng.integers(1, 4)):
            spoilt[at] = rng.integers(0, 256)
        pq.write_table(pa.Table.from_pylist([{**row, "jpeg": bytes(spoilt)}], PREDICTIONS), path)
        try:
            assert read_predictions(tmp_path, [KEY])[0].image.shape == (24, 16, 3)
        except RecordsError as error:
            said.append(str(error))
    assert said
    assert all("is damaged" in line and len(line.splitlines()) == 1 for line in said)
