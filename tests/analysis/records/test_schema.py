import numpy as np
import pyarrow as pa
import pytest

from analysis.errors import RecordsError
from analysis.records.schema import (
    COLUMNS,
    Record,
    class_columns,
    columns_markdown,
    empty_row,
    record_table,
    schema,
    setting_columns,
    to_row,
)

# The columns as they are on disk since schema 1: name, type, and `!` if it cannot be null. A change
# here changes existing files of users.
ON_DISK = """
    key string!  status string!  dataset string!  objective string!  rho double!  nu double!  pairing string!
    seed int64!  test_f1_macro double  test_f1_a double  test_f1_b double  test_miou double  test_accuracy double
    test_xview2 double  val_f1_macro double  pretrain_loss double  pretrain_val_loss double  pretrain_plateau double
    pretrain_floor double  collapsed bool  feature_std double  feature_rank double  pretrain_best_step int64
    pretrain_steps int64  noisy_pairs double  noise_pixels double  nu_measured double  recipe string!  base string
    data string  source string  task string  weights string  commit string  version string!  versions string
    device string  precision string  layout string  compile string  threads int64  seconds double
    pretrain_seconds double  probe_seconds double  images_per_second double  started string!  error string
    schema int64!
"""


def done(**changes):
    known = {"key": "0" * 16, "status": "done", "dataset": "vts", "objective": "moco", "rho": 0.0, "nu": 0.0}
    known |= {"pairing": "none", "seed": 0, "recipe": "00ff", "version": "1", "started": "2026-11-01T12:00:00Z"}
    scores = {"test_f1_macro": 0.5, "test_miou": 0.4, "test_accuracy": 0.7}
    return Record(**{**known, **scores, **changes})


def test_the_schema_is_what_lies_on_disk():
    words = ON_DISK.split()
    columns = list(zip(words[::2], words[1::2], strict=True))
    assert [(f.name, f"{f.type}{'' if f.nullable else '!'}") for f in schema(["a", "b"])] == columns


def test_a_record_becomes_a_row_in_the_order_of_the_schema():
    record = done(seed=3).with_values({"test_f1_b": 0.25, "pretrain_steps": 10, "commit": "abc"})
    row = to_row(record, ["a", "b"])
    assert list(row) == [name for name in schema(["a", "b"]).names if name != "schema"]
    assert (row["seed"], row["test_f1_a"], row["test_f1_b"], row["pretrain_steps"]) == (3, None, 0.25, 10)
    (read,) = record_table(row, ["a", "b"]).to_pylist()
    assert read == {**row, "schema": 1}


def test_a_record_refuses_columns_that_do_not_exist():
    with pytest.raises(RecordsError, match="unknown columns colour, taste"):
        done().with_values({"colour": "red", "taste": "sweet"})
    with pytest.raises(RecordsError, match="unknown columns test_f1_c"):
        to_row(done(test_f1_classes={"c": 1.0}), ["a", "b"])
    with pytest.raises(TypeError, match="colour"):
        done(colour="red")


def test_a_class_may_have_any_name_but_macro():
    record = done().with_values({"test_f1_classes": 0.5})
    assert record_table(to_row(record, ["classes"]), ["classes"])["test_f1_classes"].to_pylist() == [0.5]


def test_an_empty_row_has_every_column_and_no_value():
    assert list(empty_row(["a"])) == [name for name in schema(["a"]).names if name != "schema"]
    assert set(empty_row(["a"]).values()) == {None}


def test_the_table_of_columns_has_a_line_for_each():
    lines = columns_markdown().splitlines()[2:]
    names = [line.split("`")[1] for line in lines]
    assert names == schema(["<class>"], {"<part>.<setting>": float}).names


def test_a_varied_setting_is_a_column_and_null_where_it_is_not_used():
    kinds = {"pretrain.steps": float, "data.categories": str}
    record = done(settings={"pretrain.steps": 960})
    table = record_table(to_row(record, ["a"], kinds), ["a"], kinds)
    assert table["pretrain.steps"].to_pylist() == [960.0]
    assert table["data.categories"].to_pylist() == [None]
    assert setting_columns(table.schema) == kinds
    with pytest.raises(RecordsError, match=r"unknown columns pretrain\.steps"):
        to_row(record, ["a"])


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
    with pytest.raises(RecordsError, match="names must be distinct"):
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
        ("objective", "module:"),
        ("objective", "module:My Loss"),
        ("objective", "module:Loss(lr=1)x"),
        ("objective", "module:Loss(name=\n)"),
        ("objective", f"module:Loss(name={'/' * 80})"),
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


@pytest.mark.parametrize(
    "name", ["moco", "simclr", "my_package.losses:MyLoss", "my.losses:MyLoss(lr=0.3, kind='a/b')", "simclr(tau=1)"]
)
def test_losses_of_other_packages_are_allowed(row, classes, name):
    assert record_table(row(name), classes)["objective"].to_pylist() == [name]
