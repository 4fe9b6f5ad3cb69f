"""The command line of `sweep.run`: a preset or YAML, overridden by flags. Each mistake is one line and exit code 2."""

import difflib
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_type_hints

import tyro
from tyro import _errors  # pinned; no public function turns a parse error into one line

from analysis.errors import RecordsError
from datasets.errors import InputError
from datasets.registry import check_nu, settings_class
from datasets.source import Settings
from datasets.types import TURNS
from sweep.cluster.slurm_job import seconds_left
from sweep.config.sweep import Sweep
from sweep.config.yaml_io import from_yaml
from sweep.presets import PRESETS, described, preset
from sweep.signals import Terminated, sigterm_raises
from sweep.storage.object_store import StoreError
from sweep.storage.run_dir import RunDir
from sweep.storage.system_errors import explain

DEFAULT = "vts-quick"

USAGE = """Run a sweep over loss x rho x nu x pairing, or the cells of it that are missing, and show the results.

usage: python -m sweep.run [PRESET] [--config sweep.yaml] [--dataset NAME] [--flags ...]

--dataset NAME replaces the preset's data set: vts, xbd, cifar10, manifest, or the settings class of your own data set
as package.module:Class. Its settings become the flags --data.* and start at their defaults. Values of --nu and
--pairings that it does not support are left out.

Presets (default: vts-quick):

"""


@dataclass(frozen=True, kw_only=True)
class Command:
    """A sweep, and what the command does with it."""

    config: Path | None = None
    """A sweep.yaml to run instead of a preset. Flags override it."""
    dry_run: bool = False
    """List the cells and exit."""
    plan: bool = False
    """Time some real steps of each loss, print how long the cells will take, write plan.json and exit."""
    price: float | None = None
    """For --plan: US dollars per hour of one GPU, or of a machine without a GPU."""
    address: str | None = None
    """Run the cells on a running Ray cluster: `auto` on one of its machines, or HOST:PORT of its head. Default: start
    Ray on this machine, for this command only."""
    inline: bool = False
    """Run the cells one after the other in this process, without Ray: on one GPU, or with as many threads as the engine
    has. Records and checkpoints are the same, so any other command continues in the folder."""
    shard: Literal["auto"] | None = None
    """Share --out with other commands of the same arguments, each of which takes cells that no other has: for a queue
    that favours small jobs. Without it a folder has one command at a time."""
    time_left: str | None = None
    """Minutes that the command has, or `auto`: until the end of the Slurm job. A cell is not begun if it would not end
    in time, as the plan or the recorded cells tell; the exit code is then 75."""
    sweep: Annotated[Sweep, tyro.conf.arg(name="")]


def main(argv: Sequence[str]) -> int:
    """Run the command.

    Returns:
        The exit code: 0 complete, 1 cells are missing, 2 a mistake of the user, 75 cells are left for lack of time, 130
        Ctrl-C, 141 closed output pipe, 143 SIGTERM.
    """

    def run() -> int:
        command = parse(argv)
        sweep, address = command.sweep, command.address
        if command.dry_run:
            from sweep.driver import describe

            return describe(sweep, address=address, inline=command.inline)
        if command.plan:
            _print_first(sweep)
            from sweep.planning.plan import plan

            return plan(sweep, command.price, address=address)
        return start(command)

    return run_command("sweep.run", run)


def start(command: Command, *, by_signals: bool = True) -> int:
    """Run the missing cells of a command's sweep, and show the results; see `sweep.driver.run_sweep`."""
    _print_first(command.sweep)
    from sweep.driver import run_sweep

    return run_sweep(
        command.sweep,
        address=command.address,
        inline=command.inline,
        shard=command.shard is not None,
        seconds=seconds_left(command.time_left) if command.time_left else math.inf,
        by_signals=by_signals,
    )


def _print_first(sweep: Sweep) -> None:
    """Print the first line, before imports that take seconds on a busy machine."""
    print(f"{sweep.preset} in {sweep.out}: checking settings, folder and data ...", flush=True)


