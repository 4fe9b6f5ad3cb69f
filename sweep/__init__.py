"""The sweep. Importing it imports this project's packages, and sets the variables that Ray reads on import.

From Python, such as a notebook: `from sweep import run_sweep`.
"""

import os
import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweep.api import InputError, SweepResult, run_sweep

__all__ = ["InputError", "SweepResult", "run_sweep"]

_ROOT = Path(__file__).resolve().parents[1]
_DEFAULTS = {
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
    # Ray's own 15 would leave workers a thirtieth of a core beside another program: they would hardly start.
    "RAY_worker_niceness": "5",
    # In a container /dev/shm often has 64 MB. Ray then keeps objects in its temporary folder; ours are few and small.
    "RAY_OBJECT_STORE_ALLOW_SLOW_STORAGE": "1",
}
_ALWAYS = {
    "RAY_CLIENT_MODE": "0",
    # Under `uv run` Ray would start workers by `uv run` too, in an empty copy of this folder, where they hang.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    # As a job of Ray (`ray job submit --working-dir`), the command's workers import our packages, not the job's folder.
    "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1",
}
_NEVER = (
    "RAY_AIR_LOCAL_CACHE_DIR",  # without effect in this version of Tune, which refuses to run if it is set
    "RAY_TUNE_CALLBACKS",
    "TUNE_RESULT_DIR",  # as the first
)


def _import_packages() -> None:
    """Import our packages before another one of the same name, such as a folder `datasets` where the command runs."""
    # By its path, because `import datasets` may run the code of another project.
    namesake = runpy.run_path(str(_ROOT / "datasets" / "namesake.py"))
    sys.path.insert(0, str(_ROOT))
    try:
        import analysis  # noqa: F401 - their modules are found from now on, wherever the command runs
        import datasets
        import trainables  # noqa: F401
    finally:
        sys.path.remove(str(_ROOT))
    place = datasets.__file__
    if place is None:
        reason = f"{_ROOT / 'datasets'} has lost files, as `pip uninstall datasets` leaves it"
        namesake["refuse"](f"{reason}: {namesake['REINSTALL']}")
    folder = Path(place).resolve().parent
    if folder != _ROOT / "datasets":
        reason = f"the package 'datasets' was imported before from {folder}, not from {_ROOT / 'datasets'}"
        namesake["refuse"](f"{reason}: import 'sweep' first, or {namesake['REMEDY']}")


_import_packages()
for _name, _value in _DEFAULTS.items():
    os.environ.setdefault(_name, _value)
os.environ.update(_ALWAYS)
for _name in _NEVER:
    os.environ.pop(_name, None)


def __getattr__(name: str) -> Any:
    """What the package offers to Python, imported when it is first used: every command imports this package."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sweep import api

    return getattr(api, name)
