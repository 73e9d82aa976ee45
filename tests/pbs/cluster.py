"""Start, freeze, take down and stop the stand-in; what a killed session may have left is ended by the next one."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pbs.execution import write_nodes, write_program
from pbs.settings import NETWORK, NODES, SERVER, USER, VERSION, Files, Settings
from workflow.process import ProcessId, carriers, start_time, stat

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
_PREFIX = "campaign-pbs-"
COMMANDS = ("qsub", "qstat", "qdel", "qsig", "qhold", "qrls", "pbsnodes")
_MPIEXEC = Path(sys.executable).with_name("mpiexec")


def missing() -> list[str]:
    """Return what virtual nodes lack on this machine."""
    lacking = [name for name in ("unshare", "setpriv", "hostname", "taskset") if shutil.which(name) is None]
    lacking += [] if _MPIEXEC.is_file() else [f"mpiexec beside {sys.executable}"]
    if os.geteuid() != 0:
        lacking.append("root")
    elif not lacking and subprocess.run(["unshare", "--mount", "--uts", "mount", "-t", "tmpfs", "none", "/mnt"]).returncode:
        lacking.append("the right to make name spaces and to mount in them")
    return lacking


class Pbs:
    """A server with eight nodes, and its commands.

    Attributes:
        files: Where its files are.
        environment: What makes its commands, and them alone, the ones on PATH.
    """

    def __init__(self, settings: Settings) -> None:
        end_stale()
        self.files = Files(Path(tempfile.mkdtemp(prefix=_PREFIX, dir="/tmp")))
        self._settings = settings
        self.environment = {
            "PATH": f"{self.files.programs}:{os.environ['PATH']}",
            "PBS_CONF_FILE": str(self.files.conf),
        }
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Write everything, start the server, and wait until it answers."""
        files = self.files
        files.root.chmod(0o755)
        for folder in (files.requests, files.answers, files.programs, files.home, files.root / "jobs"):
            folder.mkdir()
        files.conf.write_text(f"PBS_SERVER={SERVER}\nMPIEXEC={_MPIEXEC}\n")
        files.write_settings(self._settings)
        write_nodes(files, NODES, NETWORK, Path(f"/tmp/campaign-{USER}"))
        login = f"export PATH={files.programs}:/usr/local/bin:/usr/bin:/bin PBS_CONF_FILE={files.conf}\n"
        (files.home / ".bash_profile").write_text(login)  # what a login on the facility sets
        for name in COMMANDS:
            write_program(files.programs / name, f'#!/bin/sh\nexec {sys.executable} -ES {_HERE / "client.py"} {name} "$@"\n')
        write_program(files.programs / "mpiexec", f'#!/bin/sh\nexec {sys.executable} -ES {_HERE / "mpiexec.py"} "$@"\n')
        with open(files.root / "server.log", "ab") as log:
            self._server = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "pbs.server", str(files.root)],
                env={**os.environ, "PYTHONPATH": f"{_ROOT}:{_ROOT / 'tests'}"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=files.root,
            )
        children = {str(self._server.pid): start_time(self._server.pid)}
        (files.root / "owner.json").write_text(json.dumps({"owner": ProcessId.own().fields(), "children": children}))
        self.run("qstat")

    def stop(self) -> None:
        """End the server and all jobs."""
        if self._server is not None:
            self.up()
            self._server.terminate()
            self._server.wait()
        shutil.rmtree(self.files.root, ignore_errors=True)

    def run(self, *command: str, timeout: float = 60.0, check: bool = True) -> str:
        """Run a command of the batch system and return its output."""
        done = subprocess.run(
            command,
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0 or not check, f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}\n{self.log()}"
        return done.stdout

    def jobs(self) -> dict[str, dict[str, Any]]:
        """Return all jobs that the server tells of, by id."""
        return json.loads(self.run("qstat", "-x", "-f", "-F", "json")).get("Jobs", {})

    @property
    def pid(self) -> int:
        """Return the server's process id."""
        assert self._server is not None
        return self._server.pid

    def freeze(self) -> None:
        """Let the server stand still: commands wait, and what they ask is done later."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._send(signal.SIGCONT)

    @property
    def is_frozen(self) -> bool:
        """Whether it stands still."""
        return (stat(self.pid) or "?")[0] == "T"

    def down(self) -> None:
        """Let nobody listen: commands are refused, and what runs goes on."""
        self.files.down.touch()
        self.freeze()

    def up(self) -> None:
        """Let it listen again."""
        self.thaw()
        self.files.down.unlink(missing_ok=True)

    def change(self, **settings: object) -> None:
        """Let the server behave otherwise from now on."""
        self.files.write_settings(replace(self._settings, **settings))

    def heal(self) -> None:
        """Let everything be as at the start: no job, no fault."""
        self.up()
        self.change()
        living = [job_id for job_id, job in self.jobs().items() if job["job_state"] != "F"]
        for job_id in living:
            self.run("qdel", job_id, check=False)
        self._wait_for(lambda: all(job["job_state"] == "F" for job in self.jobs().values()))

    def node_local(self, name: str) -> Path:
        """Return where this host has a node's own files."""
        return self.files.root / "nodes" / name / "local"

    def log(self) -> str:
        """Return what the server has said of its own faults."""
        return (self.files.root / "server.log").read_text()[-3000:]

    def evidence(self) -> dict[str, object]:
        """Return its jobs, as it tells them itself."""
        told = self.jobs().items()
        rows = [{"job_id": name, "state": job["job_state"], "exit": job.get("Exit_status")} for name, job in told]
        return {"version": f"stand-in for PBS {VERSION}", "jobs": rows}

    def _send(self, number: int) -> None:
        assert self._server is not None and self._server.poll() is None, self.log()
        self._server.send_signal(number)

    def _wait_for(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"it did not come\n{self.log()}"
            time.sleep(0.1)


def end_stale() -> None:
    """End the processes, and remove the folders, of stand-ins whose session was killed."""
    for root in Path("/tmp").glob(f"{_PREFIX}*"):
        try:
            facts = json.loads((root / "owner.json").read_text())
            owner = ProcessId(**facts["owner"])
        except (OSError, ValueError, TypeError, KeyError):
            continue  # just being made
        if not (owner.is_proven_dead() or owner.is_of_an_earlier_boot()):
            continue
        if not owner.is_of_an_earlier_boot():
            servers = [
                int(pid) for pid, began in facts["children"].items() if began is not None and start_time(int(pid)) == began
            ]
            for pid in [*servers, *carriers(f"PBS_CONF_FILE={Files(root).conf}")]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        shutil.rmtree(root, ignore_errors=True)
