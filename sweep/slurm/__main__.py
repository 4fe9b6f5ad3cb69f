"""`python -m sweep.slurm PRESET [--flags ...] -- SBATCH_OPTIONS`: write a script that runs a sweep as a Slurm job.

Before -- are the arguments of `sweep.run`, and --submit; after it options of sbatch, such as --partition=NAME
--cpus-per-task=8 --time=4:00:00. With --nodes=N the job has one Ray on N nodes, with --array=1-N it is N jobs that
share the folder. The script is written beside --out, as NAME.sbatch; --submit gives it to sbatch.
"""

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from datasets.errors import InputError
from datasets.files import write_text_atomically
from sweep.cli import parse, run_command
from sweep.cluster.slurm_job import ask
from sweep.signals import exit_with
from sweep.slurm.options import Options, check_options, parse_options
from sweep.slurm.script import Place, render
from sweep.storage.run_dir import cannot_write

GIVEN = ("--address", "--shard", "--time-left")
"""Flags of `sweep.run` that the script gives."""
SHARED = ("nfs", "lustre", "gpfs", "beegfs", "ceph", "cifs", "smb", "fuse", "gluster", "panfs", "wekafs", "9p", "afs")
"""File systems that several machines may see, by the beginning of their type."""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit code: 0, or 2 after a mistake of the user."""
    return run_command("sweep.slurm", lambda: write(list(argv)))


def write(argv: list[str]) -> int:
    """Write the script, and submit it if asked.

    Raises:
        InputError: an argument is wrong, the options contradict the sweep or the cluster, or nodes do not see --out.
    """
    ours, theirs = _split(argv)
    if not ours or ours[0] in ("--help", "-h"):
        print(__doc__)
        return 0
    submit = "--submit" in ours
    words = [word for word in ours if word != "--submit"]
    for word in words:
        if word.partition("=")[0] in GIVEN:
            raise InputError(f"{word.partition('=')[0]}: leave it out, the script gives it where it is needed")
    command, options = parse(words), parse_options(theirs)
    check_options(options, command)
    out = command.sweep.out
    path = _script_file(out)
    check_place(out, _file_system(path.parent), _nodes_elsewhere())
    place = Place(folder=os.getcwd(), bin=str(Path(sys.executable).parent), script=str(path))
    text = render(words, str(out), options, place, inline=command.inline)
    partitions = list(dict.fromkeys(ask("sinfo", "--noheader", "--format", "%R").split()))
    if partitions:
        _try(text, options, partitions)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(path, text)
    except OSError as error:
        raise cannot_write(path.parent, error) from error
    print(f"script    {path}")
    if not partitions:
        print("          Slurm does not answer here: its options are not checked")
    if not submit:
        print(f"submit    sbatch {shlex.quote(str(path))}")
        return 0
    print(_submit(path))
    print(f"status    python -m sweep.status {shlex.quote(str(out))}")
    return 0


def check_place(out: Path | str, kind: str, elsewhere: Sequence[str]) -> None:
    """Refuse a folder that nodes do not see.

    Args:
        out: the sweep's folder or address.
        kind: the type of its file system; empty if not known.
        elsewhere: the nodes that are other machines, as far as Slurm tells.

    Raises:
        InputError: it is on a disk of this machine.
    """
    if isinstance(out, str) or not kind or not elsewhere or kind.startswith(SHARED):
        return
    raise InputError(
        f"--out {out} is on a disk of this machine ({kind}), which the nodes ({', '.join(elsewhere[:3])}, ...) do not "
        "see: give a folder on a shared file system"
    )


def _split(argv: list[str]) -> tuple[list[str], list[str]]:
    """The arguments before and after --."""
    at = argv.index("--") if "--" in argv else len(argv)
    return argv[:at], argv[at + 1 :]


def _script_file(out: Path | str) -> Path:
    """Beside the sweep's folder; for an address, in the current folder."""
    place = Path(out).absolute() if isinstance(out, Path) else Path(out.rstrip("/").rpartition("/")[2]).absolute()
    return place.with_name(f"{place.name}.sbatch")


def _file_system(folder: Path) -> str:
    """The type of the file system of a folder, which need not exist; empty if it cannot be told."""
    try:
        lines = Path("/proc/mounts").read_text().splitlines()
    except OSError:  # not on Linux
        return ""
    kinds = {Path(line.split()[1].replace("\\040", " ")): line.split()[2] for line in lines}
    folder = folder.resolve()
    return next((kinds[place] for place in (folder, *folder.parents) if place in kinds), "")


def _nodes_elsewhere() -> list[str]:
    """The hosts of Slurm's nodes that are not this machine."""
    hosts = set(ask("sinfo", "--noheader", "--Node", "--format", "%n %o").split())
    mine = {os.uname().nodename, os.uname().nodename.partition(".")[0], "localhost", "127.0.0.1"}
    listed = ask("scontrol", "show", "node", "--oneliner").splitlines()
    for line in listed:
        values = dict(word.split("=", 1) for word in line.split() if "=" in word)
        if values.get("NodeHostName") in mine or values.get("NodeAddr") in mine:
            hosts -= {values.get("NodeName", ""), values.get("NodeHostName", ""), values.get("NodeAddr", "")}
    return sorted(hosts - mine)


def _try(script: str, options: Options, partitions: Sequence[str]) -> None:
    """Let sbatch check the script without submitting it.

    Raises:
        InputError: it would refuse it.
    """
    done = subprocess.run(["sbatch", "--test-only"], input=script, capture_output=True, text=True)
    if done.returncode == 0:
        return
    said = [line.split("error: ")[-1] for line in done.stderr.splitlines() if line.strip()]
    which = f"; its partitions: {', '.join(partitions)}" if "partition" in " ".join(said).lower() else ""
    given = " ".join(f"--{name}{f'={value}' if value else ''}" for name, value in options.items())
    raise InputError(f"sbatch refuses {given or 'the script'}: {'; '.join(said[:2]) or 'no reason given'}{which}")


def _submit(path: Path) -> str:
    try:
        done = subprocess.run(["sbatch", str(path)], capture_output=True, text=True)
    except FileNotFoundError as error:
        raise InputError("--submit: there is no sbatch here; copy the script to a machine of the cluster") from error
    if done.returncode:
        raise InputError(f"sbatch: {' '.join(done.stderr.split())}")
    return f"job       {done.stdout.strip().rpartition(' ')[2]}"


if __name__ == "__main__":
    exit_with(main(sys.argv[1:]))
