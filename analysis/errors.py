"""The error that `analysis` raises for a user's mistake."""


class RecordsError(ValueError):
    """A mistake of the user's: what is wrong, where, and what to do, in one line.

    Anything else that goes wrong (a full disk, a folder without permission) stays an `OSError`.
    """
