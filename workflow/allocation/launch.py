"""Launchers as data: how each starts ranks on named nodes, and the `command.sh` that repeats a call by hand."""

from __future__ import annotations

import getpass
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from model.outcome import write_bytes
from model.registry import require
from workflow.allocation import guard
from workflow.allocation.readiness import Readiness
from workflow.allocation.unpacking import environment_folder
from workflow.errors import SiteError
from workflow.site import Node, Site

HOSTS_FILE = "hosts.txt"
COMMAND_FILE = "command.sh"
_BRACES = re.compile(r"{([a-z]+)}")
_CONDITION = re.compile(r"\?(\w+) (.*)")


@dataclass(frozen=True)
class Placement:
    """Where one call runs.

    Attributes:
        nodes: Names of its nodes.
        ranks_per_node: Ranks on each.
        cores_per_rank: CPU cores of each rank.
        devices_per_rank: GPUs of each rank; 0 where the site's devices are CPUs.
        folder: Task folder; the node list goes into a file there, for 9,300 names are no argument.
        options: The site's own options of the launcher.
        binding: CPU cores of each rank of a node, in local order, joined by `:`; empty: the launcher's own choice.
        beside: It must not wait for what else runs on the nodes.
    """

    nodes: tuple[str, ...]
    ranks_per_node: int
    cores_per_rank: int
    devices_per_rank: int
    folder: Path
    options: tuple[str, ...] = ()
    binding: str = ""
    beside: bool = False

    def words(self, node: str = "") -> dict[str, str]:
        """Return what may stand in braces in a launcher's arguments."""
        return {
            "node": node,
            "num_nodes": str(len(self.nodes)),
            "ranks": str(len(self.nodes) * self.ranks_per_node),
            "ranks_per_node": str(self.ranks_per_node),
            "cores": str(self.cores_per_rank),
            "gpus": str(self.devices_per_rank) if self.devices_per_rank else "",
            "binding": self.binding,
            "beside": "yes" if self.beside else "",
            "hosts": str(self.folder / HOSTS_FILE),
        }


@dataclass(frozen=True)
class Launcher:
    """How a launcher is called; braces are filled from `Placement.words`, `?word rest` stands only where `word` is set.

    Attributes:
        program: Its name on PATH.
        arguments: Options of the whole call.
        section: Options repeated with the command for each node, joined by `:`; empty: the command stands once.
        node_variable: Environment variable by which a rank learns its node's name; empty: its host name is that.
        killed_codes: Exit codes that say a rank was killed by signal 9, as the kernel does when memory runs out.
        broadcast: Command that sends the file `{source}` to `{target}` on all nodes of the allocation; empty: ranks that this
            launcher starts send it over MPI.
        ready: Command that ends well while the launcher can start anything; empty: it needs nobody for that.
        ours: Whether the one that was installed beside our own interpreter comes first; a facility's is never there.
    """

    program: str
    arguments: tuple[str, ...]
    section: tuple[str, ...] = ()
    node_variable: str = ""
    killed_codes: frozenset[int] = frozenset({137})
    broadcast: tuple[str, ...] = ()
    ready: tuple[str, ...] = ()
    ours: bool = False

    def argv(self, placement: Placement, command: Sequence[str]) -> list[str]:
        """Return the whole call.

        Raises:
            SiteError: The launcher is not installed.
        """
        return [self._program(), *self.line(placement, command)[1:]]

    def line(self, placement: Placement, command: Sequence[str]) -> list[str]:
        """Return the call as a person would type it, wherever the launcher is installed."""
        head = [self.program, *_fill(self.arguments, placement.words()), *placement.options]
        if not self.section:
            return [*head, *command]
        sections = [[*_fill(self.section, placement.words(node)), *command] for node in placement.nodes]
        return head + [word for number, section in enumerate(sections) for word in ([":"] if number else []) + section]

    def sending(self, source: str, target: str) -> list[str]:
        """Return the call that sends a file to all nodes; empty where the launcher has none."""
        return [word.format(source=source, target=target) for word in self.broadcast]

    def found(self) -> str | None:
        """Return where the launcher is on this machine, or None."""
        beside = Path(sys.executable).with_name(self.program)
        return str(beside) if self.ours and beside.is_file() else shutil.which(self.program)

    def _program(self) -> str:
        found = self.found()
        if found is None:
            raise SiteError(
                f"the launcher '{self.program}' is {f'neither beside {sys.executable} nor' if self.ours else 'not'} on PATH",
                "launcher",
                "Install it (on a laptop: pip install 'campaign[local]'), or load the site's module in `setup:`.",
            )
        return found


