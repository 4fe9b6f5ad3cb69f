"""Options of sbatch: reads them, and refuses those that contradict the sweep or what its script needs."""

import re
from collections.abc import Iterator, Mapping, Sequence

from datasets.errors import InputError
from sweep.cli import Command
from sweep.cluster.slurm_job import NOTICE

SHORT = {
    "-A": "account",
    "-C": "constraint",
    "-G": "gpus",
    "-J": "job-name",
    "-N": "nodes",
    "-a": "array",
    "-c": "cpus-per-task",
    "-d": "dependency",
    "-e": "error",
    "-n": "ntasks",
    "-o": "output",
    "-p": "partition",
    "-q": "qos",
    "-t": "time",
    "-w": "nodelist",
    "-x": "exclude",
}
"""Short names of options, and the long ones."""
OURS = {
    "chdir": "the script goes to the folder where you type this command",
    "wrap": "the script runs the sweep",
    "ntasks": "a sweep is one process on each node, and takes its --cpus-per-task; give --nodes for more of them",
    "ntasks-per-node": "a sweep is one process on each node, and takes its --cpus-per-task",
}
"""Options that the script decides, and why."""

Options = Mapping[str, str]
"""Long name -> value; empty for options without one."""


def parse_options(words: Sequence[str]) -> dict[str, str]:
    """Read options as sbatch takes them, by their long or short names.

    Raises:
        InputError: a word is no option, or belongs to the script.
    """
    found: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if match := re.fullmatch(r"--([a-z][a-z-]*)(?:=(.*))?", word, re.DOTALL):
            name, value = match[1], match[2]
        elif word[:2] in SHORT:
            name, value = SHORT[word[:2]], word[2:].removeprefix("=") or None
        else:
            raise InputError(f"{word}: no option of sbatch that is known here; after -- give such as --partition=NAME")
        if value is None:
            value = rest.pop(0) if rest and not rest[0].startswith("-") else ""
        if name in OURS and not (name.startswith("ntasks") and value == "1"):
            raise InputError(f"--{name} {value}: leave it out: {OURS[name]}")
        if "\n" in value:
            raise InputError(f"--{name}: the value has several lines")
        found[name] = value
    return found


def nodes(options: Options) -> int:
    """The number of nodes of a job.

    Raises:
        InputError: it is not fixed.
    """
    text = options.get("nodes") or "1"
    if not re.fullmatch(r"[1-9]\d*", text):
        raise InputError(f"--nodes {text}: give one number: Ray waits for so many nodes")
    return int(text)


def check_options(options: Options, command: Command) -> None:
    """Refuse what contradicts the sweep, or what its script needs.

    Raises:
        InputError: with the option, and what to do.
    """
    for refusal in _refusals(options, command):
        raise InputError(refusal)


def _refusals(options: Options, command: Command) -> Iterator[str]:
    sweep, several, array = command.sweep, nodes(options) > 1, "array" in options
    if command.plan or command.dry_run:
        yield "--plan and --dry-run run no cell: leave them out here, and run them with `python -m sweep.run`"
    if several and array:
        yield "--nodes and --array were both given: choose several nodes for one command, or several small jobs"
    if several and command.inline:
        yield f"--inline runs on one machine: leave it out, or --nodes {options['nodes']}"
    if several and (sweep.cores or sweep.temp_dir):
        yield "--cores and --temp-dir are for a single machine: leave them out; --cpus-per-task limits each node"
    if array and isinstance(sweep.out, str):
        yield f"--array shares a folder, and --out {sweep.out} is an address: give a folder that all nodes see"
    if array and (sweep.until or sweep.retry_failed):
        yield "--until and --retry-failed need all records: use them in a job of their own, after the array"
    cores = options.get("cpus-per-task", "")
    if cores and not cores.isdecimal():
        yield f"--cpus-per-task {cores}: give a number"
    for flag, wanted in (("--cores", sweep.cores), ("--threads", sweep.engine.threads)):
        if cores and wanted > int(cores):
            yield f"{flag} {wanted} is more than --cpus-per-task={cores}: the job gets no more cores"
    signal = options.get("signal", f"B:TERM@{NOTICE:.0f}")
    if not re.fullmatch(r"B:(SIG)?TERM@\d+", signal) or int(signal.rpartition("@")[2]) < 20:
        yield f"--signal {signal}: the script needs B:TERM@SECONDS, with 20 seconds or more for checkpoints"
    seconds = duration(options["time"]) if "time" in options else None
    if seconds is not None and seconds <= NOTICE:
        yield f"--time {options['time']}: the sweep ends {NOTICE:.0f} s before the job, so nothing would run; give more"


def duration(text: str) -> float:
    """Seconds of a time as Slurm writes it: minutes, minutes:seconds, hours:minutes:seconds, days-hours[:...].

    Raises:
        InputError: it is none.
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if text.lower() in ("unlimited", "infinite"):
        return float("inf")
    if not match:
        raise InputError(f"--time {text}: give minutes, HOURS:MINUTES:SECONDS or DAYS-HOURS")
    days, first, second, third = (int(part) if part else 0 for part in match.groups())
    if match[1] is not None:
        return 86400 * days + 3600 * first + 60 * second + third
    return 3600 * first + 60 * second + third if match[4] else 60 * first + second
