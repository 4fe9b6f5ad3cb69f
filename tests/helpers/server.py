"""MLflow's own server, as `python -m sweep.mlflow_server` starts it, on a free port of this machine."""

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress

from tests.helpers.command import ROOT, wait_for


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def answers(uri, host=None):
    """The status of the server's answer, asked by this host name; None where there is none."""
    asked = urllib.request.Request(f"{uri}/ajax-api/2.0/mlflow/experiments/search?max_results=1")
    if host:
        asked.add_header("Host", host)
    try:
        with urllib.request.urlopen(asked, timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


@contextmanager
def serving(folder, port, *words):
    """The process, when it answers; killed at the end, if it is not before (`kill`)."""
    command = [sys.executable, "-m", "sweep.mlflow_server", str(folder), "--port", str(port), *words]
    with open(folder / "server.log", "ab") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}") or process.poll() is not None, 120, "the server answers")
        assert process.poll() is None, (folder / "server.log").read_text()
        yield process
    finally:
        kill(process)


def kill(process):
    """Kill -9 of the server and all its processes."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
