"""MLflow's server, started by the commands of docs/cluster.md, on a free port of this machine."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

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


def documented_commands(port):
    """The commands of docs/cluster.md that start a server, with another port."""
    text = (ROOT / "docs" / "cluster.md").read_text()
    return re.search(r"```\n([^`]*\nmlflow server[^`]*)```", text)[1].replace("5000", str(port))


@contextmanager
def serving(folder, port):
    """The server, whose files are below `folder`, once it answers. At the end it is killed, if it was not before."""
    paths = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "HOME": str(folder), "PATH": paths}
    with open(folder / "server.log", "ab") as log:
        process = subprocess.Popen(
            ["sh", "-ec", documented_commands(port)], env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_for(lambda: answers(f"http://127.0.0.1:{port}") or process.poll() is not None, 240, "the server answers")
        assert process.poll() is None, (folder / "server.log").read_text()
        yield process
    finally:
        kill(process)


def kill(process):
    """Kill -9 of the server and all its processes."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
