import numpy as np
import pyarrow as pa
import pytest

from analysis.errors import RecordsError
from analysis.records.schema import COLUMNS, class_columns, record_table, schema


def test_class_scores_stand_behind_the_macro_score():
    names = schema(["a", "b"]).names
    at = names.index("test_f1_macro")
    assert names[at : at + 4] == ["test_f1_macro", "test_f1_a", "test_f1_b", "test_miou"]
    assert [n for n in names if n not in ("test_f1_a", "test_f1_b")] == [c.name for c in COLUMNS]
    assert class_columns(names) == ["a", "b"]


def test_every_column_is_explained_once():
    assert len({c.name for c in COLUMNS}) == len(COLUMNS)
    assert all(c.meaning for c in COLUMNS)


@pytest.mark.parametrize("classes", [["a", "a"], ["macro"], [""]])
def test_classes_that_would_collide_are_refused(classes):
    with pytest.raises(RecordsError, match="name of its own"):
        schema(classes)


def test_schema_does_not_depend_on_what_is_null(row, classes):
    full = record_table(row(), classes)
    baseline = record_table(row("random", 0.0, 0.0, "none"), classes)
    failed = record_table(row(status="failed"), classes)
    assert full.schema == baseline.schema == failed.schema == schema(classes)
    assert baseline["pretrain_loss"].null_count == failed["test_f1_macro"].null_count == 1


def test_missing_and_unknown_columns_are_named_all_at_once(row, classes):
    broken = row(colour="red", taste="sweet")
    del broken["seed"], broken["commit"]
    with pytest.raises(RecordsError, match="lacks the columns seed, commit"):
        record_table(broken, classes)
    with pytest.raises(RecordsError, match="unknown columns colour, taste"):
        record_table(row(colour="red", taste="sweet"), classes)
    with pytest.raises(RecordsError, match="unknown columns test_f1_noise"):
        record_table(row(), classes[:2])


@pytest.mark.parametrize("name", [c.name for c in COLUMNS if c.required == "always" and c.name != "status"])
def test_required_columns_must_not_be_null(row, classes, name):
    with pytest.raises(RecordsError, match=f"null in.*{name}"):
        record_table(row(**{name: None}), classes)


def test_what_is_required_depends_on_the_outcome(row, classes):
    with pytest.raises(RecordsError, match="null in test_f1_macro"):
        record_table(row(test_f1_macro=None), classes)
    with pytest.raises(RecordsError, match="null in error"):
        record_table(row(status="failed", error=None), classes)


@pytest.mark.parametrize("nan", [float("nan"), np.float64("nan"), np.float32("nan")])
def test_nan_is_null(row, classes, nan):
    assert record_table(row(pretrain_loss=nan), classes)["pretrain_loss"].null_count == 1
    with pytest.raises(RecordsError, match="null in test_miou"):
        record_table(row(test_miou=nan), classes)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("key", "../../etc/passwd"),
        ("key", "0123456789ABCDEF"),
        ("status", "running"),
        ("dataset", "../up"),
        ("dataset", "2026"),
        ("objective", "a/b"),
        ("pairing", "both"),
        ("schema", 2),
        ("rho", "much"),
        ("seed", 1.5),
        ("commit", 7),
    ],
)
def test_values_that_are_not_allowed_are_named(row, classes, name, value):
    with pytest.raises(RecordsError, match=f"{name}="):
        record_table(row(**{name: value}), classes)


def test_numpy_numbers_are_taken(row, classes):
    table = record_table(row(rho=np.float32(0.5), seed=np.int32(3), test_miou=np.float64(0.5)), classes)
    assert table.schema.field("rho").type == pa.float64()
    assert table["seed"].to_pylist() == [3]
