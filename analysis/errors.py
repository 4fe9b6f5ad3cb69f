"""The error that `analysis` raises for a user error."""


class RecordsError(ValueError):
    """A user error: one line that says what is wrong, where, and what to do.

    Other failures (a full disk, a folder without permission) remain an `OSError`.
    """
