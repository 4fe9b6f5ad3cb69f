"""Sweeps at `s3://...` are read like those in a folder, and errors are one line."""

import os
import shutil

import pandas as pd
import pytest

from analysis import claims, figures, summary
from analysis.cli import path_or_address
from analysis.errors import RecordsError
from analysis.records import remote
from analysis.records.io import read_curves, read_records, recorded_keys, write_curves, write_record
from analysis.records.remote import (
    default_folder,
    fetch,
    is_remote,
    local_copy,
    normalized_address,
    working_copy,
)
from analysis.report import __main__ as report
from tests.helpers import fake_s3

A, B, C = (16 * letter for letter in "abc")
"""Keys of cells."""


@pytest.fixture(scope="module")
def server():
    with fake_s3.serving() as server:
        yield server


@pytest.fixture
def sweep(server, tmp_path, request, row, classes):
    """A folder with three records, and the address of its copy in the bucket."""
    name = request.node.name.split("[")[0]
    for seed, key in enumerate((A, B, C)):
        write_record(tmp_path / name, row(key=key, seed=seed), classes)
        write_curves(tmp_path / name, key, [("pretrain", 1, "val_loss", 1.0)])
    send(tmp_path / name, name)
    return tmp_path / name, f"s3://{fake_s3.BUCKET}/{name}"


def send(folder, name):
    for path in folder.rglob("*"):
        if path.is_file():
            fake_s3.client().upload_file(str(path), fake_s3.BUCKET, f"{name}/{path.relative_to(folder).as_posix()}")


def test_records_of_an_address_are_those_of_the_folder(sweep):
    folder, uri = sweep
    pd.testing.assert_frame_equal(read_records(uri), read_records(folder))
    pd.testing.assert_frame_equal(read_curves(uri), read_curves(folder))
    assert recorded_keys(uri) == recorded_keys(folder)


def test_the_copy_follows_what_lies_there(sweep, row, classes):
    folder, uri = sweep
    copy = fetch(uri)
    assert copy == working_copy(uri, "read") != working_copy(uri)
    own = [copy / "mlflow.db", copy / "logs" / "sweep.log"]
    for path in own:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (path,) = (copy / "records").rglob(f"{A}.parquet")
    bucket = fake_s3.client()
    bucket.delete_object(Bucket=fake_s3.BUCKET, Key=f"{uri.rsplit('/', 1)[1]}/{path.relative_to(copy).as_posix()}")
    assert set(read_records(uri).key) == {B, C}
    write_record(folder, row(key=B, seed=1, test_f1_macro=0.125), classes)
    send(folder, uri.rsplit("/", 1)[1])
    assert read_records(uri).set_index("key").test_f1_macro[B] == 0.125
    assert set(read_records(uri).key) == {A, B, C}
    assert all(path.exists() for path in own)


def test_the_plan_comes_with_a_summary_alone_and_goes_with_it(sweep):
    # It holds the level of intervals.
    uri = sweep[1]
    name, bucket = uri.rsplit("/", 1)[1], fake_s3.client()
    for content in (b"seeds: [0]", b"seeds: [0, 1]", None):
        if content:
            bucket.put_object(Bucket=fake_s3.BUCKET, Key=f"{name}/sweep.yaml", Body=content)
        else:
            bucket.delete_object(Bucket=fake_s3.BUCKET, Key=f"{name}/sweep.yaml")
        bucket.put_object(Bucket=fake_s3.BUCKET, Key=f"{name}/summary.parquet", Body=b"a summary")
        copy = fetch(f"{uri}/summary.parquet")
        assert copy.read_bytes() == b"a summary"
        beside_it = copy.with_name("sweep.yaml")
        assert (beside_it.read_bytes() if beside_it.exists() else None) == content


def test_only_what_differs_is_read(sweep, monkeypatch):
    monkeypatch.setattr(remote, "SETTLED_AFTER", 0)  # the files were written just now
    uri = sweep[1]
    copy = fetch(uri)
    before = {path: path.stat().st_ino for path in copy.rglob("*.parquet")}
    fetch(uri)
    assert {path: path.stat().st_ino for path in copy.rglob("*.parquet")} == before
    os.utime(next(iter(before)))
    fetch(uri)
    after = {path: path.stat().st_ino for path in copy.rglob("*.parquet")}
    assert after.keys() == before.keys()
    assert sum(after[path] != before[path] for path in before) == 1
    assert not [path for path in copy.iterdir() if path.name.startswith(".")]


