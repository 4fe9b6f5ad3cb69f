"""Ray's folder is short, belongs to this user, and is refused before Ray starts if it cannot be used."""

import errno
import os
from collections import namedtuple
from pathlib import Path

import pytest

from datasets.errors import InputError
from sweep.cluster import ray_folder as module
from sweep.cluster.ray_folder import MOST_BYTES, SOCKET, create_ray_folder, ray_folder, shared_memory, token_variables
from tests.helpers.command import call

MOST = MOST_BYTES - len(SOCKET)


@pytest.fixture(autouse=True)
def variables(monkeypatch, tmp_path):
    for name in ("RAY_TMPDIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)


def test_it_is_the_users_choice_or_ray_s_or_in_a_folder_that_other_users_cannot_enter(monkeypatch, tmp_path):
    assert ray_folder(None) == Path(f"/tmp/noisy-pairs-{os.getuid()}/ray")
    monkeypatch.setenv("TMPDIR", "/scratch")
    assert ray_folder(None) == Path(f"/scratch/noisy-pairs-{os.getuid()}/ray")
    monkeypatch.setenv("RAY_TMPDIR", "/fast")
    assert ray_folder(None) == Path("/fast/ray")
    assert ray_folder(Path("/mine")) == Path("/mine")
    monkeypatch.delenv("RAY_TMPDIR")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(module, "MOST_BYTES", 10_000)
    create_ray_folder(ray_folder(None))
    assert (tmp_path / f"noisy-pairs-{os.getuid()}").stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    os.mkdir(tmp_path / "noisy-pairs-4711")
    with pytest.raises(InputError, match=r"\ARay cannot start: [^\n]*belongs to another user[^\n]*--temp-dir[^\n]*\Z"):
        create_ray_folder(ray_folder(None))


def test_sockets_of_the_longest_folder_that_is_allowed_fit_as_ray_counts_them():
    from ray._private.utils import validate_socket_filepath

    fits = Path("/" + "x" * (MOST - 1))
    validate_socket_filepath(f"{ray_folder(fits)}{SOCKET}")
    longer = Path(f"{fits}x")
    with pytest.raises(OSError, match="AF_UNIX path length"):
        validate_socket_filepath(f"{longer}{SOCKET}")
    with pytest.raises(InputError, match=rf"\A--temp-dir: {longer} is too long [^\n]* at most {MOST} bytes[^\n]*\Z"):
        ray_folder(longer)


@pytest.mark.parametrize("how", [[], ["--dry-run"], ["--plan"]])
def test_a_folder_that_is_too_long_or_useless_is_refused_before_anything_is_written(how, tmp_path, monkeypatch):
    monkeypatch.setattr("sweep.cluster.session.ray_session", lambda *_, **__: pytest.fail("Ray was started"))
    words = ("vts-smoke", *how, "--out", tmp_path / "out", "--temp-dir")
    for more, message in (
        (["/tmp/" + 100 * "x"], f"give --temp-dir a folder on this machine whose name has at most {MOST} bytes"),
        (["/tmp/x", "--address", "auto"], "--temp-dir /tmp/x is for a Ray that this command starts"),
    ):
        done = call(*words, *more)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert message in done.stderr
    monkeypatch.setenv("TMPDIR", "/tmp/" + 100 * "x")
    done = call(*words[:-1])
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert f"TMPDIR: /tmp/{100 * 'x'}/noisy-pairs-" in done.stderr
    assert not (tmp_path / "out").exists()
    if how == ["--dry-run"]:
        assert call(*words[:-1], "--inline").returncode == 0


def test_a_folder_for_ray_is_refused_where_ray_is_not_started(tmp_path):
    done = call("vts-smoke", "--inline", "--temp-dir", "/tmp/x", "--out", tmp_path / "out")
    assert (done.returncode, done.stderr) == (
        2,
        "sweep.run: --temp-dir /tmp/x is for Ray, which --inline does not start: leave it out\n",
    )


@pytest.mark.parametrize(
    ("free", "wanted", "reserved", "in_memory"),
    [
        (100 * 2**30, 30 * 2**30, 30 * 2**30, True),
        (2 * 2**30, 30 * 2**30, int(0.95 * 2 * 2**30), True),  # less than Ray would take, and enough
        (2**26, 30 * 2**30, 30 * 2**30, False),  # a container of Docker
    ],
)
def test_shared_data_stay_in_memory_where_there_is_enough_and_otherwise_a_line_says_so(
    free, wanted, reserved, in_memory, tmp_path, monkeypatch
):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda place: usage(free))
    amount, line = shared_memory(wanted, tmp_path)
    assert amount == reserved
    assert (line == "") == in_memory
    if line:
        assert line.startswith("/dev/shm has 0.067 GB free: Ray keeps shared data in " + str(tmp_path))
        assert "\n" not in line


def test_without_dev_shm_ray_chooses(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SHARED", tmp_path / "absent")
    assert shared_memory(7, tmp_path) == (7, "")


@pytest.fixture
def no_token(monkeypatch):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)


def full(descriptor):
    raise OSError(errno.EDQUOT, "Disk quota exceeded")


@pytest.mark.parametrize("fault", ["absent", "full", "unknown"])
def test_where_the_home_cannot_hold_the_token_it_is_in_the_environment(fault, no_token, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/dev/null/home" if fault == "absent" else str(tmp_path))
    if fault == "full":
        monkeypatch.setattr("os.fsync", full)
    if fault == "unknown":
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    first, second = token_variables(), token_variables()
    assert first.keys() == second.keys() == {"RAY_AUTH_TOKEN"}
    assert first != second
    assert len(first["RAY_AUTH_TOKEN"]) == 64


def test_otherwise_it_stays_where_ray_looks_for_it_and_only_its_user_reads_it(no_token, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert token_variables() == {}
    file = tmp_path / ".ray/auth_token"
    token = file.read_text()
    assert len(token) == 64
    assert file.stat().st_mode & 0o777 == 0o600
    assert token_variables() == {}
    assert file.read_text() == token


@pytest.mark.parametrize(
    "variables", [{"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_TOKEN": "a"}, {"RAY_AUTH_TOKEN_PATH": "/a"}]
)
def test_what_the_user_has_chosen_stays(variables, no_token, monkeypatch):
    monkeypatch.setenv("HOME", "/dev/null/home")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert token_variables() == {}
