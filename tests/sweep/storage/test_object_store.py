"""`--out s3://bucket/name`: a sweep on an object store, through the real command line."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from analysis.records.io import read_curves, read_records
from analysis.records.remote import fetch, working_copy
from sweep.config.sweep import Sweep
from sweep.config.yaml_io import from_yaml, to_yaml
from tests.helpers import fake_s3
from tests.helpers.command import ROOT, begun, call, in_session, read_until, run, wait_for
from tests.sweep.test_run import TIMES, runs

WORDS = ("vts-smoke", "--workers", 1, "--losses", "moco", "random", "--rho", 0)
KEEP = ("--keep", "encoders")
LONG = ("vts-smoke", "--workers", 2, "--losses", "moco", "--rho", 0, "--seeds", 0, 1, "--checkpoint-every", 0.5)


@pytest.fixture(scope="module", autouse=True)
def server():
    with fake_s3.serving() as server:
        yield server


@pytest.fixture(scope="module")
def small():
    uri = f"s3://{fake_s3.BUCKET}/small"
    return uri, run(*WORDS, *KEEP, "--out", uri)


def same(uri, folder):
    """The records without times, and without the commit, which may change between two sweeps."""
    there, here = (read_records(where).drop(columns=[*TIMES, "commit"]) for where in (uri, folder))
    pd.testing.assert_frame_equal(there, here, check_exact=True)
    pd.testing.assert_frame_equal(read_curves(uri), read_curves(folder), check_exact=True)


def begun_in(name):
    """Keys of the cells with a checkpoint at the address."""
    return {one.split("/")[1] for one in fake_s3.names(name) if one.endswith(".ckpt")}


def gone(session):
    wait_for(lambda: not in_session(session), what=f"gone: {in_session(session)}")


def test_all_that_a_sweep_leaves_lies_there_and_nothing_of_its_running(small):
    uri, done = small
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    keys = {cell.key for cell in from_yaml(working_copy(uri) / "sweep.yaml").cells()}
    found = fake_s3.names("small")
    logs = [name for name in found if name.startswith("logs/")]
    assert len(logs) == 1
    assert set(found) == {
        *(f"curves/{key}.parquet" for key in keys),
        *(f"predictions/{key}.parquet" for key in keys),
        *(f"encoders/{key}.safetensors" for key in keys),
        *(f"records/dataset=vts/objective={row.objective}/{row.key}.parquet" for row in read_records(uri).itertuples()),
        *("summary.parquet", "sweep.yaml", "data.txt", "progress.json", "tables.txt"),
        *logs,
    }
    assert f"records   {uri}/records" in done.stdout
    assert f"logs      {uri}/{logs[0]}" in done.stdout
    assert f"vts-smoke in {uri}, on " in done.stdout


@pytest.mark.slow  # what is sent is the same folder's file
def test_a_plan_lies_there_too_and_is_compared_with_what_happens():
    uri = f"s3://{fake_s3.BUCKET}/planned"
    plan = run(*WORDS, "--out", uri, "--plan")
    assert plan.returncode == 0, plan.stderr
    assert f"written to {uri}/plan.json" in plan.stdout
    assert fake_s3.names("planned") == ["plan.json"]
    shutil.rmtree(working_copy(uri))
    done = run(*WORDS, "--out", uri)
    assert done.returncode == 0, done.stderr
    assert "until the last cell: forecast" in done.stdout
    assert json.loads((fetch(uri) / "plan.json").read_text())["outcome"]["whole"]


def test_its_mlflow_is_here(small):
    _, found = runs(working_copy(small[0]))
    assert len(found) == 3
    (parent,) = (one for one in found if one.data.tags["kind"] == "sweep")
    assert parent.data.tags["folder"] == small[0]
    assert parent.info.run_name == "small"


def test_the_copy_of_a_driver_has_what_lies_there_and_no_draft(small):
    copy = working_copy(small[0])
    assert not [path for path in copy.rglob(".*") if path.is_file() and "ray" not in path.parts]
    assert not (copy / "checkpoints").exists()
    assert not list((copy / "encoders").iterdir())  # they are large


def test_with_the_copy_gone_nothing_is_run_again_and_mlflow_is_filled_from_the_records(small):
    uri, _ = small
    shutil.rmtree(working_copy(uri))
    before = {name: stamp for name, stamp in stamps("small") if name.startswith(("records", "curves"))}
    again = run(*WORDS, "--out", uri)  # in another process: this one would keep the old database open
    assert again.returncode == 0, again.stderr
    assert "all 2 cells are recorded already; nothing to run" in again.stdout
    assert {name: stamp for name, stamp in stamps("small") if name.startswith(("records", "curves"))} == before
    assert len(runs(working_copy(uri))[1]) == 3


@pytest.mark.slow
def test_a_sweep_there_is_that_in_a_folder(small, tmp_path):
    assert run(*WORDS, "--out", tmp_path / "out").returncode == 0
    same(small[0], tmp_path / "out")


def stamps(name):
    found = fake_s3.client().list_objects_v2(Bucket=fake_s3.BUCKET, Prefix=f"{name}/")["Contents"]
    return [(one["Key"].removeprefix(f"{name}/"), one["LastModified"]) for one in found]


def test_another_recipe_is_refused_by_the_address(small):
    done = call(*WORDS, "--out", small[0], "--pretrain.steps", 3)
    assert done.returncode == 2
    assert f"--out {small[0]} holds records of another recipe: pretrain.steps" in done.stderr
    assert done.stderr.count("\n") == 1
    assert ".driver" not in fake_s3.names("small")


def test_sync_takes_an_address(small):
    done = subprocess.run(
        [sys.executable, "-m", "sweep.sync", small[0]], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "of 2 recorded cells were missing" in done.stdout


@pytest.mark.parametrize(
    ("out", "reason"),
    [
        ("s3:/bucket/x", "two slashes come after the colon: write it as in s3://bucket/name"),
        ("s3:///x", "names no bucket"),
        ("s3://bucket", "names no folder in the bucket"),
        ("ftp://host/x", "use one of s3://, gs:// or the path of a folder"),
    ],
)
def test_a_mistaken_address_is_one_line(out, reason):
    done = call("vts-smoke", "--out", out, "--dry-run")
    assert done.returncode == 2
    assert done.stderr.startswith("sweep.run: --out ")
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1


def test_no_such_bucket_and_no_server_are_one_line(tmp_path):
    done = call("vts-smoke", "--out", "s3://elsewhere/x")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "s3://elsewhere/x cannot be read: there is no such bucket" in done.stderr
    done = call("vts-smoke", "--out", "s3://bucket/x", env={"AWS_ENDPOINT_URL": "http://127.0.0.1:9"})
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "s3://bucket/x cannot be read: the server does not answer" in done.stderr


def test_an_address_survives_yaml_and_a_folder_is_a_path(tmp_path):
    there = Sweep(out="s3://bucket/x/")
    assert there.out == there.run_dir.uri == there.run_dir.location == "s3://bucket/x"
    assert there.run_dir.root == working_copy("s3://bucket/x")
    (tmp_path / "sweep.yaml").write_text(to_yaml(there))
    assert from_yaml(tmp_path / "sweep.yaml") == there
    here = Sweep(out="results/x")
    assert here.out == here.run_dir.root == Path("results/x")
    assert here.run_dir.uri is None
    (tmp_path / "sweep.yaml").write_text(to_yaml(here))
    assert from_yaml(tmp_path / "sweep.yaml") == here


@pytest.mark.slow
def test_killed_it_goes_on_on_another_machine_from_the_checkpoints_there(tmp_path):
    uri = f"s3://{fake_s3.BUCKET}/killed"
    words = (*LONG, "--pretrain.steps", 300)
    with begun(*words, "--out", uri) as process:
        read_until(process, "running 2")
        wait_for(lambda: len(begun_in("killed")) == 2, 120)
        process.send_signal(signal.SIGKILL)
        process.wait()
    gone(process.pid)
    other = {"XDG_CACHE_HOME": str(tmp_path / "other")}
    refused = run(*words, "--out", uri, env=other)
    assert refused.returncode == 2
    assert f"{uri} is in use by another sweep ({os.uname().nodename}, process {process.pid}, seen " in refused.stderr
    assert "if it was killed, its lease expires in " in refused.stderr
    time.sleep(90)
    done = run(*words, "--out", uri, env=other)
    assert done.returncode == 0, done.stderr
    assert f"the previous command in this folder ({os.uname().nodename}, process {process.pid}, seen" in done.stdout
    assert "running 2, 2 of them from a checkpoint" in done.stdout
    assert not [name for name in fake_s3.names("killed") if name.startswith((".", "checkpoints"))]
    assert run(*words, "--out", tmp_path / "calm").returncode == 0
    same(uri, tmp_path / "calm")


@pytest.mark.slow
def test_killed_it_goes_on_here_at_once(tmp_path):
    uri = f"s3://{fake_s3.BUCKET}/at-once"
    words = (*LONG, "--pretrain.steps", 300)
    with begun(*words, "--out", uri) as process:
        read_until(process, "running 2")
        second = run(*words, "--out", uri, env={"XDG_CACHE_HOME": str(tmp_path / "other")})
        assert second.returncode == 2
        assert f"process {process.pid}, seen" in second.stderr
        wait_for(lambda: begun_in("at-once"), 120)
        process.send_signal(signal.SIGKILL)
        process.wait()
    gone(process.pid)
    done = run(*words, "--out", uri)
    assert done.returncode == 0, done.stderr
    assert "of them from a checkpoint" in done.stdout


@pytest.mark.slow
def test_ctrl_c_reaches_cells_and_leaves_their_checkpoints_there():
    uri = f"s3://{fake_s3.BUCKET}/stopped"
    with begun(*LONG, "--pretrain.steps", 100_000, "--out", uri) as process:
        read_until(process, "running 2")
        wait_for(lambda: len(begun_in("stopped")) == 2, 120)
        os.killpg(process.pid, signal.SIGINT)
        seen = process.stdout.read()
        assert process.wait(timeout=60) == 130, seen
    assert seen.count("stopped, has a checkpoint") == 2, seen
    gone(process.pid)
    assert len(begun_in("stopped")) == 2
    assert not {".driver", "checkpoints/stop"} & set(fake_s3.names("stopped"))


@pytest.mark.slow
def test_one_that_is_driven_by_another_stops_and_says_so():
    uri = f"s3://{fake_s3.BUCKET}/lost"
    with begun(*LONG, "--out", uri, "--pretrain.steps", 100_000) as process:
        read_until(process, "running 2")
        fake_s3.client().put_object(Bucket=fake_s3.BUCKET, Key="lost/.driver", Body=b"elsewhere, process 9\nother\n")
        seen = process.stdout.read()
        assert process.wait(timeout=60) == 2, seen
    assert f"the lease on {uri} is lost: another sweep has taken it (elsewhere, process 9)" in seen
    assert "Traceback" not in seen
    gone(process.pid)
    there = fake_s3.client().get_object(Bucket=fake_s3.BUCKET, Key="lost/.driver")["Body"].read()
    assert there == b"elsewhere, process 9\nother\n"


@pytest.mark.slow
def test_a_server_that_goes_away_ends_it_and_nothing_recorded_is_lost(tmp_path):
    words = ("vts-smoke", "--workers", 1, "--losses", "random", "moco", "--rho", 0, "--pretrain.steps", 300)
    with fake_s3.serving() as server:
        _, port = server.get_host_and_port()
        uri = f"s3://{fake_s3.BUCKET}/away"
        with begun(*words, "--out", uri, "--checkpoint-every", 1) as process:
            read_until(process, "test F1")
            server.stop()
            seen = process.stdout.read()
            assert process.wait(timeout=300) == 2, seen
        # The driver or a worker meets it first.
        assert re.search(rf"{uri}\S* cannot be written|the results could not be sent: {uri}", seen), seen
        assert "the server does not answer" in seen
        assert "run the same command again; no record is lost" in seen
        assert "Traceback" not in seen
        gone(process.pid)
        server = type(server)(ip_address="127.0.0.1", port=port, verbose=False)
        server.start()
        try:
            done = run(*words, "--out", uri)
            assert done.returncode == 0, done.stderr
            assert "1 of 2 cells are recorded; running 1" in done.stdout
        finally:
            server.stop()
