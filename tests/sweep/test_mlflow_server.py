"""MLflow's server: what it is started with, what is refused, and who may ask it."""

import os
import socket
import subprocess
import sys

import pytest

from datasets.errors import InputError
from sweep import mlflow_server
from sweep.mlflow_server import Server, check_port, check_store, choose, main, shown
from tests.helpers.command import ROOT
from tests.helpers.server import answers, free_port, serving

SECRET = "postgresql://me:hunter2@db.example:5432/runs?sslpassword=hunter3"


def server(**changes):
    return Server(**{"store": "sqlite:////tmp/x.db", "artifacts": "/tmp/a", **changes})


def test_it_listens_on_this_machine_alone_unless_told():
    words = server().words
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert "WARNING" not in server().told()
    assert not server(host="localhost").beyond
    assert not server(host="::1").beyond
    for host in ("0.0.0.0", "::", "10.0.0.7", "head.example"):
        assert server(host=host).beyond
        assert "can read, change and delete everything" in server(host=host).told()


def test_hosts_that_may_ask_are_added_to_this_machines_names():
    assert "--allowed-hosts" not in server(host="10.0.0.7").words  # MLflow's own: private networks
    words = server(host="10.0.0.7", allowed=("head.example",)).words
    names = words[words.index("--allowed-hosts") + 1].split(",")
    assert {"localhost:*", "127.0.0.1:*", "head.example"} <= set(names)


def test_no_secret_is_printed_or_can_be_listed():
    made = server(store=SECRET)
    assert "hunter" not in made.told() + " ".join(made.words) + shown(SECRET)
    assert shown(SECRET) == "postgresql://db.example:5432/runs"
    assert made.environment({})["MLFLOW_BACKEND_STORE_URI"] == SECRET
    assert "MLFLOW_TRACKING_URI" not in made.environment({"MLFLOW_TRACKING_URI": "http://x"})


@pytest.mark.parametrize(
    ("store", "message"),
    [
        ("mlflow.db", "is no address of a database"),
        ("nonsense://x", "is no address of a database"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite:////proc/none/x.db", "cannot be made"),
    ],
)
def test_a_database_that_cannot_be_is_one_line(store, message):
    with pytest.raises(InputError, match=message) as error:
        check_store(store)
    assert "\n" not in str(error.value)


def test_a_missing_driver_is_named_and_the_password_is_not(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    with pytest.raises(InputError, match="needs the package psycopg2, which is not installed") as error:
        check_store(SECRET.replace("postgresql", "postgresql+psycopg2"))
    assert "hunter" not in str(error.value)


def test_a_package_for_artifacts_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(mlflow_server, "_installed", lambda package: False)
    with pytest.raises(InputError, match="artifacts at s3://b/x need the package boto3"):
        server(store=f"sqlite:///{tmp_path}/x.db", artifacts="s3://b/x").check()


def test_a_port_that_is_taken_is_one_line(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main([str(tmp_path), "--port", str(port)]) == 2
    error = capsys.readouterr().err
    assert f"cannot listen on 127.0.0.1, port {port}" in error
    assert error.count("\n") == 1
    check_port("127.0.0.1", port)
    with pytest.raises(InputError, match="ports are 1 to 65535"):
        check_port("127.0.0.1", 70_000)


def test_places_follow_from_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    home = tmp_path / "noisy-pairs"
    assert choose(None, None, None) == (f"sqlite:///{home}/mlflow.db", f"{home}/mlartifacts")
    assert choose("s3://b/x/", None, None) == (f"sqlite:///{home}/mlflow.db", "s3://b/x/mlartifacts")
    assert choose("/d", None, "s3://b") == ("sqlite:////d/mlflow.db", "s3://b")
    assert choose("/d", SECRET, None) == (SECRET, "/d/mlartifacts")


@pytest.mark.slow
def test_it_answers_by_the_names_of_this_machine_and_of_a_tunnel_and_by_no_other(tmp_path):
    port = free_port()
    with serving(tmp_path, port):
        uri = f"http://127.0.0.1:{port}"
        assert answers(uri) == 200
        assert answers(uri, "localhost:5000") == 200
        assert answers(uri, "evil.example") == 403
        assert answers(uri, "10.0.0.7") == 403
    assert (tmp_path / "mlflow.db").exists()
    said = (tmp_path / "server.log").read_text()
    assert f"export MLFLOW_TRACKING_URI={uri}" in said
    assert f"ray attach cluster.yaml -p {port}" in said


def test_the_command_line_itself(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "sweep.mlflow_server", "--store", "x"],
        cwd=ROOT,
        env={**os.environ, "XDG_DATA_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("sweep.mlflow_server: --store is no address")
