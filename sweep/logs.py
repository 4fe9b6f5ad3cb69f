"""Logging: everything goes to the sweep's log file, since the terminal shows the status alone."""

import logging
from pathlib import Path


def to_file(path: Path) -> None:
    """Send everything that is logged, at INFO and above, to `path` as well."""
    logging.raiseExceptions = False  # a full disk must not print a traceback for each message that is lost
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.INFO)


def redirect(*names: str) -> None:
    """Take away the handlers by which these libraries print on their own; call it after importing them."""
    for name in names:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


def nowhere() -> None:
    """Drop everything that is logged: what fails is raised, and there is no folder for the rest."""
    logging.getLogger().addHandler(logging.NullHandler())  # else Python prints warnings itself