def run_command(name: str, command: Callable[[], int]) -> int:
    """Run a command and return its exit code. An error that ends it is one line, after the command's name."""
    if isinstance(sys.stdout, TextIOWrapper):  # otherwise a pipe shows nothing until some pages of text are printed
        sys.stdout.reconfigure(line_buffering=True)
    try:
        with sigterm_raises(), one_line_errors():
            code = command()
            sys.stdout.flush()  # here, where a closed pipe is handled
            return code
    except InputError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:  # before the first cell or after the last: the driver handles it while cells run
        print(f"{name}: stopped; run the same command again to continue", file=sys.stderr)
        return 143 if isinstance(stop, Terminated) else 130
    except BrokenPipeError:  # the reader of the output has left, as `head` does
        return 128 + signal.SIGPIPE


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Context manager that turns all errors which a user can mend into InputError, with one line for a message."""
    again = "then run the same command again"
    try:
        yield
    except RecordsError as error:
        raise InputError(str(error)) from error
    except BrokenPipeError:
        raise
    except StoreError as error:
        raise InputError(f"{error}; {again}: no record is lost") from error
    except OSError as error:  # such as a full disk
        raise InputError(f"{explain(error)}, {again}") from error


def parse(argv: Sequence[str], base: Sweep | None = None) -> Command:
    """Read the command line.

    Args:
        argv: the arguments, without the program.
        base: the sweep that flags override, instead of that of a preset or --config.

    Raises:
        InputError: a preset or flag is unknown, or a value is invalid.
        SystemExit: after --help.
    """
    command, _ = parse_command(argv, lambda one: Command(sweep=one), prog="python -m sweep.run", usage=USAGE, base=base)
    if command.price is not None and not command.plan:
        raise InputError("--price is for --plan: add --plan, or leave --price out")
    if command.price is not None and not 0 < command.price < math.inf:
        raise InputError(f"--price {command.price:g}: must be above 0 US dollars per hour")
    if command.plan and command.dry_run:
        raise InputError("--plan and --dry-run were both given: choose one")
    if command.plan and command.sweep.encoders:
        raise InputError("--plan times pretraining, and this sweep probes kept encoders: leave --plan out")
    if command.inline:
        _check_inline(command)
    if command.shard:
        _check_shard(command.sweep)
    if command.time_left:
        seconds_left(command.time_left)
    return replace(command, sweep=_named(command.sweep))


def _check_inline(command: Command) -> None:
    """Refuse what needs Ray."""
    if command.address is not None:
        raise InputError(f"--inline and --address {command.address} were both given: choose one")
    if command.sweep.temp_dir is not None:
        raise InputError(f"--temp-dir {command.sweep.temp_dir} is for Ray, which --inline does not start: leave it out")
    if command.plan:
        raise InputError("--plan times cells in Ray's workers: leave out --inline")
    if command.sweep.workers > 1:
        raise InputError(
            f"--workers {command.sweep.workers}: --inline runs one cell at a time; "
            "give --workers 1, or leave --inline out"
        )


def _check_shard(sweep: Sweep) -> None:
    """Refuse what several commands in one folder cannot do."""
    if isinstance(sweep.out, str):
        raise InputError(
            f"--shard auto: --out {sweep.out} is an address, which one command has at a time; give a folder that all "
            "commands see, or several machines to one command (--address)"
        )
    for given, reason in ((sweep.until, "--until adds seeds"), (sweep.retry_failed, "--retry-failed runs cells again")):
        if given:
            raise InputError(
                f"--shard auto: {reason} when all cells are recorded; use it in a command of its own, afterwards"
            )


T = TypeVar("T")


def parse_command(
    argv: Sequence[str], make: Callable[[Sweep], T], *, prog: str, usage: str, base: Sweep | None = None
) -> tuple[T, Sweep]:
    """Parse a command line: a preset or --config YAML, then flags that override it.

    Args:
        argv: the arguments, without the program.
        make: returns the command for the preset's sweep; flags override its fields.
        prog: the program's name, for --help.
        usage: the text of --help before the presets.
        base: the sweep that flags override, instead of that of a preset or --config.

    Returns:
        The command, and the sweep that flags override.

    Raises:
        InputError: a preset or flag is unknown, or a value is invalid.
        SystemExit: after --help.
    """
    rest = list(argv)
    _refuse_empty(rest)
    named = [rest.pop(0)] if rest and not rest[0].startswith("-") else []
    config = _value_of("--config", rest, "name the file")
    dataset = _value_of("--dataset", rest, "name a data set")
    if named and config:
        raise InputError(f"both the preset {named[0]!r} and --config {config} were given: choose one")
    config = os.path.expanduser(config) if config else None
    if base is None:
        base = from_yaml(Path(config)) if config else preset((named or [DEFAULT])[0])
    if config and _value_of("--out", rest, "name a folder") is None:
        _check_moved(Path(config), base)
    if dataset is not None:
        rest = _without("--dataset", rest)
        start, base = base, on_dataset(base, dataset)
        if not config and base.dataset != start.dataset:  # the preset's folder stays its own
            base = replace(base, out=Path(f"{start.out}-{dataset.rpartition(':')[2].lower()}"))
    if any(argument == "--vary" or argument.startswith("--vary=") for argument in rest):
        base = replace(base, vary=())  # tyro would append to the axes of --config
    return parse_flags(make(base), rest, prog=prog, usage=usage + described()), base


def parse_flags(default: T, argv: Sequence[str], *, prog: str, usage: str) -> T:
    """A command whose flags override its fields.

    Args:
        default: the command without flags.
        argv: the flags with their values.
        prog: the program's name, for --help.
        usage: the text of --help before the flags.

    Raises:
        InputError: a flag is unknown, or a value is invalid.
        SystemExit: after --help.
    """
    with _errors.on_parse_error(partial(_one_line, default)):
        command, unknown = tyro.cli(
            type(default), prog=prog, description=usage, args=argv, default=default, return_unknown_args=True
        )
    if unknown:
        raise InputError(_unknown(default, unknown[0]))
    return command


def _check_moved(config: Path, sweep: Sweep) -> None:
    """Refuse the sweep.yaml of a folder that was moved or copied, because its `out` is still the old place."""
    folder = config.parent
    if config.name != RunDir(folder).config.name or isinstance(sweep.out, str) or not (folder / "records").is_dir():
        return
    if sweep.out.resolve() != folder.resolve():
        raise InputError(
            f"--config {config}: it says out: {sweep.out}, which is not the folder of that file; it was moved, copied "
            f"or made from another current folder: add --out {folder} to continue there, or another --out"
        )


def _named(sweep: Sweep) -> Sweep:
    """Mark the preset's name as changed if the recipe is no longer the preset's, since reports show that name."""
    if sweep.preset in PRESETS and sweep.recipe != preset(sweep.preset).recipe:
        return replace(sweep, preset=f"{sweep.preset}, changed")
    return sweep


def on_dataset(sweep: Sweep, name: str) -> Sweep:
    """Move the sweep to another data set with default settings; axis values that it does not support are left out.

    Raises:
        InputError: there is no such data set, or no sweep is possible on it.
    """
    kind = settings_class(name)
    if type(sweep.recipe.data) is kind:
        return sweep
    data, recipe = kind(), sweep.recipe
    pairings = tuple(pairing for pairing in sweep.pairings if pairing in kind.pairings)
    augment = recipe.augment if data.bands == 3 else replace(recipe.augment, hue=0.0)
    probe = replace(recipe.probe, cached_views=min(recipe.probe.cached_views, TURNS[kind.task]))
    return replace(
        sweep,
        nu=tuple(nu for nu in sweep.nu or (1.0,) if _takes_nu(data, nu)),
        pairings=pairings or tuple(one for one in kind.pairings if one != "misregistration" and one != "none"),
        recipe=replace(recipe, data=data, augment=augment, probe=probe),
    )


def _takes_nu(data: Settings, nu: float) -> bool:
    try:
        check_nu(data, nu)
    except InputError:
        return False
    return True


def _without(flag: str, argv: Sequence[str]) -> list[str]:
    """The arguments without a flag and its value."""
    rest, arguments = [], iter(argv)
    for argument in arguments:
        if argument == flag:
            next(arguments, None)
        elif not argument.startswith(flag + "="):
            rest.append(argument)
    return rest


def _value_of(flag: str, argv: Sequence[str], remedy: str) -> str | None:
    """The value of a flag that must be known before the others are parsed."""
    for position, argument in enumerate(argv):
        if argument == flag:
            if position + 1 == len(argv):
                raise InputError(f"{flag}: {remedy}")
            return argv[position + 1]
        if argument.startswith(flag + "="):
            return argument.removeprefix(flag + "=")
    return None


def _refuse_empty(argv: Sequence[str]) -> None:
    """Refuse an empty value, as a shell variable that is not set gives: as a path it would be the current folder."""
    flag = "the preset"
    for argument in argv:
        if argument.startswith("--"):
            flag, equals, value = argument.partition("=")
        else:
            equals, value = "=", argument
        # Without a rule, --until is empty. Settings of a data set may be any text.
        if equals and not value and flag != "--until" and not flag.startswith("--data."):
            raise InputError(
                f"{flag}: the value is empty (a shell variable that is not set?): give one, or leave it out"
            )


def _unknown(default: object, argument: str) -> str:
    presets = hasattr(default, "sweep")
    if not argument.startswith("-"):
        first = "preset" if presets else "folder"
        return f"unexpected {argument!r}: the {first} comes first, values follow their flag; see --help"
    known = [*flags_of(default), *(("--config", "--dataset") if presets else ())]
    near = difflib.get_close_matches(argument.split("=")[0], known, n=5, cutoff=0.5)
    return f"unknown flag {argument}: " + (f"did you mean {', '.join(near)}?" if near else "see --help for all flags")


def flags(base: Sweep) -> list[str]:
    """All flags of a preset, without those of other data sets."""
    return flags_of(Command(sweep=base))


def flags_of(default: object) -> list[str]:
    """All flags of a command of `parse_command`."""
    return sorted({"--help", *(name for flag in settings_of(default) for name in flag.names)})


class Flag(NamedTuple):
    """A setting as a flag of the command line."""

    names: tuple[str, ...]
    """The flag, its aliases, and the flag that turns it off."""
    owner: type
    """The class with the setting."""
    field: str
    value: Any


def settings_of(settings: Any, prefix: str = "--") -> Iterator[Flag]:
    """The settings of a command, and of their parts, in their order."""
    annotations = get_type_hints(type(settings), include_extras=True)
    for field in fields(settings):
        extras = getattr(annotations[field.name], "__metadata__", ())
        if tyro.conf.Suppress in extras:
            continue
        name, value = field.name.replace("_", "-"), getattr(settings, field.name)
        given = next((extra for extra in extras if hasattr(extra, "aliases")), None)  # by tyro.conf.arg
        if is_dataclass(value):
            yield from settings_of(value, prefix if given and given.name == "" else f"{prefix}{name}.")
            continue
        names = (prefix + name, *((given.aliases or ()) if given else ()))
        off = (f"{prefix}no-{name}",) if isinstance(value, bool) else ()
        yield Flag((*names, *off), type(settings), field.name, value)


def _one_line(default: object, event: _errors.ParseErrorEvent) -> None:
    """Turn tyro's boxed message into one line.

    Raises:
        InputError: always.
    """
    match event:
        case _errors.InvalidChoice(argument=argument, value=value, choices=choices):
            raise InputError(f"{argument.lowered.name_or_flags[-1]} {value}: choose from {', '.join(choices)}")
        case _errors.UnrecognizedArgs(tokens=tokens):
            raise InputError(_unknown(default, tokens[0]))
        case _errors.InstantiationFailure(message=message, argument=argument):
            flag = f"{argument.lowered.name_or_flags[-1]}: " if argument else ""
            raise InputError(flag + " ".join(message.split()))
        case _errors.BadValue(argument=argument):
            raise InputError(f"{argument.lowered.name_or_flags[-1]}: a value is missing or cannot be given")
