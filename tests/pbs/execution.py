"""Run job scripts as the daemon on a node does: in a session of their own, under a shell, on a virtual node."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from pbs.settings import Files
from workflow.process import carriers, pids, stat

_ENTER = """#!/bin/sh
# enter NODE COMMAND...: run a command on a virtual node: a host name, node-local files and node files of its own
node=$1; shift
mkdir -p {local}
exec unshare --mount --uts sh -c '
hostname "$0" &&
mount --bind {root}/hosts /etc/hosts &&
mount --bind "{root}/nodes/$0/aux" {aux} &&
mount --bind "{root}/nodes/$0/local" {local} &&
exec "$@"' "$node" "$@"
"""
_RANK = """#!/bin/sh
# rank FIRST NODE BINDING COMMAND...: a rank of a node whose first one is FIRST, on cores out of a list for each rank
export PALS_RANKID="$PMI_RANK" PALS_LOCAL_RANKID=$((PMI_RANK - $1)) PALS_NODEID="$2"
binding=$3; shift 3
[ -z "$binding" ] && exec "$@"
exec taskset -c "$(echo "$binding" | cut -d: -f$((PALS_LOCAL_RANKID + 1)))" "$@"
"""
_LEADER = ("sh", "-c", '"$0"; exit $?')
"""What leads a job's session: a shell that waits for the script, so that codes are those that a shell gives."""


def write_nodes(files: Files, names: tuple[str, ...], network: str, local: Path) -> None:
    """Make the virtual nodes: their folders, the hosts that all know, and the two programs that lead to them."""
    for name in names:
        for part in ("aux", "local"):
            (files.root / "nodes" / name / part).mkdir(parents=True)
    files.aux.mkdir()
    known = [(os.uname().nodename, "localhost"), *((name, f"{name}{network}") for name in names)]
    (files.root / "hosts").write_text("".join(f"127.0.0.1 {name} {other}\n" for name, other in known))
    write_program(files.root / "enter", _ENTER.format(root=files.root, aux=files.aux, local=local))
    write_program(files.root / "rank", _RANK)


def write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


class Run:
    """A job's script at work.

    Args:
        files: Of the server.
        job_id: Its id.
        nodes: Its nodes.
        script: Its text.
        environment: The variables it starts with.
        output: Where its output goes, and beside it, unless joined, what it says of errors.
        direct: Written there at once, else copied there at the end.

    Attributes:
        session: Its session.
    """

    def __init__(
        self,
        files: Files,
        job_id: str,
        nodes: tuple[str, ...],
        script: str,
        environment: Mapping[str, str],
        output: tuple[Path, Path | None],
        *,
        direct: bool,
    ) -> None:
        self._cookie = f"PBS_JOBCOOKIE={secrets.token_hex(16)}"
        self._wanted = {"OU": output[0], **({"ER": output[1]} if output[1] else {})}
        self._kept = {name: files.jobs(f"{job_id}.{name}") for name in self._wanted}
        if direct:
            self._kept = {name: _writable(path, self._kept[name]) for name, path in self._wanted.items()}
        path, names = files.jobs(f"{job_id}.SC"), files.root / "nodes" / nodes[0] / "aux" / job_id
        write_program(path, script)
        names.write_text("".join(f"{node}\n" for node in nodes))
        own = {"PBS_NODEFILE": str(files.aux / job_id), **dict([self._cookie.split("=")])}
        for kept in self._kept.values():
            kept.open("wb").close()
        with open(self._kept["OU"], "ab") as out, open(self._kept.get("ER", os.devnull), "ab") as err:
            self._leader = subprocess.Popen(
                [str(files.root / "enter"), nodes[0], *_LEADER, str(path)],
                env={**environment, **own},
                cwd=files.home,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err if "ER" in self._kept else out,
                start_new_session=True,
            )
        self.session = self._leader.pid

    def code(self) -> int | None:
        """Return the exit code of the script's shell, 256 + n for signal n; None while it lives."""
        code = self._leader.poll()
        return code if code is None or code >= 0 else 256 - code

    def left(self, *, everywhere: bool = False) -> list[int]:
        """Return what lives of the job: in its session, or everywhere."""
        if everywhere:
            return carriers(self._cookie)
        fields = {pid: stat(pid) for pid in pids()}
        return [pid for pid, each in fields.items() if each and each[0] not in "ZX" and int(each[3]) == self.session]

    def signal(self, number: int, *, everywhere: bool = False) -> None:
        """Send a signal to every process of its session, or of the job."""
        for pid in self.left(everywhere=everywhere):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def say(self, words: str) -> None:
        """Add a line to what it says of errors."""
        with open(self._kept.get("ER", self._kept["OU"]), "a") as file:
            file.write(f"{words}\n")

    def close(self) -> None:
        """Bring its output to where it was asked for; what cannot get there stays."""
        for name, wanted in self._wanted.items():
            if self._kept[name] != wanted:
                with contextlib.suppress(OSError):
                    shutil.copyfile(self._kept[name], wanted)

    def destroy(self) -> None:
        """End every process of the job, at once."""
        self.signal(signal.SIGKILL, everywhere=True)
        self._leader.wait()


def _writable(path: Path, other: Path) -> Path:
    try:
        path.open("ab").close()
    except OSError:
        return other
    return path
