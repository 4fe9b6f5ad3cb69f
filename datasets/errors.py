"""The one exception a user's mistake raises."""

import re


class InputError(ValueError):
    """What the user gave cannot be used; the message is one line that says what, where, what is valid, what to do.

    `python -m sweep.run` prints it without a traceback and exits with code 2.
    """


#: What no terminal shows as it is: control characters, line breaks, halves of surrogate pairs.
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def one_line(text: object, *, most: int = 300) -> str:
    """A text of others' making, such as a decoder's message or a name in a file, fit for a line of a message."""
    line = UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], " ".join(str(text).split()))
    return line if len(line) <= most else f"{line[: most - 3]}..."


def describe_error(error: Exception) -> str:
    """What an error of a library's says, in a line; its kind where it says nothing."""
    return one_line(error, most=200) or type(error).__name__
