"""The one exception a user's mistake raises."""


class InputError(ValueError):
    """What the user gave cannot be used; the message is one line that says what, where, what is valid, what to do.

    `python -m sweep.run` prints it without a traceback and exits with code 2.
    """
