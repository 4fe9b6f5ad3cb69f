"""Plain text for terminals: aligned tables, durations, safe strings."""

import re
from collections.abc import Iterable, Sequence


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: the first column is left-aligned, the others right-aligned; an empty row is a rule."""
    cells = [row for row in rows if row]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    rule = "  " + "-" * (sum(widths) + 3 * (len(widths) - 1))
    lines = []
    for row in rows:
        rest = [text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=False)]
        lines.append("  " + "   ".join([row[0].ljust(widths[0]), *rest]) if row else rule)
    return lines


def first_few(names: Iterable[str], limit: int, separator: str = ", ") -> str:
    """The first names in one line, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return separator.join(listed[:limit]) + more


def duration(seconds: float, *, decimals: int = 0) -> str:
    """A duration in seconds, minutes, hours or days; a negative one counts as 0. `decimals` applies to minutes."""
    seconds = max(0.0, seconds)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.{decimals}f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def failure_reason(error: str) -> str:
    """Why a cell failed: the column `error` without the last lines of the traceback, which follow a bar."""
    return error.split(" | ", 1)[0]


def printable(text: str) -> str:
    """The text without control characters, which records of unknown origin may hold; line breaks remain."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)


def one_line(text: object, *, most: int) -> str:
    """The text in one line of at most `most` characters, with control characters escaped."""
    line = " ".join(str(text).split())
    line = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", lambda match: ascii(match[0])[1:-1], line)
    return line if len(line) <= most else f"{line[: most - 3]}..."


#: Where addresses hold passwords and keys: before the last @, and in the query. A password may hold any character.
_SECRETS = re.compile(r"(?<=://)\S*@|\?[^\s?=]+=\S*")


def without_secrets(text: object) -> str:
    """The text, with the addresses in it as in `http://host:5000`: without user, password and query."""
    return _SECRETS.sub("", str(text))


def describe_error(error: Exception) -> str:
    """The message of an error in one line, without secrets, or its type if there is no message."""
    return one_line(without_secrets(error), most=200) or type(error).__name__