def test_checkpoints_and_what_is_not_a_sweeps_are_left_there(sweep):
    folder, uri = sweep
    for name in ("checkpoints/a/probe-1.ckpt", "encoders/a.safetensors", "notes.txt", "records/.draft", ".driver"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    send(folder, uri.rsplit("/", 1)[1])
    assert {path.name for path in fetch(uri).iterdir()} == {"records", "curves"}
    assert not list(fetch(uri).rglob(".draft"))


def test_every_command_takes_an_address(sweep, tmp_path, monkeypatch, capsys):
    folder, uri = sweep
    name = uri.rsplit("/", 1)[1]
    assert summary.main([uri]) == 0
    text = capsys.readouterr().out
    assert summary.main([str(folder)]) == 0
    assert capsys.readouterr().out == text
    assert claims.main([uri, "--format", "csv"]) == 0
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert report.main([uri, "--format", "md"]) == 0
    assert capsys.readouterr().out.endswith(f"{name}/report.md\n")
    assert figures.main([uri, "--only", "curves", "--formats", "svg"]) == 0
    assert f"{name}/figures: " in capsys.readouterr().out
    assert (tmp_path / "here" / name / "report.md").exists()
    assert list((tmp_path / "here" / name / "figures").iterdir())


def test_a_summary_at_an_address_is_read_alone(sweep):
    folder, uri = sweep
    assert summary.main([str(folder)]) == 0
    send(folder, uri.rsplit("/", 1)[1])
    shutil.rmtree(working_copy(uri, "read"), ignore_errors=True)
    pd.testing.assert_frame_equal(read_records(f"{uri}/summary.parquet"), read_records(folder))
    assert not working_copy(uri, "read").exists()
    assert default_folder(f"{uri}/summary.parquet").name == "summary"


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("s3:/bucket/x", "two slashes"),
        ("s3:bucket/x", "two slashes"),
        ("s3://", "names no bucket"),
        ("s3:///x", "names no bucket"),
        ("s3://bucket", "no folder in the bucket"),
        ("s3://bucket/", "no folder in the bucket"),
        ("ftp://host/x", "ftp:// is not supported, use one of s3://, gs://"),
        ("s3://key:secret@bucket/x", "put keys and options into the environment"),
        ("s3://bucket/x?endpoint_override=elsewhere", "put keys and options into the environment"),
        ("s3://bucket/a b", "only letters, digits"),
        ("s3://bucket/../x", "is not a folder there"),
        ("s3://bucket/a//b", "is not a folder there"),
    ],
)
def test_a_mistaken_address_is_one_line(uri, reason, capsys):
    with pytest.raises(RecordsError, match=reason) as raised:
        normalized_address(uri)
    assert "\n" not in str(raised.value)
    assert summary.main([uri]) == 2
    assert reason in capsys.readouterr().err


def test_paths_stay_paths(tmp_path):
    for text in ("results/x", "/a/b", "C:/x", "./s3:/x", "a:b"):
        assert not is_remote(text)
        assert path_or_address(text) == local_copy(text) == type(tmp_path)(text)
    assert normalized_address("s3://bucket/x/") == "s3://bucket/x"
    assert working_copy("s3://a/x") != working_copy("s3://b/x")


def test_what_is_not_there_is_one_line(server, capsys):
    assert summary.main(["s3://bucket/nothing"]) == 2
    assert "no records at s3://bucket/nothing: run a sweep with --out s3://bucket/nothing" in capsys.readouterr().err
    assert summary.main(["s3://elsewhere/x"]) == 2
    assert capsys.readouterr().err == (
        "error: s3://elsewhere/x cannot be read: there is no such bucket: create it, or correct the address\n"
    )


def test_a_server_that_is_away_is_one_line_and_the_copy_stays(sweep, monkeypatch):
    copy = fetch(sweep[1])
    before = sorted(copy.rglob("*"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(RecordsError, match=r"cannot be read: the server does not answer: .* AWS_ENDPOINT_URL"):
        fetch(sweep[1])
    assert sorted(copy.rglob("*")) == before
