"""Scripts for sbatch: a sweep on one node, on several nodes with one Ray, or as an array of commands in one folder."""

import shlex
import string
from collections.abc import Sequence
from dataclasses import dataclass

from sweep.cluster.slurm_job import NOTICE
from sweep.slurm.options import Options, nodes


class _Template(string.Template):
    """Text with names such as @folder, because `$` belongs to the shell."""

    delimiter = "@"


START = _Template("""\
#!/bin/bash
# The sweep in @out, @how.
@options

cd @folder || exit 2
PATH=@bin:$PATH
job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
job=${job:-$SLURM_JOB_ID}
""")

VISIBLE = _Template("""\
@test || { echo 'not every node sees the folder of' @out >&2; exit 2; }
""")

# `ray symmetric-run` would do the same, but SIGTERM ends it and its Ray at once, before cells have written checkpoints,
# and it ends with `ray stop`, which ends every Ray of the user on a node.
RAY = _Template("""
# One Ray on all nodes. Its head is on the first node, where this script runs. Only this user has its token.
export port=$((20000 + SLURM_JOB_ID % 20000)) head=$(hostname) RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \\n')
answers() { (exec 3<> "/dev/tcp/$head/$port") 2> /dev/null; }
export -f answers
srun --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --cpu-bind=none --output=@log bash -c '
  where="--head --port=$port --include-dashboard=false --temp-dir=/tmp/np-$SLURM_JOB_ID"
  if [ "$SLURM_NODEID" != 0 ]; then until answers; do sleep 1; done; where="--address=$head:$port"; fi
  exec ray start $where --num-cpus="${SLURM_CPUS_PER_TASK:-$SLURM_CPUS_ON_NODE}" --block' &
ray=$!
trap 'kill "$ray"; rm -rf "/tmp/np-$SLURM_JOB_ID"' EXIT
until answers; do kill -0 "$ray" || exit 1; sleep 1; done
""")

OWN_RAY = """
trap 'rm -rf "/tmp/np-$SLURM_JOB_ID"' EXIT
"""

SWEEP = _Template("""
# Before the end of the job Slurm sends SIGTERM to this script alone. The sweep then writes checkpoints and ends.
trap 'kill -TERM "$sweep" 2> /dev/null' TERM
@command &
sweep=$!
wait "$sweep"; code=$?
# The signal has ended the first wait.
while kill -0 "$sweep" 2> /dev/null; do wait "$sweep"; code=$?; done
""")

AGAIN = """
# 143: ended by SIGTERM. 75: no further cell would end in time. The job waits in the queue again, then it goes on.
# A job that was cancelled is no longer RUNNING.
if [ "$code" = 143 ] || [ "$code" = 75 ]; then
  [ "$(squeue --noheader --jobs "$job" --format %T)" = RUNNING ] && scontrol requeue "$job"
fi
"""

END = """\
exit "$code"
"""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a job finds the project. All nodes must see it."""

    folder: str
    """The folder from which the sweep is run."""
    bin: str
    """The folder of the programs `python` and `ray`."""
    script: str
    """The file of the script, beside the sweep's folder: a node that sees it sees the folder too."""


def render(words: Sequence[str], out: str, options: Options, place: Place, *, inline: bool = False) -> str:
    """The text of a script.

    Args:
        words: the arguments of `sweep.run`.
        out: the sweep's folder or address.
        options: of sbatch.
        place: where the project is.
        inline: whether the cells run without Ray.
    """
    several, array, requeue = nodes(options) > 1, "array" in options, "no-requeue" not in options
    base = place.script.removesuffix(".sbatch")
    own_ray = not (several or inline or any(word.partition("=")[0] == "--temp-dir" for word in words))
    test = f"test -e {shlex.quote(place.script)}"
    if several:
        test = f'srun --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 {test}'
    start = START.substitute(
        out=out,
        how="on several nodes, with one Ray" if several else "as an array of commands" if array else "on one node",
        options="\n".join(_lines(out, options, place, array=array, requeue=requeue)),
        folder=shlex.quote(place.folder),
        bin=shlex.quote(place.bin),
    )
    given = {
        "--time-left auto": True,
        "--shard auto": array,
        '--address "$head:$port"': several,
        '--temp-dir "/tmp/np-$SLURM_JOB_ID"': own_ray,
    }
    command = ["python -m sweep.run", shlex.join(words), *(flag for flag, here in given.items() if here)]
    return "".join(
        [
            start,
            "" if "://" in out else VISIBLE.substitute(test=test, out=shlex.quote(out)),
            RAY.substitute(log=shlex.quote(f"{base}-%j-ray.log")) if several else OWN_RAY if own_ray else "",
            SWEEP.substitute(command=" ".join(filter(None, command))),
            AGAIN if requeue else "",
            END,
        ]
    )


def _lines(out: str, options: Options, place: Place, *, array: bool, requeue: bool) -> list[str]:
    """The options of sbatch in the script: ours, which the user's replace."""
    ours = {
        "job-name": out.rstrip("/").rpartition("/")[2],
        "output": f"{place.script.removesuffix('.sbatch')}-{'%A_%a' if array else '%j'}.log",
        "open-mode": "append",
        **({"requeue": ""} if requeue else {}),
        "signal": f"B:TERM@{NOTICE:.0f}",
    }
    return [f"#SBATCH --{name}{f'={_quoted(value)}' if value else ''}" for name, value in {**ours, **options}.items()]


def _quoted(value: str) -> str:
    """A value as sbatch reads it from a script."""
    return shlex.quote(value) if any(letter in value for letter in " \t'\"#\\") else value
