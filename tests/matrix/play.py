"""How a case is played: a campaign on a batch system whose drivers and agents die at points, one after another."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from dying import NEVER
from login import Login, molecules, wait
from toy.world import know_kinds

from matrix.agent import FATES
from workflow.campaign import Campaign
from workflow.chained import read_chain
from workflow.process import stat
from workflow.resolved import stored_campaign

AGENT = Path(__file__).with_name("agent.py")
NAME = "crash"
BUDGET = 4.0
_PATIENCE_S = 900.0
_DEADLY = """#!/bin/sh
# carried out, and whoever asked is dead before it hears the answer: once
answer=$({program} "$@"); code=$?
rm {mark} 2>/dev/null && kill -9 $PPID
printf '%s\\n' "$answer"
exit $code
"""
SEARCH: dict[str, Any] = {
    "kind": "hpo",
    "needs": ["data"],
    "nodes": 1,
    "walltime": "00:10:00",
    "attempts": 4,
    "backbone": "egnn",
    "evaluations": 2,
    "trial": {"nodes": 1, "epochs": 12},
    "keep": 1,
    "training": {"batch": 16, "checkpoint_every_s": 1},
    "space": {"hidden": 8, "layers": 1, "learning_rate": {"low": 0.001, "high": 0.002}},
}
_ELSEWHERE = ("unshare", "--pid", "--fork", "--uts", "--mount", "--mount-proc", "--kill-child=KILL")
_NAMED = 'hostname "$0" && exec "$@"'


@dataclass
class Play:
    """One campaign, and who has died in it.

    Attributes:
        login: The user's place, on which the campaign is driven.
        deaths: Points at which a driver has died.
        stages: How each stage is to end.
        runs: How often the work of a link is to begin, where that is not once.
        twins: Tokens of which two jobs may have been accepted.
        forgotten: Jobs that the batch system tells nothing of any more.
    """

    login: Login
    deaths: list[str] = field(default_factory=list)
    stages: dict[str, str] = field(default_factory=dict)
    runs: dict[tuple[str, int], int] = field(default_factory=dict)
    twins: set[str] = field(default_factory=set)
    forgotten: set[str] = field(default_factory=set)

    @property
    def run(self) -> Path:
        """The campaign's folder."""
        return self.login.rundir.root

    @property
    def campaign(self) -> Campaign:
        """The campaign, as its first driver resolved it."""
        know_kinds()
        return stored_campaign(self.login.rundir)

    def write(self, stages: dict[str, dict[str, Any]], **ends: str) -> None:
        """Write a campaign of toy stages; `ends` says how a stage ends that is not done."""
        (self.login.folder / "data.xyz").touch()
        job = {"kind": "toy", "walltime": "00:05:00"}
        self.write_as_it_is({name: spec if "kind" in spec else {**job, **spec} for name, spec in stages.items()})
        self.stages |= ends

    def write_as_it_is(self, stages: dict[str, dict[str, Any]], **header: Any) -> None:
        """Write a campaign."""
        fields = {
            "name": NAME,
            "site": self.login.system.site,
            "budget": {"node_hours": BUDGET},
            "branches": {"b": {"reader": "extxyz", "path": "data.xyz"}},
            **header,
            "stages": stages,
        }
        self._file.write_text(yaml.safe_dump(fields, sort_keys=False))
        self.stages = dict.fromkeys(stages, "done")

    def write_search(self) -> None:
        """Write a campaign of a real search over two branches."""
        sources = {}
        for name in ("a", "b"):
            (self.login.folder / f"{name}.xyz").write_text(molecules(48))
            sources[name] = {"reader": "extxyz", "path": f"{name}.xyz", "options": {"identity": "molecule"}}
        data = {"kind": "convert", "nodes": 1, "walltime": "00:10:00"}
        self.write_as_it_is({"data": data, "search": SEARCH}, branches=sources)

    def require_one_search(self, deaths: int) -> None:
        """Check from its records that a search went on as if its agents had not died: nothing asked, nor done, twice."""
        causes = [line["cause"] for line in self.login.events("settled", stage="search")]
        assert causes == ["node_failure"] * deaths + [None], causes
        result = self.login.receipt("search").result
        assert result["note"] == "", "the optimizer was replayed, not warmed up"
        assert [trial["status"] for trial in result["trials"]] == ["done"] * SEARCH["evaluations"]
        asked, ended = [], set()
        for attempt in self.login.rundir.attempts("search"):
            lines = read_chain(attempt.record).events if attempt.record.exists() else []
            again = {line["trial"] for line in lines if line["event"] == "task"} & ended
            assert not again, f"trials that had ended were begun again: {again}"
            asked += [each["trial"] for line in lines if line["event"] == "ask" for each in line["trials"]]
            ended |= {line["trial"] for line in lines if line["event"] == "end" and line["cause"] is None}
        assert sorted(asked) == list(range(1, SEARCH["evaluations"] + 1)), asked

    def let_agents_die(self, **points: str) -> None:
        """Lay down at which point the agent of an attempt dies: `a_1_2` is the second attempt at the first link of `a`."""
        self.run.mkdir(parents=True, exist_ok=True, mode=0o700)
        fates = {name.replace("_", " "): point for name, point in points.items()}
        (self.run / FATES).write_text(json.dumps(fates))

    def dies(self, point: str, nth: int = 1, *, cancels: bool = False) -> None:
        """Drive until the driver kills itself the nth time it passes a point."""
        code = self._drive(self._argv(point, nth, cancels=cancels))
        assert code == -signal.SIGKILL, f"`{point}` was never passed ({code})\n{self.login.said}"
        self.deaths.append(point)

    def dies_within(self, command: str, *, cancels: bool = False) -> None:
        """Drive until a command of the batch system has done what it is asked, and kills the driver that waits for it."""
        program = shutil.which(command, path=self.login.environment["PATH"])
        shim, mark = self.login.folder / "bin" / command, self.login.folder / f"deadly-{command}"
        shim.parent.mkdir(exist_ok=True)
        shim.write_text(_DEADLY.format(program=program, mark=mark))
        shim.chmod(0o700)
        mark.touch()
        path = f"{shim.parent}:{self.login.environment['PATH']}"
        code = self._drive(self._argv(NEVER, 1, cancels=cancels), PATH=path)
        assert code == -signal.SIGKILL and not mark.exists(), f"`{command}` was not called ({code})\n{self.login.said}"
        self.deaths.append(f"within {command}")

    def freezes(self, point: str) -> subprocess.Popen[str]:
        """Drive until the driver stands still at a point."""
        process = self._started(self._argv(point, 1, name="SIGSTOP"))
        wait(lambda: (stat(process.pid) or "-")[0] == "T", _PATIENCE_S)
        self.deaths.append(f"frozen {point}")
        return process

    def elsewhere(self, host: str) -> subprocess.Popen[str]:
        """Start a driver on another login node: one that sees neither this node's processes nor its name."""
        return self._started([*_ELSEWHERE, "sh", "-c", _NAMED, host, *self._argv(NEVER)])

    def drives(self) -> int:
        """Drive as far as it goes; return how the driver ended."""
        return self._drive(self._argv(NEVER))

    def finishes(self, code: int = 0) -> None:
        """Drive to the end."""
        ended = self.drives()
        assert ended == code, f"{ended}\n{self.login.said}"

    def cancels(self) -> None:
        """Ask for the end of everything, and drive until it has come."""
        code = self._drive(self._argv(NEVER, 1, cancels=True))
        assert code == 0, self.login.said

    def started(self, stage: str, link: int = 1, number: int = 1) -> None:
        """Wait until the work of an attempt has begun."""
        words = [stage, str(link), str(number)]
        wait(lambda: any(line.split()[:3] == words for line in self.executions()), _PATIENCE_S)

    def all_ended(self, count: int) -> None:
        """Wait until so many jobs were accepted, and the batch system knows the end of each."""
        wait(lambda: len(told := self.login.accounts()) == count and all(each.state != "open" for each in told), _PATIENCE_S, 1)

    def accepted(self, count: int) -> None:
        """Wait until the batch system's books have so many jobs; they come seconds after the answer."""
        wait(lambda: len(self.login.accounts()) == count, _PATIENCE_S)

    def executions(self) -> list[str]:
        """Return a line for each time that the work of a stage was begun."""
        log = self.run / "executions.log"
        return log.read_text().splitlines() if log.exists() else []

    def release(self) -> None:
        """Let go what waits."""
        (self.run / "go").touch()

    @property
    def _file(self) -> Path:
        return self.login.folder / f"{NAME}.yaml"

    def _argv(self, point: str, nth: int = 1, *, name: str = "SIGKILL", cancels: bool = False) -> list[str]:
        what = "cancel" if cancels else "run"
        return [sys.executable, "-m", "dying", str(self._file), point, str(nth), name, what, str(AGENT)]

    def _drive(self, argv: Sequence[str], **variables: str) -> int:
        return self._started(argv, **variables).wait(_PATIENCE_S)

    def _started(self, argv: Sequence[str], **variables: str) -> subprocess.Popen[str]:
        with open(self.login.folder / "driver.log", "a") as log:
            log.write(f"--- {argv[-6:]}\n")
            log.flush()
            process = subprocess.Popen(
                argv,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                text=True,
                env={**self.login.environment, **variables},
                cwd=self.login.folder,
                start_new_session=True,
            )
        self.login.started.append(process)
        return process


def thaw(process: subprocess.Popen[str]) -> int:
    """Let a driver go on from where it stands; return how it ended."""
    os.kill(process.pid, signal.SIGCONT)
    return process.wait(_PATIENCE_S)
