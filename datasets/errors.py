"""The exception for mistakes of the user, and helpers for its one-line message."""

import re


class InputError(ValueError):
    """An input cannot be used. The message is one line: what is wrong, where, what is valid, what to do.

    `python -m sweep.run` prints it without a traceback and exits with code 2.
    """


#: Characters that terminals do not print: control characters, line breaks, halves of surrogate pairs.
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def refuse_pointer(content: bytes) -> None:
    """Refuse what stands for a file in a repository that was cloned or downloaded without Git LFS.

    Args:
        content: of the file, or its first bytes.

    Raises:
        InputError: the content is such a pointer. The message does not name the file.
    """
    if content.startswith(b"version https://git-lfs"):
        raise InputError("is a pointer of Git LFS, not the file itself; fetch the files with `git lfs pull`")


def one_line(text: object, *, most: int = 300) -> str:
    """Any text, such as the message of a decoder, as one printable line of at most `most` characters."""
    line = UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], " ".join(str(text).split()))
    return line if len(line) <= most else f"{line[: most - 3]}..."


def describe_error(error: Exception) -> str:
    """The message of an error as one line; its type if it has no message."""
    return one_line(error, most=200) or type(error).__name__
