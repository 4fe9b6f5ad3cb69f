"""The sweep. Importing it makes sure that `datasets` is ours, and sets what Ray reads when it is imported."""

import os
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_RAY = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Workers that Ray starts early lack the environment of Tune's workers: they would never be used.
    "RAY_prestart_worker_first_driver": "0",
    # Ctrl-C must raise KeyboardInterrupt in the driver; Tune's own handler ends as if all were done.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}


def _check_datasets() -> None:
    """Refuse to go on if Hugging Face's package `datasets` comes before ours: in a command by one line, exit code 2."""
    import datasets

    folder = Path(datasets.__file__ or "").resolve().parent
    if folder != _ROOT / "datasets":
        message = (
            f"sweep: the package 'datasets' was imported from {folder}, not from {_ROOT}: run `python -m "
            "sweep.run` in the project's folder, or uninstall the other package"
        )
        if sys.argv[0] != "-m":  # not a command line: a worker of Ray's, say
            raise ImportError(message)
        print(message, file=sys.stderr)
        raise SystemExit(2)


_check_datasets()
for _name, _value in _RAY.items():
    os.environ.setdefault(_name, _value)
