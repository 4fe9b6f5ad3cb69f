"""The sweep. Importing it checks that `datasets` is our package, and sets the variables that Ray reads on import."""

import os
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
_RAY = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Workers that Ray starts early lack the environment of Tune's workers, so they would never be used.
    "RAY_prestart_worker_first_driver": "0",
    # Ctrl-C must raise KeyboardInterrupt in the driver. Tune's own handler ends as if all cells were done.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # On a busy machine Ray's processes start slowly: its own limits are 30 s, 30 s and 60 s.
    "RAY_gcs_server_port_wait_time_s": "180",
    "RAY_agent_register_timeout_ms": "180000",
    "RAY_worker_register_timeout_seconds": "180",
}


def _check_datasets() -> None:
    """Refuse another package named `datasets`, such as Hugging Face's: a command ends with one line and exit code 2."""
    import datasets

    folder = Path(datasets.__file__ or "").resolve().parent
    if folder != _ROOT / "datasets":
        message = (
            f"sweep: the package 'datasets' was imported from {folder}, not from {_ROOT}: run `python -m "
            "sweep.run` in the project's folder, or uninstall the other package"
        )
        if sys.argv[0] != "-m":  # not a command line but, for example, a worker of Ray
            raise ImportError(message)
        print(message, file=sys.stderr)
        raise SystemExit(2)


_check_datasets()
for _name, _value in _RAY.items():
    os.environ.setdefault(_name, _value)
