import itertools
import json
import tempfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.errors import RecordsError
from analysis.records import parquet
from analysis.records.io import compact, read_records, schema, write_record
from analysis.records.merge import read_sweeps
from analysis.records.studies import studies

SCORES = ["key", "data", "status", "test_f1_macro"]


@pytest.fixture
def sweep(tmp_path, classes):
    """Writes rows as the summary of a sweep and returns its path."""

    def write(name, rows):
        return parquet.write(tmp_path / name / "summary.parquet", pa.Table.from_pylist(rows, schema(classes)))

    return write


def test_one_folder_is_as_read_by_itself(tmp_path, rows, classes):
    for each in rows[:30]:
        write_record(tmp_path, each, classes)
    joined = read_sweeps([tmp_path])
    pd.testing.assert_frame_equal(joined.records, read_records(tmp_path))
    assert (joined.folders, joined.conflicts, joined.notes) == ((tmp_path,), (), ())


def test_halves_of_a_sweep_are_the_sweep(sweep, rows):
    parts = [sweep("even", rows[::2]), sweep("odd", rows[1::2])]
    whole = read_records(sweep("whole", rows))
    for order in itertools.permutations(parts):
        joined = read_sweeps(order)
        pd.testing.assert_frame_equal(joined.records, whole)
        assert joined.conflicts == joined.notes == ()


def test_a_folder_given_twice_is_read_once_and_said(sweep, rows, tmp_path):
    path = sweep("a", rows)
    joined = read_sweeps([path, tmp_path / "b" / ".." / "a" / "summary.parquet", path])
    assert joined.folders == (path,)
    assert len(joined.records) == len(rows)
    assert len(joined.notes) == 2
    assert all("read once" in note for note in joined.notes)


def test_the_same_scores_are_counted_once_and_said(sweep, rows):
    joined = read_sweeps([sweep("a", rows), sweep("b", rows[:5])])
    pd.testing.assert_frame_equal(joined.records, read_records(sweep("c", rows)))
    assert joined.conflicts == ()
    (note,) = joined.notes
    assert note.startswith("5 cells of ")
    assert "with the same scores: counted once" in note


@pytest.mark.parametrize("done_first", [True, False])
def test_done_counts_before_failed_and_is_said(sweep, row, done_first):
    paths = {"done": sweep("done", [row()]), "failed": sweep("failed", [row(status="failed")])}
    joined = read_sweeps([paths[name] for name in (("done", "failed") if done_first else ("failed", "done"))])
    assert joined.records["status"].tolist() == ["done"]
    assert joined.conflicts == ()
    (note,) = joined.notes
    assert note == f"1 cell failed in {paths['failed']} and done in {paths['done']}: counted as done ({row()['key']})"


def test_failed_twice_is_said(sweep, row):
    joined = read_sweeps([sweep("a", [row(status="failed")]), sweep("b", [row(status="failed")])])
    assert joined.records["status"].tolist() == ["failed"]
    assert "counted once, as failed" in joined.notes[0]


def test_a_conflict_names_key_cell_values_and_which_counts(sweep, row):
    first, second = sweep("a", [row(f1=0.6)]), sweep("b", [row(f1=0.7)])
    joined = read_sweeps([first, second])
    assert joined.records["test_f1_macro"].tolist() == [0.6]
    assert joined.conflicts == (
        f"{row()['key']} (vts moco rho 0.5 nu 0.25 noisy seed 0): test_f1_macro is 0.6 in {first} and 0.7 in {second}; "
        f"that of {first} is used",
    )
    assert read_sweeps([second, first]).records["test_f1_macro"].tolist() == [0.7]


def test_any_score_can_conflict_but_a_null_is_no_score(sweep, row):
    first = sweep("a", [row(test_miou=0.4, val_f1_macro=None)])
    assert "test_miou is 0.4" in read_sweeps([first, sweep("b", [row(test_miou=0.5)])]).conflicts[0]
    joined = read_sweeps([first, sweep("c", [row(test_miou=0.4, val_f1_macro=0.3, seconds=9.0)])])
    assert joined.conflicts == ()


def test_done_without_a_score_counts_less_than_done_with_one(sweep, row):
    bare = sweep("bare", [row(test_f1_macro=None)])
    assert read_sweeps([bare, sweep("full", [row(f1=0.6)])]).records["test_f1_macro"].tolist() == [0.6]


def test_one_key_on_other_data_is_another_study(sweep, row):
    paths = [sweep(name, [row(data=name, f1=f1)]) for name, f1 in (("aa", 0.6), ("bb", 0.7))]
    joined = read_sweeps(paths)
    assert joined.conflicts == ()
    assert joined.records["data"].tolist() == ["aa", "bb"]
    assert len(list(studies(joined.records))) == 2
    assert joined.notes == ("1 cell recorded on several sets of data (fingerprints aa, bb): each is a separate study",)


