"""Where a cell's checkpoints are kept beside the folder that they are written in."""

from pathlib import Path


class Mirror:
    """Another place for the files of one folder: this one is nowhere, and those derived from it say where.

    A checkpoint counts as kept once it is there too.
    """

    def fetch(self) -> None:
        """Bring the files of that place into the folder, but for those that are in it.

        Raises:
            OSError: the place cannot be read.
        """

    def sent(self, path: Path) -> None:
        """A file of the folder is whole: send it.

        Raises:
            OSError: it could not be sent.
        """

    def gone(self, path: Path) -> None:
        """A file of the folder was removed: remove it there, now or later."""
