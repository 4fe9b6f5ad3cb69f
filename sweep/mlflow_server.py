"""`python -m sweep.mlflow_server [DIR]`: MLflow's server for sweeps, on this machine alone unless told otherwise.

DIR is a sweep's folder, whose own database and artifacts are then shown, or any other folder or URI (s3://...) for
both artifacts and, if it is a folder, the database. Without DIR they lie in the user's data folder
($XDG_DATA_HOME or ~/.local/share, in noisy-pairs).
"""

import argparse
import ipaddress
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from analysis.records.remote import working_copy
from datasets.errors import InputError, one_line

LOOPBACK = ("localhost", "localhost:*", "127.0.0.1", "127.0.0.1:*", "[[]::1]", "[[]::1]:*")
"""Host names by which a browser comes, at this machine or through a tunnel. `[[]` is how MLflow writes a bracket."""
PROCESSES = 2
"""Processes that answer. A sweep has one driver, and people look; each takes some 300 MB."""
CLOUDS = {"s3": ("boto3", "pip install -e '.[cluster]'"), "gs": ("google.cloud.storage", "see MLflow's documentation")}
"""Scheme of artifacts -> the package that MLflow needs for it, and where it comes from."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """What is asked for."""

    store: str
    """The database, as SQLAlchemy names it; it may hold a password."""
    artifacts: str
    """Folder or URI."""
    host: str = "127.0.0.1"
    port: int = 5000
    allowed: tuple[str, ...] = ()
    """Host names, beside this machine's, by which browsers may ask."""

    @property
    def beyond(self) -> bool:
        """Whether other machines can reach it."""
        if self.host == "localhost":
            return False
        try:
            return not ipaddress.ip_address(self.host).is_loopback
        except ValueError:  # a name
            return True

    @property
    def words(self) -> list[str]:
        """The command. What may be secret is in the environment, for everybody can list a machine's processes."""
        words = [sys.executable, "-m", "mlflow", "server", "--host", self.host, "--port", str(self.port)]
        words += ["--workers", str(PROCESSES), "--artifacts-destination", self.artifacts]
        # MLflow's own list has all private networks too. It is replaced, never added to.
        if self.allowed or not self.beyond:
            words += ["--allowed-hosts", ",".join((*LOOPBACK, *self.allowed))]
        return words

    def environment(self, here: Mapping[str, str]) -> dict[str, str]:
        """The variables it starts with."""
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        # A tracking URI would make the server a client of itself.
        kept = {name: value for name, value in here.items() if name != "MLFLOW_TRACKING_URI"}
        return {**kept, **quiet, "MLFLOW_BACKEND_STORE_URI": self.store}

    def check(self) -> None:
        """Make sure that it can be started, and make the folders.

        Raises:
            InputError: the database or its driver, the artifacts' package, or the port cannot be had.
        """
        check_store(self.store)
        scheme = self.artifacts.split("://")[0]
        if scheme in CLOUDS and not _installed(CLOUDS[scheme][0]):
            package, remedy = CLOUDS[scheme]
            raise InputError(f"artifacts at {self.artifacts} need the package {package}: {remedy}")
        check_port(self.host, self.port)
        if "://" not in self.artifacts:
            _make(Path(self.artifacts))

    def told(self) -> str:
        """What to do with it."""
        name = "127.0.0.1" if self.host in ("localhost", "127.0.0.1") or self.beyond else self.host
        here = f"http://{f'[{name}]' if ':' in name else name}:{self.port}"
        lines = [
            f"database  {shown(self.store)}",
            f"artifacts {self.artifacts}",
            f"sweeps    export MLFLOW_TRACKING_URI={here}   (on this machine, before python -m sweep.run)",
            f"pages     {here}/#/experiments?workflowType=machine_learning",
            f"from afar ray attach cluster.yaml -p {self.port}",
            f"          or ssh -N -L {self.port}:127.0.0.1:{self.port} HEAD, then the same address on your machine",
        ]
        if self.beyond:
            lines.append(
                f"WARNING: whoever reaches {self.host}:{self.port} can read, change and delete everything in it"
            )
            if not self.allowed:
                lines.append("browsers may use this machine's private addresses; name others by --allowed-hosts")
        return "\n".join(lines)


