"""`python -m sweep.doctor`: each check finds its problem, and reports nothing without a problem."""

import http.server
import math
import os
import re
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from functools import partial

import pytest

from sweep.cluster import checks, machine_report
from sweep.cluster.machine import Machine, NoAnswer
from sweep.cluster.machine_report import MachineReport, ReportRequest, missing_files, remove_test_files, write_test_file
from sweep.cluster.slurm_job import Job
from sweep.doctor import __main__, services
from sweep.doctor.__main__ import HERE, Targets, examine, main
from tests.helpers.command import ROOT

GB = 10**9
GOOD = MachineReport(
    python="3.12.1",
    project="0.1.0",
    commit="c" * 40,
    libraries=dict.fromkeys(machine_report.LIBRARIES, "1.0"),
    datasets="/p/datasets",
    ours="/p/datasets",
    processor="EPYC",
    cores=8,
    memory=32 * GB,
    gpus=(("H100", 80 * GB),),
    gpu_fault="",
    disks={"--out": ("/o", 100 * GB)},
    unreadable=(),
)
MACHINE = Machine(id="n", name="a", cores=8, gpus=1, memory=32 * GB)


def levels(findings, about=None):
    return [finding.level for finding in findings if about in (None, finding.about)]


@pytest.mark.parametrize(
    ("check", "change", "level", "words"),
    [
        (checks.check_python, {"python": "3.10.4"}, "FAIL", "3.10.4 on b: install Python 3.11 to 3.13"),
        (checks.check_python, {"python": "3.11.9"}, "FAIL", "3.12.1 on a; 3.11.9 on b"),
        (checks.check_code, {"project": "0.2.0"}, "FAIL", "check out the same commit on all machines"),
        (checks.check_code, {"commit": "d" * 40}, "FAIL", "commit ddddddd on b"),
        (checks.check_libraries, {"libraries": GOOD.libraries | {"torch": "2.0"}}, "FAIL", "2.0 on b"),
        (checks.check_libraries, {"libraries": GOOD.libraries | {"ray": "absent"}}, "FAIL", "not installed on b"),
        (
            checks.check_datasets_package,
            {"datasets": "/site/datasets"},
            "FAIL",
            "b imports another package of this name",
        ),
        (checks.check_memory, {"memory": GB}, "WARN", "may need more than 2 GB"),
        (checks.check_disks, {"disks": {"--out": ("/o", 3 * GB)}}, "WARN", "3.0 GB free for --out (/o) on b"),
        (checks.check_disks, {"disks": {"--out": ("/o", GB // 10)}}, "FAIL", "free some space"),
    ],
)
def test_what_differs_or_lacks_is_found_on_its_machine(check, change, level, words):
    assert set(levels(check({"a": GOOD, "b": GOOD}))) == {"ok"}
    found = list(check({"a": GOOD, "b": replace(GOOD, **change)}))
    assert any(finding.level == level and words in finding.text for finding in found), found


@pytest.mark.parametrize(
    ("check", "change"),
    [
        (checks.check_libraries, {"libraries": GOOD.libraries | {"torch": "2.0"}}),
        (checks.check_datasets_package, {"datasets": "/site/datasets"}),
        (partial(checks.check_data, paths=("/d",)), {"unreadable": ("/d",)}),
    ],
)
def test_what_a_sweep_refuses_a_cluster_for_is_wrong_to_the_doctor_too(check, change):
    assert not any(finding.refusal for finding in check({"a": GOOD, "b": GOOD}))
    refused = [finding for finding in check({"a": GOOD, "b": replace(GOOD, **change)}) if finding.refusal]
    assert levels(refused) == ["FAIL"]
    assert refused[0].refusal.startswith("machine b of the cluster ")


def test_code_with_changes_is_to_be_looked_at():
    changed = replace(GOOD, commit="c" * 40 + "+changes")
    assert "WARN" in levels(checks.check_code({"a": changed}))
    assert levels(checks.check_code({"a": replace(GOOD, commit="unknown")})) == ["ok"]
    assert levels(checks.check_code({"a": GOOD, "b": replace(GOOD, commit="unknown")})) == ["ok"]


def test_gpus_are_those_that_ray_counts():
    assert levels(checks.check_gpus({"a": GOOD}, {"a": 1})) == ["ok"]
    assert levels(checks.check_gpus({"a": GOOD}, {"a": 2})) == ["FAIL"]
    assert levels(checks.check_gpus({"a": replace(GOOD, gpus=())}, {})) == ["ok"]
    assert levels(checks.check_gpus({"a": replace(GOOD, gpus=(), gpu_fault="no driver")}, {})) == ["FAIL"]


def test_what_limits_a_machine_is_told():
    (found,) = checks.check_memory({"a": replace(GOOD, cores=4, limits="4 cores of 128: affinity")})
    assert found.text == "4 x EPYC, 32 GB of memory on a (4 cores of 128: affinity)"


def test_data_that_one_machine_lacks_is_named():
    assert levels(checks.check_data({"a": GOOD}, ("/d",))) == ["ok"]
    (found,) = checks.check_data({"a": GOOD, "b": replace(GOOD, unreadable=("/d",))}, ("/d",))
    assert found.level == "FAIL"
    assert "/d cannot be read on b" in found.text


def test_out_is_written_and_seen_by_all():
    assert levels(checks.check_out("/o", {"a": "", "b": ""}, {"a": [], "b": []})) == ["ok"]
    assert levels(checks.check_out("/o", {"a": "Read-only file system"}, {})) == ["FAIL"]
    (found,) = checks.check_out("/o", {"a": "", "b": ""}, {"a": ["b"], "b": []})
    assert found.level == "WARN"
    assert "/o on a is another disk than on b" in found.text


def test_clocks_may_differ_by_two_seconds_and_what_asking_takes():
    assert levels(checks.check_clocks({"a": 1.9, "b": -2.4}, 0.5)) == ["ok"]
    (found,) = checks.check_clocks({"a": 0.0, "b": -9.0}, 0.5)
    assert (found.level, "9 s behind on b" in found.text) == ("WARN", True)


def table(*rows):
    lines = [f"   {number}: {local} 00000000:0000 {state} 0" for number, (local, state) in enumerate(rows)]
    return "\n".join(["  sl  local_address rem_address   st", *lines])


@pytest.mark.skipif(sys.byteorder != "little", reason="as Linux prints addresses there")
def test_only_what_listens_beyond_this_machine_is_warned_of():
    said = {
        "/proc/net/tcp": table(("0100007F:1388", "0A"), ("00000000:2049", "0A"), ("00000000:1F90", "01")),
        "/proc/net/tcp6": table((f"{'0' * 24}01000000:18EB", "0A"), (f"{'0' * 16}FFFF00000100007F:2711", "0A")),
    }
    found = services.listening_ports(said.__getitem__)
    assert found == [(5000, False), (6379, False), (8265, True), (10001, False)]
    by_port = {finding.text.split()[0]: finding.level for finding in services.check_ports(found)}
    assert by_port == {"5000": "ok", "6379": "ok", "8265": "WARN", "10001": "ok"}
    assert levels(services.check_ports([(6379, True)])) == ["ok"]
    assert levels(services.check_ports([(5000, True), (5000, False)])) == ["WARN"]
    (free,) = services.check_ports([(80, True)])
    assert "are free" in free.text


def test_a_socket_that_listens_here_is_seen():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert (taken.getsockname()[1], False) in services.listening_ports()


@pytest.fixture
def answering():
    """A server on this machine that answers with a given text."""

    class Handler(http.server.BaseHTTPRequestHandler):
        text = b"OK"

        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.text)

        def log_message(self, *what):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", Handler
        server.shutdown()
        thread.join()


def test_mlflow_is_asked(answering):
    uri, handler = answering
    assert levels(services.check_mlflow(uri)) == ["ok"]
    handler.text = b"<html>"
    assert levels(services.check_mlflow(uri)) == ["FAIL"]
    assert levels(services.check_mlflow(None)) == ["ok"]
    assert levels(services.check_mlflow("sqlite:////x.db")) == ["ok"]
    for uri in ("postgresql+nowhere://me:hunter2@h/x", "ftp://me:hunter2@h", "./mlruns"):
        (found,) = services.check_mlflow(uri)
        assert found.level == "FAIL"
        assert "hunter2" not in str(found)
    (found,) = services.check_mlflow("http://me:hunter2@127.0.0.1:9")
    assert found.level == "FAIL"
    assert "hunter2" not in found.text


def test_nothing_is_left_of_what_was_written(tmp_path):
    file, fault = write_test_file(str(tmp_path / "not" / "there"), "t0")
    assert fault == ""
    assert missing_files([file, "/nowhere"]) == ["/nowhere"]
    remove_test_files(str(tmp_path / "not" / "there"), "t0")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_says_why():
    assert write_test_file("/proc/none", "t0")[1]


def test_this_machine_tells_what_it_is(tmp_path):
    facts = machine_report.report_machine(
        ReportRequest(folders={"--out": str(tmp_path / "new")}, paths=(str(tmp_path), "/nowhere"), gpus=True)
    )
    assert facts.datasets == facts.ours == str(ROOT / "datasets")
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", facts.libraries["torch"])
    assert facts.cores >= 1
    assert facts.memory > GB
    assert set(facts.disks) == {"--out", "temporary files", "the cache"}
    assert facts.unreadable == ("/nowhere",)
    assert facts.gpu_fault == ""


def test_machines_are_examined_together_and_a_silent_one_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(machine_report, "report_machine", lambda request: GOOD)

    def each(function, *arguments):
        return {"a": function(*arguments), "b": function(*arguments), "c": NoAnswer("no answer within 60 s")}

    found = list(examine(Targets(call=each, cluster=(MACHINE,)), str(tmp_path)))
    assert [finding.text for finding in found if finding.level == "FAIL"] == [
        "c does not answer (no answer within 60 s): read its Ray log, or remove it from the cluster"
    ]
    assert {"python", "code", "torch", "datasets", "gpus", "disk", "out", "clock", "mlflow", "ports"} <= {
        finding.about for finding in found
    }
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("data", "code"), [("tests", 0), ("nowhere", 1)])
def test_the_exit_code_says_whether_anything_is_wrong(data, code, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(machine_report, "_list_gpus", lambda: ((), ""))
    monkeypatch.setattr(services, "listening_ports", list)
    monkeypatch.chdir(ROOT)
    assert main(["--out", str(tmp_path), "--data-root", data]) == code
    said = capsys.readouterr().out
    assert f"on {HERE}" in said
    assert ("FAIL  data" in said) == (code == 1)


def test_a_mistake_is_one_line_and_exit_code_2(monkeypatch, capsys):
    def refuse(address):
        raise __main__.InputError("no Ray there")

    monkeypatch.setattr(__main__, "connected", refuse)
    assert main(["--address", "127.0.0.1:9"]) == 2
    assert capsys.readouterr().err == "sweep.doctor: no Ray there\n"


def test_the_command_line_itself():
    done = subprocess.run(
        [sys.executable, "-m", "sweep.doctor", "--help"],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0
    assert "--address" in done.stdout


def test_a_secret_in_an_address_and_a_cluster_that_is_not_there_are_one_line(capsys):
    for words in (["--out", "s3://KEY:SECRET@bucket/x"], ["--address", "127.0.0.1:1"]):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert said.startswith("sweep.doctor: ")
        assert said.count("\n") == 1
    assert "nothing answers" in said


def test_a_tracking_uri_may_hold_a_password_and_a_server_may_be_none():
    request = services._request("http://me:p%40ss@host:5000", "http://host:5000/health")
    assert request.get_header("Authorization") == "Basic bWU6cEBzcw=="
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        port.listen()

        def answer():
            with port.accept()[0] as asked:
                asked.sendall(b"SSH-2.0-x\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        (found,) = services.check_mlflow(f"http://me:secret@127.0.0.1:{port.getsockname()[1]}")
        thread.join()
    assert found.level == "FAIL"
    assert "secret" not in str(found)


@pytest.mark.parametrize(
    ("left", "known", "level", "words"),
    [
        (7210, "RUNNING", "ok", "job 7_3 on n[1-2]: RUNNING, 2.0 hours left"),
        (math.inf, "RUNNING", "ok", "no time limit"),
        (300, "RUNNING", "WARN", "minutes left; ask for more with --time"),
        (math.inf, "", "WARN", "squeue does not answer"),
    ],
)
def test_the_slurm_job_of_the_process_is_shown(monkeypatch, left, known, level, words):
    monkeypatch.setattr(services, "state", lambda name: known)
    (finding,) = services.check_slurm(Job(id="7_3", nodes="n[1-2]", ends=time.time() + left))
    assert finding.level == level
    assert words in finding.text


def test_without_slurm_nothing_is_said_of_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not list(services.check_slurm(None))
