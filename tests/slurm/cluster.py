"""Start, break, mend and stop a Slurm cluster on this machine.

Every daemon dies with the process that started it (parent-death signal), every node is a process space whose end is the
end of all that runs in it. What a killed session may have left all the same is found by its `owner.json` and ended by the
next one.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from slurm.configuration import ACCOUNT, PARTITION, Layout, free_ports
from workflow.process import ProcessId, pids, start_time, stat

PROGRAMS = (
    *("munged", "mariadb", "mariadbd", "mariadb-install-db", "slurmdbd", "slurmctld", "slurmd"),
    *("sbatch", "srun", "sbcast", "sacct"),
)
SYSTEM = ("unshare", "setpriv", "mount", "hostname")
_SPACES = ("unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child=KILL", "--mount-proc")
_PREFIX = "campaign-slurm-"
_NODE = """
hostname "$1" &&
mount --bind "$2/hosts" /etc/hosts &&
mount -t tmpfs none /dev/shm &&
mount -t tmpfs none /mnt && mkdir -p "/mnt/bb/$3" && mount --bind "$2/nodes/$1/bb" "/mnt/bb/$3" &&
{ slurmd -D -N "$1" -f "$2/slurm.conf" & wait; }
"""
"""A node: `wait` lets the shell, which is the space's first process, reap orphans; its end is the node's death."""


def missing() -> list[str]:
    """Return what a cluster lacks on this machine: programs, or the right to make name spaces."""
    path = search_path()
    lacking = [name for name in (*PROGRAMS, *SYSTEM) if shutil.which(name, path=path) is None]
    if os.geteuid() != 0:
        lacking.append("root")
    elif not lacking and subprocess.run([*_SPACES, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode:
        lacking.append("the right to make name spaces and to mount in them")
    return lacking


def search_path() -> str:
    return f"{os.environ['PATH']}:/usr/sbin:/sbin"


class Cluster:
    """Eight nodes, a controller, accounting.

    Attributes:
        names: Node names.
        environment: What commands need to speak to it.
        start_s: Seconds that the start took.
    """

    def __init__(self, nodes: int = 8) -> None:
        end_stale()
        root = Path(tempfile.mkdtemp(prefix=_PREFIX, dir="/tmp"))
        root.chmod(0o711)  # munged's socket must be reachable
        self.names = tuple(f"n{number}" for number in range(1, nodes + 1))
        self._layout = Layout(root, self.names, free_ports(nodes + 2))
        self.root = root
        self.environment = {
            "SLURM_CONF": str(self._layout.slurm_conf),
            "MYSQL_UNIX_PORT": str(self._layout.database_socket),
            "PATH": search_path(),
        }
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self.start_s = 0.0

    def start(self) -> None:
        """Start everything and wait until all nodes are idle."""
        began = time.monotonic()
        self._note()
        self._layout.write()
        try:
            self._start_all()
        except BaseException:
            self.stop()
            raise
        self.start_s = time.monotonic() - began

    def stop(self) -> None:
        """End everything, by process id."""
        for name in reversed(list(self._daemons)):
            self._end(name)
        shutil.rmtree(self.root, ignore_errors=True)

    def run(self, *command: str, timeout: float = 30.0, check: bool = True) -> str:
        """Run a command of the batch system and return its output."""
        done = subprocess.run(
            command,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0 or not check, f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def node_local(self, name: str) -> Path:
        """Return where this host has what the node sees at `/mnt/bb/<user>`."""
        return self.root / "nodes" / name / "bb"

    def pid(self, name: str) -> int:
        """Return the process id of a daemon, or of what holds a node."""
        return self._daemons[name].pid

    def inside(self, node: str) -> int:
        """Return the process id, on this host, of a node's first process."""
        (first,) = Path(f"/proc/{self.pid(node)}/task/{self.pid(node)}/children").read_text().split()
        return int(first)

    def processes(self, node: str, *words: str) -> list[int]:
        """Return the ids, on this host, of a node's processes whose command line holds all these words."""
        space = Path(f"/proc/{self.inside(node)}/ns/pid").readlink()
        found = []
        for pid in pids():
            with contextlib.suppress(OSError):  # it has just ended
                command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
                if set(words) <= set(command) and Path(f"/proc/{pid}/ns/pid").readlink() == space:
                    found.append(pid)
        return found

    def freeze(self, name: str) -> None:
        """Let a daemon stand still."""
        os.kill(self.pid(name), signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let it go on."""
        os.kill(self.pid(name), signal.SIGCONT)

    def is_frozen(self, name: str) -> bool:
        """Say whether a daemon stands still."""
        return (stat(self.pid(name)) or "-")[0] == "T"

    def kill(self, name: str) -> None:
        """Let a daemon or a node die at once, with all that runs in it."""
        self._end(name)

    def revive(self, name: str) -> None:
        """Start a daemon or a node again."""
        if name in self.names:
            self._start_node(name)
            self._wait_for(lambda: self.state(name) in ("idle", "down", "mixed", "allocated"), f"{name} to register")
            if self.state(name) == "down":
                self.run("scontrol", "update", f"nodename={name}", "state=resume")
        else:
            self._start_daemon(name)

    def configure(self, **values: object) -> None:
        """Let the whole cluster have other values in its configuration until it is healed."""
        self._layout.rewrite(values)
        self.run("scontrol", "reconfigure")

    def state(self, node: str) -> str:
        """Return a node's state, without its flags; empty while it is not known or does not answer."""
        text = self.run("sinfo", "-h", "-n", node, "-o", "%T", check=False).split()
        return text[0].rstrip("~#!%$@^-+") if text and not text[0].endswith("*") else ""

    def heal(self) -> None:
        """Cancel all jobs, start what is dead, and wait until all nodes are idle."""
        for name, process in list(self._daemons.items()):
            if process.poll() is not None:
                self.revive(name)
        self._wait_for(self._answers, "slurmctld")
        if self._layout.is_rewritten:
            self.configure()
        self.run("scancel", "--partition", PARTITION)
        self._wait_for(self._is_idle, "idle nodes", seconds=90)

    def evidence(self) -> dict[str, object]:
        """Return version and jobs, as Slurm itself tells them."""
        rows = [line.split("|") for line in self.run("sacct", "-aXPn", "-S", "now-1days", "-o", "JobID,State").splitlines()]
        return {"version": self.run("sinfo", "-V").strip(), "jobs": [{"job_id": job, "state": state} for job, state in rows]}

    def books(self, statement: str) -> list[list[str]]:
        """Let the database of accounting carry out a statement; return rows of fields."""
        where = (f"--socket={self._layout.database_socket}", "--user=root", "--batch", "--skip-column-names", "accounting")
        return [line.split("\t") for line in self.run("mariadb", "--no-defaults", *where, "--execute", statement).splitlines()]

    def _start_all(self) -> None:
        self._start_daemon("munged")
        self.run(
            "mariadb-install-db",
            *self._database_options(),
            "--skip-test-db",
            "--auth-root-authentication-method=normal",
            timeout=120,
        )
        for name in ("mariadbd", "slurmdbd"):
            self._start_daemon(name)
        for order in (
            ("add", "cluster", "tests"),
            ("add", "account", ACCOUNT, "cluster=tests"),
            ("add", "qos", "debug"),
            ("modify", "qos", "debug", "set", "MaxSubmitJobsPerUser=1"),
            ("add", "user", "root", f"account={ACCOUNT}", "qos=normal,debug", f"defaultaccount={ACCOUNT}"),
        ):
            self._wait_for(lambda order=order: self._succeeds("sacctmgr", "-i", "-Q", *order), f"sacctmgr {' '.join(order)}")
        self._start_daemon("slurmctld")
        for name in self.names:
            self._start_node(name)
        self._wait_for(self._is_idle, "idle nodes", seconds=90)

    def _start_daemon(self, name: str) -> None:
        root, database = self.root, self._layout.database_socket
        commands = {
            "munged": ["munged", "-F", f"--key-file={root}/munge.key", f"--socket={root}/munge.sock",
                       f"--pid-file={root}/munged.pid", f"--log-file={root}/log/munged.log", f"--seed-file={root}/munge.seed"],
            "mariadbd": ["mariadbd", *self._database_options(), "--skip-networking", f"--socket={database}",
                         f"--pid-file={root}/mariadbd.pid", "--innodb-buffer-pool-size=64M",
                         "--innodb-flush-log-at-trx-commit=0"],
            "slurmdbd": ["slurmdbd", "-D"],
            "slurmctld": ["slurmctld", "-D"],
        }  # fmt: skip
        if name == "munged" and not (root / "munge.key").exists():
            (root / "munge.key").write_bytes(os.urandom(128))
            (root / "munge.key").chmod(0o600)
        ready = {
            "munged": (root / "munge.sock").exists,
            "mariadbd": database.exists,
            "slurmdbd": lambda: self._succeeds("sacctmgr", "-n", "list", "cluster"),
            "slurmctld": self._answers,
        }
        self._launch(name, commands[name])
        self._wait_for(ready[name], name)

    def _database_options(self) -> list[str]:
        return ["--no-defaults", f"--datadir={self.root}/db", "--user=root"]

    def _start_node(self, name: str) -> None:
        self._launch(name, [*_SPACES, "sh", "-c", _NODE, "node", name, str(self.root), getpass.getuser()])

    def _launch(self, name: str, command: list[str]) -> None:
        with open(self.root / "log" / f"{name}.out", "ab") as log:
            self._daemons[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.root,
            )
        self._note()

    def _end(self, name: str) -> None:
        process = self._daemons[name]
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()

    def _note(self) -> None:
        """Write down whose cluster this is and which processes it has, for a session after a crash."""
        children = {str(each.pid): start_time(each.pid) for each in self._daemons.values()}
        (self.root / "owner.json").write_text(json.dumps({"owner": ProcessId.own().fields(), "children": children}))

    def _answers(self) -> bool:
        return self._succeeds("scontrol", "ping")

    def _is_idle(self) -> bool:
        states = self.run("sinfo", "-h", "-N", "-p", PARTITION, "-o", "%T", check=False).split()
        return states == ["idle"] * len(self.names)

    def _succeeds(self, *command: str) -> bool:
        environment = {**os.environ, **self.environment}
        return subprocess.run(command, env=environment, capture_output=True, timeout=60, stdin=subprocess.DEVNULL).returncode == 0

    def _wait_for(self, condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            dead = [name for name, process in self._daemons.items() if process.poll() is not None]
            assert time.monotonic() < end, f"{what} did not come; dead: {dead}; see {self._logs()}"
            time.sleep(0.1)

    def _logs(self) -> str:
        return "\n".join(
            f"== {path.name}\n{path.read_text(errors='replace')[-1500:]}" for path in sorted((self.root / "log").iterdir())
        )


def end_stale() -> None:
    """End the processes, and remove the folders, of clusters whose session was killed."""
    for root in Path("/tmp").glob(f"{_PREFIX}*"):
        try:
            facts = json.loads((root / "owner.json").read_text())
            owner = ProcessId(**facts["owner"])
        except (OSError, ValueError, TypeError, KeyError):
            continue  # just being made
        if not (owner.is_proven_dead() or owner.is_of_an_earlier_boot()):
            continue
        for pid, began in facts["children"].items():
            if not owner.is_of_an_earlier_boot() and began is not None and start_time(int(pid)) == began:
                os.kill(int(pid), signal.SIGKILL)
        shutil.rmtree(root, ignore_errors=True)
