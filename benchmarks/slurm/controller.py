"""A Slurm of two nodes on this machine: munge, slurmctld and two slurmd, with all their files in one folder."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "srun", "sinfo")
NODES = {"first": 2, "second": 1}
"""Name -> cores. The node with most of them comes first."""

CONFIG = """\
ClusterName=noisy-pairs
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={place}/munge.sock,cred_expire=5
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/%n
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd-%n.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=15
MinJobAge=3600
ReturnToService=2
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
{nodes}
PartitionName=main Nodes={names} Default=YES MaxTime=4:00:00 PriorityTier=1
PartitionName=urgent Nodes={names} MaxTime=4:00:00 PriorityTier=10 PreemptMode=OFF
"""


def lacking() -> str:
    """What this machine lacks for a Slurm of its own; empty if nothing."""
    place = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    if absent := [name for name in PROGRAMS if not shutil.which(name, path=place)]:
        return f"{', '.join(absent)} not found: install Slurm and munge (Debian: apt-get install slurm-wlm munge)"
    return ""


class Slurm:
    """The daemons, as a context manager, and commands to them."""

    def __init__(self, place: Path) -> None:
        """`place` is a folder for all files, which all users may enter."""
        self.place = place
        self.environment = {
            **os.environ,
            "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin",
            "SLURM_CONF": str(place / "slurm.conf"),
        }
        self._daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Slurm":
        self._write()
        key, place = self.place / "munge.key", self.place
        files = {"socket": "munge.sock", "key-file": key.name, "pid-file": "munged.pid", "seed-file": "munge.seed"}
        options = [f"--{name}={place / file}" for name, file in files.items()]
        self._start("munged", "--foreground", "--force", f"--log-file={place / 'munged.log'}", *options)
        wait_for("munge answers", lambda: (place / "munge.sock").exists(), 30)
        self._start("slurmctld", "-D", "-f", str(place / "slurm.conf"))
        for name in NODES:
            self._start("slurmd", "-D", "-f", str(place / "slurm.conf"), "-N", name)
        states = ("sinfo", "-h", "-N", "-p", "main", "-o", "%t")
        wait_for("both nodes are idle", lambda: self.ask(*states).split() == ["idle", "idle"], 60)
        return self

    def __exit__(self, *error: object) -> None:
        for line in self.ask("squeue", "-h", "-o", "%A").split():
            self.ask("scancel", line)
        with suppress(TimeoutError):
            wait_for("no job is left", lambda: not self.ask("squeue", "-h"), 60)
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in self._daemons:
            try:
                daemon.wait(timeout=20)
            except subprocess.TimeoutExpired:
                daemon.kill()

    def ask(self, *command: str) -> str:
        """What a command of Slurm prints."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        return done.stdout.strip()

    def state(self, job: str) -> str:
        """The state of a job, also after its end."""
        for word in self.ask("scontrol", "show", "job", job, "--oneliner").split():
            if word.startswith("JobState="):
                return word.removeprefix("JobState=")
        return "UNKNOWN"

    def restarts(self, job: str) -> int:
        """How often a job was put back into the queue."""
        words = self.ask("scontrol", "show", "job", job, "--oneliner").split()
        return sum(int(word.removeprefix("Restarts=")) for word in words if word.startswith("Restarts="))

    def _start(self, *command: str) -> None:
        with (self.place / f"{command[0]}.out").open("ab") as log:
            # In a group of their own: Ctrl-C at the terminal is for the test.
            self._daemons.append(
                subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, start_new_session=True)
            )

    def _write(self) -> None:
        (self.place / "munge.key").write_bytes(os.urandom(128))
        (self.place / "munge.key").chmod(0o600)
        ports = free_ports(1 + len(NODES))
        host = socket.gethostname().partition(".")[0]
        nodes = [
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cores} Weight={10 - cores}"
            for (name, cores), port in zip(NODES.items(), ports[1:], strict=True)
        ]
        for name in ("state", *NODES):
            (self.place / name).mkdir()
        text = CONFIG.format(
            host=host,
            port=ports[0],
            user=getpass.getuser(),
            place=self.place,
            nodes="\n".join(nodes),
            names=",".join(NODES),
        )
        (self.place / "slurm.conf").write_text(text)


def free_ports(count: int) -> list[int]:
    """Ports of this machine that are free now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_for(what: str, condition: Callable[[], object], seconds: float) -> None:
    """Wait until a condition holds.

    Raises:
        TimeoutError: it does not in this time.
    """
    due = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > due:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.5)
