"""Simulated machines: several loopback addresses with an sshd, in separate namespaces."""

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

ROOT = Path(__file__).resolve().parents[2]
HEAD, WORKERS = "127.0.0.1", ("127.0.0.2", "127.0.0.3")
PACKAGES = {
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "rsync": "rsync",
    "unshare": "util-linux",
    "ip": "iproute2",
}
INSIDE = "NOISY_PAIRS_LOOPBACK"
"""Environment variable of the processes in the namespaces."""
PATH = f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

RAY = str(Path(sys.executable).parent / "ray")

T = TypeVar("T")


def lacking() -> str:
    """A missing requirement, in one line; empty if there is none."""
    if not sys.platform.startswith("linux"):
        return "nodes on one machine need Linux, because its namespaces isolate them"
    if os.geteuid():
        return "namespaces for the nodes, so that `ray stop` cannot reach your own Ray, need root: run it with sudo"
    if missing := [package for name, package in PACKAGES.items() if not shutil.which(name, path=PATH)]:
        return f"programs are missing: apt-get install -y {' '.join(missing)}"
    return ""


def enter(words: Sequence[str]) -> int:
    """Run `python WORDS` with its own processes and loopback network only, and return its exit code."""
    spaces = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--mount", "--net"]
    # With a separate /run, because sshd creates a folder there.
    begin = 'mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd && ip link set lo up && exec "$@"'
    command = [*spaces, "sh", "-c", begin, "sh", sys.executable, *words]
    return subprocess.run(command, env={**os.environ, INSIDE: "1"}, check=False).returncode


@dataclass(frozen=True)
class Machines:
    """A head and two workers in a folder, which is their home and holds all their files."""

    place: Path
    """A short path, because Ray creates sockets in it."""

    @property
    def home(self) -> Path:
        """The home folder after login."""
        return self.place / "home"

    @property
    def config(self) -> Path:
        """The YAML file of the cluster."""
        return self.place / "cluster.yaml"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of commands, local and after login."""
        return {
            "HOME": str(self.home),
            "PATH": PATH,
            "TMPDIR": str(self.place),
            "RAY_TMPDIR": str(self.place),
            "XDG_CACHE_HOME": str(self.place / "cache"),
            "RAY_USAGE_STATS_ENABLED": "0",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def listen(self) -> "subprocess.Popen[bytes]":
        """Start the sshd that all machines share, with new keys."""
        self.home.mkdir()
        (self.home / ".bashrc").touch()
        # ssh takes `~` from /etc/passwd and ignores HOME. The changed file is visible only in the namespaces.
        users = [line.split(":") for line in Path("/etc/passwd").read_text().splitlines()]
        moved = [[*user[:5], str(self.home), "/bin/bash"] if user[0] == "root" else user for user in users]
        (self.place / "passwd").write_text("".join(":".join(user) + "\n" for user in moved))
        subprocess.run(["mount", "--bind", str(self.place / "passwd"), "/etc/passwd"], check=True)
        for name in ("host", "login"):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.place / name)]
            subprocess.run(words, check=True)
        shutil.copy(self.place / "login.pub", self.place / "authorized")
        lines = [
            *(f"ListenAddress {address}" for address in (HEAD, *WORKERS)),
            f"HostKey {self.place / 'host'}",
            f"AuthorizedKeysFile {self.place / 'authorized'}",
            f"PidFile {self.place / 'sshd.pid'}",
            "StrictModes no",  # accepts any owner of the folders above these files
            "UsePAM no",
            "PasswordAuthentication no",
            "PermitRootLogin prohibit-password",
            "MaxStartups 100",
            "SetEnv " + " ".join(f'{name}="{value}"' for name, value in self.environment.items()),
        ]
        (self.place / "sshd_config").write_text("\n".join(lines) + "\n")
        sshd = shutil.which("sshd", path=PATH)
        assert sshd is not None
        with (self.place / "sshd.log").open("wb") as log:
            # With its full path and in the foreground, because sshd starts itself again for each login.
            return subprocess.Popen([sshd, "-D", "-e", "-f", str(self.place / "sshd_config")], stderr=log)

    def write_config(self) -> None:
        """Write `cluster.local.yaml`, changed where one machine plays all roles."""
        given = yaml.safe_load((ROOT / "cluster.local.yaml").read_text())
        self.config.write_text(yaml.safe_dump(on_loopback(given, self.place / "login"), sort_keys=False))

    def begin(self, name: str, *words: str) -> "subprocess.Popen[bytes]":
        """Start a command, with its output in a log of this name."""
        with (self.place / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                words,
                cwd=ROOT,
                # The newer autoscaler counts one machine too few if machines are listed by address.
                env={**os.environ, **self.environment, "RAY_UP_enable_autoscaler_v2": "0"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def on_head(self, name: str, *words: str) -> "subprocess.Popen[bytes]":
        """Start a command in the folder of the project on the head, with `ray exec`."""
        command = f"cd ~/noisy-pairs && {shlex.join(words)}"
        return self.begin(name, RAY, "exec", "--no-config-cache", str(self.config), command)


def on_loopback(given: Mapping[str, Any], key: Path) -> dict[str, Any]:
    """The cluster of `cluster.local.yaml`, with addresses of this machine as machines.

    Args:
        given: `cluster.local.yaml`.
        key: private key for the login.
    """
    config = dict(given)
    config["provider"] = {"type": "local", "head_ip": HEAD, "worker_ips": list(WORKERS)}
    config["auth"] = {"ssh_user": "root", "ssh_private_key": str(key)}
    config["file_mounts"] = {"~/noisy-pairs": str(ROOT)}
    # The libraries are already installed, so the command that installs them is not tested here.
    install, *rest = given["setup_commands"]
    if "make" not in install:
        raise ValueError(f"cluster.local.yaml: the first of setup_commands must run make, it is {install!r}")
    config["setup_commands"] = [f"ln -sfn {shlex.quote(sys.prefix)} ~/noisy-pairs/.venv", *rest]
    memory = "--object-store-memory=150000000"
    config["head_start_ray_commands"] = [
        f"{line} --node-ip-address={HEAD} --include-dashboard=false {memory}" if " ray start " in line else line
        for line in given["head_start_ray_commands"]
    ]
    # Without `ray stop`, which would stop the other nodes, too. The address of a machine is that of the login. Nodes
    # start one after the other: if nodes with a common folder start together, one sometimes never registers.
    address = "--node-ip-address=$(echo $SSH_CONNECTION | cut -d' ' -f3)"
    config["worker_start_ray_commands"] = [
        f"(flock 9 && {line} {address} --num-cpus=1 {memory}) 9> ~/begin"
        for line in given["worker_start_ray_commands"]
        if " ray start " in line
    ]
    return config


def processes() -> dict[int, str]:
    """pid -> command line of all processes in the namespaces except this one."""
    found = {}
    for place in Path("/proc").iterdir():
        if place.name.isdigit() and int(place.name) != os.getpid():
            try:
                state = (place / "stat").read_text().rsplit(")", 1)[1].split()[0]
                words = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            except OSError:
                continue
            if state != "Z":
                found[int(place.name)] = words
    return found


def raylet(address: str) -> int | None:
    """The pid of the node at an address."""
    sign = f"--node_ip_address={address} "
    return next((pid for pid, words in processes().items() if "raylet/raylet " in words and sign in words), None)


def wait_for(what: str, condition: Callable[[], T], seconds: float) -> T:
    """Wait until the condition holds, and return it.

    Raises:
        TimeoutError: it did not hold in time.
    """
    due = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > due:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(0.2)
    return found
