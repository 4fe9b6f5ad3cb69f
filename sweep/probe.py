"""`python -m sweep.probe DIR`: probe the encoders that a sweep has kept, without pretraining again."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, get_args

import tyro

from analysis.records.remote import ENCODERS, FOLDERS, fetch, is_remote, normalized_address
from datasets.errors import InputError
from datasets.settings import local_path
from sweep.cli import parse_flags, run_command
from sweep.config.sweep import Sweep
from sweep.config.yaml_io import from_yaml
from sweep.signals import exit_with
from sweep.storage.run_dir import RunDir
from trainables.recipe import Head, Split

USAGE = """Probe the encoders that a sweep has kept (--keep encoders), without pretraining again.

usage: python -m sweep.probe DIR [--head ...] [--flags ...]

DIR is the folder of that sweep, or its address on an object store. Each of its cells becomes a cell for each
combination of the values below, with a record of its own in DIR/probe, which is the folder of a sweep that varies these
settings: repeat the command to run what is missing or to add values. All other settings are those of DIR/sweep.yaml.
"""


@dataclass(frozen=True, kw_only=True)
class ProbeCommand:
    """What to probe, and how."""

    head: tuple[Head, ...] = get_args(Head)
    """What predicts classes from the feature map: see --probe.head of sweep.run."""
    labels: tuple[float, ...] = (1.0,)
    """Shares of the training images that the probe sees, drawn from the seed; smaller ones are part of larger ones."""
    split: tuple[Split, ...] = ("test",)
    """Images that test scores are of: see --probe.split of sweep.run."""
    finetune: bool = False
    """Also train a copy of the encoder along with the heads fcn and linear, at a rate of its own (1e-4, unless
    --vary probe.encoder-lr names others)."""
    vary: Annotated[
        tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="SETTING VALUE ...")
    ] = ()
    """A further setting of the probe, with one value or more, such as `--vary probe.encoder-lr 1e-5 1e-4`;
    repeatable."""
    out: str | None = None
    """Folder or address for the records; default: DIR/probe."""
    data_root: str | None = None
    """The data, if they are elsewhere than in DIR/sweep.yaml."""
    workers: int | None = None
    """Largest number of cells that run at the same time; 0: as many as fit. Default: that of DIR/sweep.yaml."""
    retry_failed: bool = False
    """Run only the cells that are recorded as failed."""
    report: bool = True
    """Draw figures and write report.html at the end."""
    dry_run: bool = False
    """List the cells and exit."""
    address: str | None = None
    """Run the cells on a running Ray cluster: see sweep.run. Its machines must be able to read DIR."""
    inline: bool = False
    """Run the cells one after the other in this process, without Ray."""

    @property
    def axes(self) -> tuple[tuple[str, ...], ...]:
        """The settings of the probe with their values, as axes of a grid."""
        return (
            ("probe.head", *self.head),
            ("probe.labels", *map(str, self.labels)),
            ("probe.split", *self.split),
            ("probe.finetune", "false", *(("true",) if self.finetune else ())),
            *self.vary,
        )


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit code, as that of `sweep.run`."""

    def run() -> int:
        place, command = parse(argv)
        sweep = probe_of(place, command)
        if command.dry_run:
            from sweep.driver import describe

            return describe(sweep, address=command.address)
        # Before the imports below, which take seconds on a busy machine.
        print(f"probing the encoders of {place} in {sweep.out}: checking settings, folder and data ...")
        from sweep.driver import run_sweep

        return run_sweep(sweep, address=command.address, inline=command.inline)

    return run_command("sweep.probe", run)


def parse(argv: Sequence[str]) -> tuple[Path | str, ProbeCommand]:
    """Read the command line: the folder or address, then flags.

    Raises:
        InputError: no folder is given, a flag is unknown or a value is invalid.
        SystemExit: after --help.
    """
    given = [argv[0]] if argv and not argv[0].startswith("-") else []
    command = parse_flags(ProbeCommand(), argv[len(given) :], prog="python -m sweep.probe", usage=USAGE)
    if not given:
        raise InputError("name the folder of a sweep with kept encoders: python -m sweep.probe DIR")
    if command.inline and command.address is not None:
        raise InputError(f"--inline and --address {command.address} were both given: choose one")
    try:
        return normalized_address(given[0]) if is_remote(given[0]) else local_path(given[0]), command
    except ValueError as error:
        raise InputError(f"the folder {given[0]!r} {error}") from error


def probe_of(place: Path | str, command: ProbeCommand) -> Sweep:
    """The sweep that probes the kept encoders of the sweep in a folder, or in a copy of the files at its address.

    Raises:
        InputError: the folder is not that of a sweep, or its sweep varies the probe itself.
        RecordsError: the address cannot be read.
    """
    folder = place if isinstance(place, Path) else fetch(place, folders=(*FOLDERS, ENCODERS))
    config = RunDir(folder).config
    if not config.is_file():
        raise InputError(f"{place} is not the folder of a sweep: it has no {config.name}")
    before = from_yaml(config)
    if before.encoders:
        raise InputError(f"{place} probes the encoders of {before.encoders}: name that folder")
    if own := [name for name, *_ in before.vary if name.startswith("probe.")]:
        raise InputError(
            f"{place} varies {', '.join(own)}, so its encoders were probed with several settings already: probe those "
            "of a sweep that does not vary the probe"
        )
    for name in (axis[0] if axis else "" for axis in command.vary):
        if not name.removeprefix("--").startswith("probe."):
            raise InputError(f"--vary {name}: kept encoders can only be probed; name a setting such as probe.lr")
    try:
        return replace(
            before,
            encoders=folder,
            vary=(*before.vary, *command.axes),
            out=command.out or (place / "probe" if isinstance(place, Path) else f"{place}/probe"),
            until="",
            max_seeds=0,
            keep=(),
            retry_failed=command.retry_failed,
            report=command.report,
            **{name: value for name in ("data_root", "workers") if (value := getattr(command, name)) is not None},
        )
    except InputError as error:  # names the axes as sweep.run does
        raise InputError(re.sub(r"--vary probe\.(head|labels|split)\b", r"--\1", str(error))) from error


if __name__ == "__main__":
    exit_with(main(sys.argv[1:]))
