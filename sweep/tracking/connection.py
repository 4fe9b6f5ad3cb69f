"""Connects to MLflow, and turns whatever prevents it into one line."""

import os
import sqlite3
import uuid
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.text import describe_error, without_secrets
from datasets.errors import InputError
from sweep.config.sweep import Sweep
from sweep.logs import redirect
from sweep.storage.run_dir import database_path, database_uri

if TYPE_CHECKING:
    from sweep.tracking.client import Tracking

FOLDER_DATABASE = "delete that database if it is damaged: the next command fills a new one from the records"
OTHER_SERVER = (
    "start the server, correct MLFLOW_TRACKING_URI or --to, or unset MLFLOW_TRACKING_URI to use the database in --out"
)
OTHER_DATABASE = (
    "correct MLFLOW_TRACKING_URI or --to (MLflow takes http://HOST:PORT, and sqlite, postgresql, mysql or mssql "
    "databases whose Python driver is installed), or unset MLFLOW_TRACKING_URI to use the database in --out"
)


def connect(uri: str, sweep: Sweep, *, own: bool, kind: str = "sweep") -> "Tracking":
    """Connect to the sweep's runs in the MLflow at `uri`; `own` tells whether it is the database in the sweep's folder.

    Raises:
        InputError: the MLflow server or database cannot be used.
    """
    # By default MLflow waits several minutes for a server that does not answer.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    try:
        from sweep.tracking.client import Tracking  # here: MLflow takes seconds to import

        redirect("mlflow", "alembic")
        if own and (path := database_path(uri)):
            _make_whole(path)
            _bring_home(path)
        return Tracking(uri, sweep, own=own, kind=kind)
    except Exception as error:  # errors of MLflow, SQLAlchemy, Alembic, a database's driver, or a failed import
        raise unusable(uri, error, own=own) from error


def unusable(uri: str, error: Exception, *, own: bool) -> InputError:
    """The error of an MLflow that cannot be used, or cannot be used any more, in one line."""
    remedy = FOLDER_DATABASE if own else OTHER_SERVER if is_server(uri) else OTHER_DATABASE
    return InputError(f"MLflow at {without_secrets(uri)} cannot be used ({describe_error(error)}): {remedy}")


def is_server(uri: str) -> bool:
    """Whether the address is that of a server, which has pages of its own."""
    return uri.startswith(("http://", "https://"))


def _make_whole(path: Path) -> None:
    """Create the database with all of its tables, or not at all: MLflow cannot use one that was created in part."""
    from mlflow.tracking import MlflowClient

    if path.exists():
        return
    # A new name each time, because MLflow caches databases by name.
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    MlflowClient(database_uri(draft)).search_experiments(max_results=1)
    draft.replace(path)


def _bring_home(path: Path) -> None:
    """After the folder was moved or copied, look for the files of its runs beside its database.

    MLflow keeps absolute addresses and has no call that changes them.
    """
    from sweep.tracking.client import artifacts_beside

    here = artifacts_beside(path)
    with closing(sqlite3.connect(path)) as database, database:
        known = database.execute("SELECT artifact_location FROM experiments WHERE name LIKE 'noisy-pairs %'").fetchall()
        for (there,) in known:
            if there != here and there.endswith("/mlartifacts"):
                database.execute(
                    "UPDATE experiments SET artifact_location = ? WHERE artifact_location = ?", (here, there)
                )
                database.execute(
                    "UPDATE runs SET artifact_uri = ? || substr(artifact_uri, ?) WHERE substr(artifact_uri, 1, ?) = ?",
                    (here, len(there) + 1, len(there) + 1, f"{there}/"),
                )
