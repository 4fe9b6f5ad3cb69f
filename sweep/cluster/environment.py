"""The environment variables with which processes run cells. This module does not import Ray."""

from trainables.engine import Engine


def portable_variables(engine: Engine) -> dict[str, str]:
    """The environment variables that are valid on any machine."""
    # Each checkpoint is written by a thread of its own, and glibc keeps the memory that a thread has freed for that
    # thread. With one arena the memory of a worker does not grow with every cell.
    variables = {"MALLOC_ARENA_MAX": "1"}
    if engine.deterministic:
        variables["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    return variables
