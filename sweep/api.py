"""`run_sweep`: a sweep from Python, such as a notebook. It does what the command `python -m sweep.run` does."""

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from analysis.records.io import read_records, recorded_keys
from datasets.errors import InputError
from sweep.cli import DEFAULT, Command, one_line_errors, parse, start
from sweep.config.sweep import Sweep
from sweep.presets import preset

State = Literal["complete", "cells are missing", "out of time"]
STATES: Mapping[int, State] = {0: "complete", 1: "cells are missing", 75: "out of time"}
"""Exit code of the command -> state."""
COMMANDS_ALONE = ("config", "dry_run", "help", "plan", "price")
"""Flags that are no settings of a sweep that runs."""


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """How a sweep ended, and its records."""

    state: State
    """`complete`: every planned cell is done. `cells are missing`: the printed lines say which, and why. `out of time`:
    cells are left that would not have ended within `time_left`."""
    out: Path | str
    """The folder with records, tables, figures and report, or its address."""
    records: pd.DataFrame = field(repr=False)
    """One row per recorded cell, failed ones included (column `status`); docs/records.md has the columns."""


def run_sweep(
    what: str | Path | Sweep = DEFAULT,
    *,
    out: str | Path | None = None,
    inline: bool = False,
    address: str | None = None,
    **settings: Any,
) -> SweepResult:
    """Run the cells of a sweep that are not recorded in its folder, then show and return its results.

    Every setting is one of the command's flags, with an underscore for each hyphen; settings of a part are a mapping:

        run_sweep("vts-quick", out="results/mine", rho=[0, 1], pretrain={"steps": 240})

    is `python -m sweep.run vts-quick --out results/mine --rho 0 1 --pretrain.steps 240`. Either goes on
    in the folder of the other, and does only what is missing there.

    It takes no signals. KeyboardInterrupt (Jupyter's stop button) makes running cells write their checkpoints, shows
    the results so far and is raised again; the same call continues. A second one does not wait for checkpoints. It may
    be called from any thread, and with a running event loop. In Jupyter it shows a progress bar.

    Args:
        what: the name of a preset, the path of a sweep.yaml, or a `Sweep`.
        out: folder or address of the results; default: that of the sweep.
        inline: run the cells one after the other in this process, without Ray.
        address: of a running Ray cluster that runs the cells; default: Ray is started on this machine and ended again.
        settings: settings that replace those of the sweep. None leaves a setting as it is.

    Raises:
        InputError: a setting, the folder, the data or the machine cannot be used. The message is the line that the
            command prints: what is wrong, where, what is valid, what to do. No record is lost.
        KeyboardInterrupt: the sweep was interrupted.
    """
    given = {"out": out, "inline": inline, "address": address, **settings}
    if refused := [name for name in COMMANDS_ALONE if name in settings]:
        raise InputError(f"{refused[0]}: is for the command python -m sweep.run, not for run_sweep: leave it out")
    try:
        with one_line_errors(), _process_as_before():
            command = _command(what, flags_for(given))
            code = start(command, by_signals=False)
            if code not in STATES:
                raise KeyboardInterrupt
            root = command.sweep.run_dir.root
            records = read_records(root) if recorded_keys(root).status else pd.DataFrame()
    except InputError as error:
        raise InputError(str(error)) from None  # without the traceback of our own code
    return SweepResult(state=STATES[code], out=command.sweep.out, records=records)


def _command(what: str | Path | Sweep, flags: list[str]) -> Command:
    """The command with these flags."""
    try:
        if isinstance(what, Path):
            return parse(["--config", str(what), *flags])
        return parse(flags, preset(what) if isinstance(what, str) else what)
    except SystemExit:
        raise InputError("a value is -h or --help: leave it out, and see help(run_sweep)") from None


def flags_for(settings: Mapping[str, Any], prefix: str = "--") -> list[str]:
    """Settings as flags of the command line: `{"pretrain": {"steps": 8}}` -> `["--pretrain.steps=8"]`."""
    flags: list[str] = []
    for name, value in settings.items():
        flag = prefix + name.replace("_", "-")
        if name == "vary":
            axes = [(setting, *values) for setting, values in value.items()] if isinstance(value, Mapping) else value
            flags += chain.from_iterable([flag, *map(str, axis)] for axis in axes)
        elif isinstance(value, Mapping):
            flags += flags_for(value, f"{flag}.")
        elif isinstance(value, bool):
            flags.append(flag if value else f"{prefix}no-{flag.removeprefix(prefix)}")
        elif isinstance(value, str | os.PathLike) or not hasattr(value, "__iter__"):
            flags += [] if value is None else [f"{flag}={value}"]
        else:
            flags += [flag, *map(str, value)]
    return flags


@contextmanager
def _process_as_before() -> Iterator[None]:
    """Context manager that restores what a command changes in its process: variables, and where the log goes."""
    root, variables = logging.getLogger(), dict(os.environ)
    handlers, level, raises = root.handlers[:], root.level, logging.raiseExceptions
    logging.getLogger("ray.widgets.util").setLevel(logging.WARNING)  # on import in Jupyter, Ray asks for ipywidgets,
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "IProgress not found")  # and so does tqdm, which Ray imports
            yield
    finally:
        for handler in set(root.handlers) - set(handlers):
            root.removeHandler(handler)
            handler.close()
        root.setLevel(level)
        logging.raiseExceptions = raises
        for name in os.environ.keys() - variables:
            del os.environ[name]
        os.environ.update(variables)
