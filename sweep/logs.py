"""Logging: everything goes to the sweep's log file. The terminal shows only the status."""

import logging
from pathlib import Path

from analysis.text import without_secrets


class _WithoutSecrets(logging.Formatter):
    """Leaves passwords in addresses out of the log, whichever library logs them."""

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))


def to_file(path: Path) -> None:
    """Write all log messages at INFO and above to `path` too."""
    logging.raiseExceptions = False  # a full disk must not print a traceback for each lost message
    handler = logging.FileHandler(path)
    handler.setFormatter(_WithoutSecrets("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)


def redirect(*names: str) -> None:
    """Remove the handlers with which these libraries print messages. Call it after importing them."""
    for name in names:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


def nowhere() -> None:
    """Drop all log messages, for commands without a log file."""
    logging.getLogger().addHandler(logging.NullHandler())  # without a handler Python prints warnings itself
