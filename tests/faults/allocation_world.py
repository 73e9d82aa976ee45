"""An attempt's folder and a real agent in it, for the tests of the agent: virtual nodes, short periods, no scheduler."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workflow.allocation.guard import descendants
from workflow.process import start_time
from workflow.receipt import Receipt, read_receipt
from workflow.request import Request, write_request
from workflow.rundir import AttemptDir, RunDir
from workflow.site import load_site

ROOT = Path(__file__).parents[2]


@dataclass
class World:
    """One campaign folder whose attempts the test makes and runs.

    Attributes:
        campaign: The campaign's folder.
        periods: Periods of the site, over those of the tests.
        nodes: Names of the allocated nodes.
        walltime_s: Seconds that the scheduler states.
    """

    campaign: Path
    periods: dict[str, float] = field(default_factory=dict)
    nodes: tuple[str, ...] = ("node1", "node2")
    walltime_s: float = 300.0
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def attempt(
        self, kind: str, *, link: int = 1, number: int = 1, previous: tuple[str, ...] = (), spares: int = 0
    ) -> AttemptDir:
        """Make an attempt's folder with its request and its fence."""
        attempt = RunDir(self.campaign).attempt("work", link, number)
        attempt.run.mkdir(parents=True)
        site = load_site("local").model_dump(mode="json")
        site["node"]["local"] = str(self.campaign / "node-local" / "{job}" / "{node}")
        site["periods"] |= {
            "heartbeat_s": 0.2,
            "ttl_s": 8.0,
            "stop_margin_s": 4.0,
            "stalled_s": 60.0,
            "kill_after_s": 2.0,
            **self.periods,
        }
        request = Request(
            campaign_id="0" * 32,
            campaign=str(self.campaign),
            name="test",
            token=f"ctest{link}{number}",
            stage="work",
            instance=0,
            kind=kind,
            spec={"spares": spares},
            link=link,
            links=3,
            attempt=number,
            nodes=len(self.nodes),
            walltime_s=self.walltime_s,
            site=site,
            branches={},
            sources={},
            splits={},
            previous=previous,
        )
        write_request(attempt.request, request)
        return attempt

    def start(self, attempt: AttemptDir, job: str = "7") -> subprocess.Popen[bytes]:
        """Start the agent as a batch script would."""
        own = {"LOCAL_JOB_ID": job, "LOCAL_JOB_NODES": ",".join(self.nodes), "LOCAL_JOB_END": str(time.time() + self.walltime_s)}
        with open(attempt.log, "ab") as log:
            process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("scripted_agent.py")), str(attempt.root)],
                env={**os.environ, **own, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def run(self, attempt: AttemptDir, job: str = "7", timeout: float = 90) -> Receipt:
        """Run the agent to its end and return the receipt."""
        self.start(attempt, job).wait(timeout)
        receipt = read_receipt(attempt.receipt)
        assert receipt is not None, attempt.log.read_text()
        return receipt

    def close(self) -> None:
        """End what the test has left running."""
        for process in self.started:
            for pid in descendants(process.pid):
                _kill(pid)
            if process.poll() is None:
                process.kill()
            process.wait()


def heartbeat(attempt: AttemptDir) -> dict[str, Any]:
    """Return what the heartbeat says now."""
    fields: dict[str, Any] = json.loads(attempt.heartbeat.read_text())
    return fields


def until(condition: Callable[[], object], timeout: float = 60.0) -> None:
    """Wait for a condition; the time only bounds a failing test."""
    give_up = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < give_up, "it did not come about"
        time.sleep(0.05)


def alive(pids: list[int]) -> list[int]:
    """Return those processes that still run."""
    return [pid for pid in pids if start_time(pid) is not None]


def _kill(pid: int) -> None:
    try:
        os.kill(pid, 9)
    except ProcessLookupError:
        return