@dataclass(frozen=True)
class Setting:
    """What all calls of an allocation share.

    Attributes:
        launcher: How ranks are started.
        options: The site's own options of it.
        node: A node of the site.
        environment: Whole environment of the calls, the site's variables included.
        across: Further variables of calls on more than one node.
    """

    launcher: Launcher
    options: tuple[str, ...]
    node: Node
    environment: Mapping[str, str]
    across: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def readiness(self) -> Readiness:
        """Whether the launcher can start anything; one for all calls, for it remembers when it could not."""
        return Readiness(self.launcher.ready, self.environment)

    def placement(self, nodes: tuple[str, ...], ranks_per_node: int, folder: Path, *, beside: bool = False) -> Placement:
        """Return where a call runs; on a site whose backend is gloo the devices are CPUs."""
        gpus = 0 if self.node.backend == "gloo" else max(1, self.node.devices // ranks_per_node)
        cores, bound = self.node.cores_of(ranks_per_node), ":".join(self.node.binding(ranks_per_node))
        return Placement(nodes, ranks_per_node, cores, gpus, folder, self.options, bound, beside)

    def environment_on(self, nodes: tuple[str, ...]) -> dict[str, str]:
        """Return the environment of a call on these nodes."""
        return {**self.environment, **(self.across if len(nodes) > 1 else {})}


def setting_of(site: Site, local: str, job_id: str) -> Setting:
    """Return what all calls of an allocation share; the braces in the site's variables are filled in.

    Args:
        site: The site.
        local: Node-local folder of the attempt.
        job_id: The scheduler's id of the job.
    """
    words = {"user": getpass.getuser(), "job": job_id, "local": local}
    always, across = (_filled(each, words) for each in (site.environment, site.environment_across))
    if site.archive:  # the agent's own packages come after: the archive is not there yet when it is unpacked
        always["PYTHONPATH"] = os.pathsep.join(filter(None, [environment_folder(local), os.environ.get("PYTHONPATH")]))
    return Setting(launcher(site.launcher), site.launcher_options, site.node, {**os.environ, **always}, across)


LAUNCHERS = {
    # MPICH's Hydra starting virtual nodes of this machine: one section a node, so that each rank knows "its" node.
    # It ends with a killed rank's bare signal number as its exit code (seen with 5.0.2). Without a host it would take
    # those of a batch job that it finds itself in, and tell each rank that the others are on other machines.
    "mpiexec": Launcher(
        program="mpiexec",
        arguments=("-launcher", "fork", "-localhost", "localhost", "-hosts", "localhost"),
        section=("-env", "LOCAL_NODE", "{node}", "-n", "{ranks_per_node}"),
        node_variable="LOCAL_NODE",
        killed_codes=frozenset({9, 137}),
        ours=True,
    ),
    # Slurm. Everything is said on every step: what is left out is taken from the job and blocks or shares silently.
    # --nodelist takes a file when the value holds a slash; --exact leaves the node's other steps their cores, and waits
    # without a word where too few are left: our own checks and copies overlap with what runs.
    "srun": Launcher(
        program="srun",
        arguments=(
            "-N",
            "{num_nodes}",
            "-n",
            "{ranks}",
            "--ntasks-per-node={ranks_per_node}",
            "-c",
            "{cores}",
            "?gpus --gpus-per-task={gpus}",
            "--mem=0",
            "--exact",
            "?beside --overlap",
            "--kill-on-bad-exit=1",
            "--nodelist={hosts}",
        ),
        broadcast=("sbcast", "--force", "--preserve", "{source}", "{target}"),
        ready=(
            "scontrol",
            "ping",
        ),  # without a controller no step starts; those that run go on
    ),
    # HPE PALS, the mpiexec of Aurora; devices are chosen by the program from its local rank.
    "pals": Launcher(
        program="mpiexec",
        arguments=(
            "--hostfile",
            "{hosts}",
            "-n",
            "{ranks}",
            "-ppn",
            "{ranks_per_node}",
            "--envall",
            "?binding --cpu-bind=list:{binding}",
        ),
    ),
}


def launcher(name: str) -> Launcher:
    """Return the launcher of this name.

    Raises:
        CampaignError: There is none.
    """
    require(name, sorted(LAUNCHERS), "launcher", "launcher")
    return LAUNCHERS[name]


def write_hosts(placement: Placement) -> None:
    """Write the file that names the nodes of a call."""
    write_bytes(placement.folder / HOSTS_FILE, "".join(f"{node}\n" for node in placement.nodes).encode())


def write_command(folder: Path, call: Sequence[str], environment: Mapping[str, str], note: str = "") -> None:
    """Write `command.sh`, by which a person runs the same call again.

    Args:
        folder: Task folder.
        call: The whole call, launcher included.
        environment: Variables set beside what the shell has.
        note: A sentence for the reader.
    """
    lines = ["#!/bin/sh", *(f"# {line}" for line in note.splitlines()), f"cd {shlex.quote(str(folder))} || exit 1"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in sorted(environment.items())]
    lines.append(f"exec {shlex.join(call)}")
    write_bytes(folder / COMMAND_FILE, ("\n".join(lines) + "\n").encode())
    (folder / COMMAND_FILE).chmod(0o700)


def start(call: Sequence[str], folder: Path, environment: Mapping[str, str], grace_s: float) -> subprocess.Popen[bytes]:
    """Start a call under a guard, in its folder, logging there; the guard's end is the end of all its processes.

    The calling thread must live as long as the guard: to the kernel, the thread is the parent whose death counts.

    Args:
        call: The whole call.
        folder: Task folder.
        environment: The call's whole environment.
        grace_s: Seconds from TERM to KILL when the guard is terminated.
    """
    head = [sys.executable, "-I", "-S", guard.__file__, str(os.getpid()), str(grace_s)]
    with open(folder / "stdout.log", "ab") as out, open(folder / "stderr.log", "ab") as err:
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err}
        return subprocess.Popen([*head, *call], cwd=folder, env=dict(environment), start_new_session=True, **streams)


def _filled(variables: Mapping[str, str], words: Mapping[str, str]) -> dict[str, str]:
    return {name: _BRACES.sub(lambda found: words.get(found[1], found[0]), value) for name, value in variables.items()}


def _fill(arguments: Sequence[str], words: Mapping[str, str]) -> list[str]:
    filled = []
    for argument in arguments:
        condition = _CONDITION.fullmatch(argument)
        if condition is None or words[condition[1]]:
            filled.append((condition[2] if condition else argument).format(**words))
    return filled
