"""What tests on the stand-in share: the site, and its books."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

from login import Account, System

from pbs.cluster import Pbs

OVERLAY = Path(__file__).with_name("aurora.yaml")
_DELETED = 91


def system_of(pbs: Pbs) -> System:
    """Return the stand-in as the Aurora of a user on its login node."""
    return System(OVERLAY, pbs.environment, "qstat", "qsub", "qdel", partial(accounts_of, pbs), partial(forgotten, pbs))


def jobs_below(pbs: Pbs, folder: Path) -> dict[str, dict[str, Any]]:
    """Return the jobs that were handed in from below a folder, oldest first."""
    jobs = {name: job for name, job in pbs.jobs().items() if Path(job["Variable_List"]["PBS_O_WORKDIR"]).is_relative_to(folder)}
    return dict(sorted(jobs.items(), key=lambda pair: int(pair[0].partition(".")[0])))


def accounts_of(pbs: Pbs, folder: Path) -> list[Account]:
    """Return what the server tells of the jobs that were handed in below a folder, oldest first."""
    return [_account(name, job) for name, job in jobs_below(pbs, folder).items()]


def _account(job_id: str, job: dict[str, Any]) -> Account:
    over = job["job_state"] == "F"
    how = "cancelled" if job["substate"] == _DELETED else "done" if job.get("Exit_status") == 0 else "failed"
    where = Path(job["Variable_List"]["PBS_O_WORKDIR"])
    nodes = int(job["Resource_List"]["nodect"])
    times = [_time(job[name]) if name in job else None for name in ("stime", "obittime")]
    return Account(job_id, str(job["Job_Name"]), where, how if over else "open", nodes, times[0], times[1] if over else None)


def _time(text: str) -> float:
    return time.mktime(time.strptime(text, "%a %b %d %H:%M:%S %Y"))


def forgotten(pbs: Pbs, job_id: str) -> None:
    """Let the server forget an ended job: its history is deleted."""
    pbs.run("qdel", "-x", job_id)
