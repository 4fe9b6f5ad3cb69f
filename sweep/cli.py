"""The command line of `sweep.run`: preset or YAML, overridden by flags; every mistake is one line and exit code 2."""

import contextlib
import difflib
import io
import re
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, TypeVar

import tyro
from tyro import _errors  # pinned; the only way to say a parse failure in one line of our own

from analysis.errors import RecordsError
from datasets.errors import InputError
from datasets.registry import check_nu, settings_class
from datasets.source import Settings
from datasets.types import TURNS
from sweep.config.sweep import Sweep
from sweep.config.yaml_io import from_yaml
from sweep.planning.prices import Prices
from sweep.presets import PRESETS, described, preset
from sweep.signals import Terminated, sigterm_raises
from sweep.storage.object_store import StoreError

DEFAULT = "vts-quick"

USAGE = """Run a sweep over loss x rho x nu x pairing, or what is missing of it, and show what it found.

usage: python -m sweep.run [PRESET] [--config sweep.yaml] [--dataset NAME] [--flags ...]

--dataset NAME puts another data set in the place of the preset's: vts, xbd, cifar10, manifest, or the settings class of
one of your own as package.module:Class. Its settings become the flags --data.*, and begin at their defaults; noise and
pairings that it does not have are left out.

Presets (default: vts-quick):

"""


@dataclass(frozen=True, kw_only=True)
class Command:
    """A sweep and what to do with it."""

    config: Path | None = None
    """A sweep.yaml to run again, instead of a preset; flags override it too."""
    dry_run: bool = False
    """Only say which cells would be run."""
    plan: bool = False
    """Only say what the cells will take, by some real steps of each loss where they would run; writes plan.json."""
    price: float | None = None
    """For --plan: USD an hour of one GPU, or of the machine where it has none."""
    spot_price: float | None = None
    """For --plan: the same of a machine that may be taken away."""
    spot_losses_per_hour: float | None = None
    """For --plan: how often an hour such a machine is taken away."""
    address: str | None = None
    """Run the cells on a Ray cluster: `auto` on one of its machines, or HOST:PORT of its head; default: start Ray here,
    for this command alone."""
    sweep: Annotated[Sweep, tyro.conf.arg(name="")]

    @property
    def prices(self) -> Prices:
        """What --plan reckons with."""
        return Prices(gpu=self.price, spot=self.spot_price, spot_losses=self.spot_losses_per_hour)


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit code: 0 complete, 1 cells are missing, 2 a mistake in what was given,
    130 Ctrl-C, 141 nobody reads what it says, 143 SIGTERM."""

    def command() -> int:
        asked = parse(argv)
        if asked.plan:
            from sweep.planning.plan import plan

            return plan(asked.sweep, asked.prices, address=asked.address)
        from sweep.driver import describe, run_sweep

        return describe(asked.sweep) if asked.dry_run else run_sweep(asked.sweep, address=asked.address)

    return run_command("sweep.run", command)


def run_command(name: str, command: Callable[[], int]) -> int:
    """Run the command and return its exit code; an error that ends it is one line after its name."""
    again = "then run the same command again"
    try:
        with sigterm_raises():
            code = command()
            sys.stdout.flush()  # here, where it is answered if nobody reads it
            return code
    except (InputError, RecordsError) as error:
        message = str(error)
    except KeyboardInterrupt as stop:  # before the first cell or after the last; while cells run it is handled there
        print(f"{name}: stopped; the same command runs what is missing", file=sys.stderr)
        return 143 if isinstance(stop, Terminated) else 130
    except BrokenPipeError:  # whoever read what it says has left, as `head` does
        return 128 + signal.SIGPIPE
    except StoreError as error:
        message = f"{error}; {again}: nothing recorded is lost"
    except OSError as error:  # a disk that is full or read-only, at any point
        message = f"{error}: free space or choose another --out, {again}"
    print(f"{name}: {message}", file=sys.stderr)
    return 2


def parse(argv: Sequence[str]) -> Command:
    """Read the command line.

    Raises:
        InputError: an unknown preset or flag, or a value that does not fit.
        SystemExit: after --help.
    """
    command, _ = parse_command(argv, lambda base: Command(sweep=base), prog="python -m sweep.run", usage=USAGE)
    if command.prices.given and not command.plan:
        raise InputError("--price, --spot-price and --spot-losses-per-hour are for --plan: add it, or leave them out")
    if command.plan and command.dry_run:
        raise InputError("--plan and --dry-run were both given: choose one")
    return replace(command, sweep=_named(command.sweep))


T = TypeVar("T")


def parse_command(argv: Sequence[str], make: Callable[[Sweep], T], *, prog: str, usage: str) -> tuple[T, Sweep]:
    """Parse a command line: a preset or --config YAML, then flags that override it.

    Args:
        argv: without the program.
        make: the command that flags override, of the preset's sweep.
        prog: the program, for --help.
        usage: what stands in --help before the presets.

    Returns:
        The command, and the preset's sweep.

    Raises:
        InputError: an unknown preset or flag, or a value that does not fit.
        SystemExit: after --help.
    """
    rest = list(argv)
    named = [rest.pop(0)] if rest and not rest[0].startswith("-") else []
    config = _value_of("--config", rest, "name the file")
    dataset = _value_of("--dataset", rest, "name a data set")
    if named and config:
        raise InputError(f"both the preset {named[0]!r} and --config {config} were given: choose one")
    base = from_yaml(Path(config)) if config else preset((named or [DEFAULT])[0])
    if dataset is not None:
        rest = _without("--dataset", rest)
        preset_out, base = base.out, on_dataset(base, dataset)
        if not config and dataset != preset((named or [DEFAULT])[0]).dataset:  # the preset's folder stays its own
            base = replace(base, out=Path(f"{preset_out}-{dataset.rpartition(':')[2].lower()}"))
    default = make(base)
    with _errors.on_parse_error(partial(_one_line, default)):
        command, unknown = tyro.cli(
            type(default),
            prog=prog,
            description=usage + described(),
            args=rest,
            default=default,
            return_unknown_args=True,
        )
    if unknown:
        raise InputError(_unknown(default, unknown[0]))
    return command, base


def _named(sweep: Sweep) -> Sweep:
    """The sweep, its preset called changed where the recipe is no longer the preset's: reports go by the name."""
    if sweep.preset in PRESETS and sweep.recipe != preset(sweep.preset).recipe:
        return replace(sweep, preset=f"{sweep.preset}, changed")
    return sweep


