"""What `analysis` says when its user made a mistake."""

import re


class RecordsError(ValueError):
    """A mistake of the user's: what is wrong, where, and what to do, in one line.

    Anything else that goes wrong (a full disk, a folder without permission) stays an `OSError`.
    """


def in_a_line(text: object, *, most: int) -> str:
    """A text of others' making, fit for a line of a message: what no terminal shows is escaped, the rest is cut."""
    line = " ".join(str(text).split())
    line = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", lambda found: ascii(found[0])[1:-1], line)
    return line if len(line) <= most else f"{line[: most - 3]}..."


def reason(error: Exception) -> str:
    """What an error of a library's says, in a line; its kind where it says nothing."""
    return in_a_line(error, most=200) or type(error).__name__