def shown(store: str) -> str:
    """A database's address without user, password and options."""
    url = make_url(store)
    return URL.create(url.drivername, host=url.host, port=url.port, database=url.database).render_as_string()


def check_store(store: str) -> None:
    """Make sure that MLflow can use this database; a folder for SQLite is made.

    Raises:
        InputError: no such kind of database, no driver for it, or it does not let us in. Never tells a password.
    """
    try:
        url = make_url(store)
        url.get_dialect().import_dbapi()
    except ModuleNotFoundError as error:
        package = "psycopg[binary]" if error.name == "psycopg" else str(error.name)
        raise InputError(
            f"--store {shown(store)} needs the package {error.name}, which is not installed: "
            f"`pip install '{package}'`, or use sqlite:////absolute/file.db"
        ) from error
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise InputError(
            "--store is no address of a database: use sqlite:////absolute/file.db or postgresql://user:password@host/name"
        ) from error
    if url.get_backend_name() == "sqlite":
        if not url.database or url.database == ":memory:":
            raise InputError("--store names no file: use sqlite:////absolute/file.db")
        _make(Path(url.database).parent)
        return
    try:
        engine = create_engine(url)
        engine.connect().close()
        engine.dispose()
    except SQLAlchemyError as error:
        cause = one_line(str(error.__cause__ or error).replace(url.password or "\0", "***"), most=200)
        raise InputError(f"--store {shown(store)} does not answer ({cause}): start it, or mend the address") from error


def check_port(host: str, port: int) -> None:
    """Make sure that we can listen there.

    Raises:
        InputError: somebody else does, or this machine has no such address.
    """
    if not 0 < port < 65536:
        raise InputError(f"--port {port}: ports are 1 to 65535")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise InputError(
            f"cannot listen on {host}, port {port} ({error.strerror or error}): is a server running "
            "there already? choose another --port, or another --host"
        ) from error


def choose(where: str | None, store: str | None, artifacts: str | None) -> tuple[str, str]:
    """Database and artifacts, by DIR and what is given beside it."""
    remote = where is not None and "://" in where
    folder = Path(where).resolve() if where is not None and not remote else data_folder()
    if remote and (own := working_copy(str(where).rstrip("/")) / "mlflow.db").exists():  # of the sweep that ran here
        folder = own.parent
    if artifacts is None:
        artifacts = f"{str(where).rstrip('/')}/mlartifacts" if remote else str(folder / "mlartifacts")
    elif "://" not in artifacts:
        artifacts = str(Path(artifacts).resolve())
    return store or f"sqlite:///{folder / 'mlflow.db'}", artifacts


def data_folder() -> Path:
    """The user's data for this project, as the XDG specification has it; it need not exist."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "noisy-pairs"


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # of a part of a package that is not there
        return False


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder} cannot be made ({error.strerror or error}): choose another place") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of the command line: becomes the server, or returns 2 for a mistake."""
    parser = argparse.ArgumentParser(
        prog="python -m sweep.mlflow_server", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("where", nargs="?", metavar="DIR", help="folder, or URI for artifacts (default: user's data)")
    parser.add_argument(
        "--store", metavar="URI", help="database: sqlite:////file.db, postgresql://user:password@host/x"
    )
    parser.add_argument("--artifacts", metavar="PATH", help="folder or URI of artifacts (default: DIR/mlartifacts)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    parser.add_argument("--port", type=int, default=5000, help="port (default: 5000)")
    parser.add_argument(
        "--allowed-hosts", default="", metavar="NAMES", help="names by which browsers may ask, beside localhost: a,b"
    )
    asked = parser.parse_args(argv)
    store, artifacts = choose(asked.where, asked.store, asked.artifacts)
    allowed = tuple(filter(None, asked.allowed_hosts.split(",")))
    server = Server(store=store, artifacts=artifacts, host=asked.host, port=asked.port, allowed=allowed)
    try:
        server.check()
    except InputError as error:
        print(f"sweep.mlflow_server: {error}", file=sys.stderr)
        return 2
    print(server.told(), flush=True)
    return os.execve(sys.executable, server.words, server.environment(os.environ))  # this process becomes it


if __name__ == "__main__":
    sys.exit(main())
