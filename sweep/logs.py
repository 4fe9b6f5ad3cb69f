"""Where log messages go: all into the sweep's log file, for the terminal shows the status alone."""

import logging
from logging.handlers import MemoryHandler
from pathlib import Path


def hold() -> None:
    """Keep what is logged, at INFO and above, until `to_file` says where it goes."""
    root = logging.getLogger()
    root.addHandler(MemoryHandler(10_000, flushLevel=logging.CRITICAL + 1, flushOnClose=False))
    root.setLevel(logging.INFO)


def to_file(path: Path) -> None:
    """Send everything that is logged, and what `hold` has kept, to `path`."""
    logging.raiseExceptions = False  # a full disk must not print a traceback for each message that is lost
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    for held in [one for one in root.handlers if isinstance(one, MemoryHandler)]:
        held.setTarget(handler)
        held.flush()
        root.removeHandler(held)
    root.addHandler(handler)


def redirect(*names: str) -> None:
    """Take away the handlers by which these libraries print on their own; call it after importing them."""
    for name in names:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