def on_dataset(sweep: Sweep, name: str) -> Sweep:
    """The sweep on another data set, with the settings that this begins with; what the data set lacks is left out.

    Raises:
        InputError: there is no such data set, or no sweep can be made on it.
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
        pairings=pairings or tuple(pairing for pairing in kind.pairings if pairing != "none"),
        recipe=replace(recipe, data=data, augment=augment, probe=probe),
    )


def _takes_nu(data: Settings, nu: float) -> bool:
    try:
        check_nu(data, nu)
    except InputError:
        return False
    return True


def _without(flag: str, argv: Sequence[str]) -> list[str]:
    """The words without a flag and its value."""
    rest, words = [], iter(argv)
    for word in words:
        if word == flag:
            next(words, None)
        elif not word.startswith(flag + "="):
            rest.append(word)
    return rest


def _value_of(flag: str, argv: Sequence[str], what: str) -> str | None:
    """The value of a flag that must be known before the others are read."""
    for position, word in enumerate(argv):
        if word == flag:
            if position + 1 == len(argv):
                raise InputError(f"{flag}: {what}")
            return argv[position + 1]
        if word.startswith(flag + "="):
            return word.removeprefix(flag + "=")
    return None


def _unknown(default: object, word: str) -> str:
    if not word.startswith("-"):
        return f"unexpected {word!r}: the preset comes first, values follow their flag; see --help"
    known = [*flags_of(default), "--config", "--dataset"]
    near = difflib.get_close_matches(word.split("=")[0], known, n=5, cutoff=0.5)
    return f"unknown flag {word}: " + (f"did you mean {', '.join(near)}?" if near else "see --help for all flags")


def flags(base: Sweep) -> list[str]:
    """All flags of a preset, as --help shows them: those of other data sets are not among them."""
    return flags_of(Command(sweep=base))


def flags_of(default: object) -> list[str]:
    """All flags of a command that `parse_command` makes, as --help shows them."""
    with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.suppress(SystemExit):
        tyro.cli(type(default), args=["--help"], default=default)
    return sorted(set(re.findall(r"--[a-z][a-z0-9.-]*[a-z0-9]", shown.getvalue())))


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