def test_several_engines_in_a_study_are_said_and_in_several_studies_are_not(sweep, row):
    versions = [json.dumps({"torch": number, "ray": "2"}) for number in ("2.8", "2.9")]
    mixed = [
        row(seed=0, precision="fp32", commit="aa", versions=versions[0]),
        row(seed=1, precision="bf16", commit="aa", versions=versions[1]),
        row("random", 0.0, 0.0, "none", precision="bf16", commit="aa", versions=versions[1]),
    ]
    (note,) = read_sweeps([sweep("a", mixed)]).notes
    assert note == "vts, recipe 00ff: its records differ in versions (torch), precision (bf16: 2, fp32: 1)"
    apart = [sweep(p, [row(precision=p, recipe=p)]) for p in ("fp32", "bf16")]
    assert read_sweeps(apart).notes == ()


def test_classes_of_several_data_sets_are_united(tmp_path, row):
    write_record(tmp_path / "a", row(classes=("a", "b")), ("a", "b"))
    write_record(tmp_path / "b", row(classes=("b", "c"), dataset="xbd"), ("b", "c"))
    records = read_sweeps([tmp_path / "a", tmp_path / "b"]).records
    assert list(records.columns) == schema(["a", "b", "c"]).names
    assert records["test_f1_c"].isna().tolist() == [True, False]


def test_no_folder_and_an_empty_one_are_refused(tmp_path, sweep, row):
    with pytest.raises(RecordsError, match="no folder given"):
        read_sweeps([])
    with pytest.raises(RecordsError, match=r"no records in .*nothing"):
        read_sweeps([sweep("a", [row()]), tmp_path / "nothing"])


#: The record of a cell in a sweep: none, a failure, or one of two scores.
_OUTCOMES = st.sampled_from([None, "failed", 0.5, 0.6])
_SWEEPS = st.lists(
    st.fixed_dictionaries({(seed, data): _OUTCOMES for seed in range(3) for data in ("aa", None)}),
    min_size=2,
    max_size=3,
)


def _write(folder, outcomes, made):
    rows = []
    for (seed, data), outcome in outcomes.items():
        if outcome == "failed":
            rows.append(made(seed=seed, data=data, status="failed"))
        elif outcome is not None:
            rows.append(made(seed=seed, data=data, f1=outcome))
    table = pa.Table.from_pylist(rows, schema(("stratified", "veined", "noise")))
    return parquet.write(Path(folder, "summary.parquet"), table)


def _scores(records):
    return {
        (row["seed"], None if pd.isna(row["data"]) else row["data"]): "failed"
        if row["status"] == "failed"
        else row["test_f1_macro"]
        for row in records.to_dict("records")
    }


def _expected(sweeps):
    """The merged records by a plain loop (done before failed, then the first), and the number of conflicts."""
    best, conflicts = {}, 0
    for cell in sweeps[0]:
        known = [sweep[cell] for sweep in sweeps if sweep[cell] is not None]
        done = [outcome for outcome in known if outcome != "failed"]
        if known:
            best[cell] = (done or known)[0]
        conflicts += sum(outcome != done[0] for outcome in done)
    return best, conflicts


@given(_SWEEPS)
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])  # `row` is pure
def test_laws_of_joining(row, sweeps):
    sweeps = [sweep for sweep in sweeps if set(sweep.values()) != {None}]
    if not sweeps:
        return
    best, conflicts = _expected(sweeps)
    with tempfile.TemporaryDirectory() as folder:
        paths = [_write(f"{folder}/{i}", sweep, row) for i, sweep in enumerate(sweeps)]
        joined = read_sweeps(paths)
        assert _scores(joined.records) == best
        assert len(joined.conflicts) == conflicts
        # The order matters for conflicts only.
        back = read_sweeps(paths[::-1])
        assert bool(back.conflicts) == bool(conflicts)
        if not conflicts:
            pd.testing.assert_frame_equal(back.records[SCORES], joined.records[SCORES])
        # Merging again changes nothing, and merging in steps equals merging at once.
        table = pa.Table.from_pandas(joined.records, schema(("stratified", "veined", "noise")), preserve_index=False)
        summary = parquet.write(Path(folder, "joined", "summary.parquet"), table)
        again = read_sweeps([summary, *paths])
        pd.testing.assert_frame_equal(again.records, joined.records)
        first = read_sweeps(paths[:1]).records
        table = pa.Table.from_pandas(first, schema(("stratified", "veined", "noise")), preserve_index=False)
        step = parquet.write(Path(folder, "step", "summary.parquet"), table)
        assert _scores(read_sweeps([step, *paths[1:]]).records) == best


def test_a_folder_and_its_own_summary_are_one(tmp_path, rows, classes):
    for each in rows[:10]:
        write_record(tmp_path, each, classes)
    joined = read_sweeps([tmp_path, compact(tmp_path)])
    pd.testing.assert_frame_equal(joined.records, read_records(tmp_path))
    assert "10 cells" in joined.notes[0]
