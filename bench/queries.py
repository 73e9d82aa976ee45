"""How often a driver asks the batch system: the real `BatchExecutor` over jobs that wait, its polls short, counted in polls."""

from __future__ import annotations

import time
from concurrent.futures import Future
from pathlib import Path

from bench import campaigns
from workflow.batch.executor import BatchExecutor
from workflow.batch.scheduler import JobRow, JobSpec, JobState, Scheduler, Snapshot
from workflow.batch.shared import Shared
from workflow.journal import Journal
from workflow.rundir import RunDir
from workflow.site import Periods, load_site

SITE = "frontier"
_HOUR_S = 3600.0
_PATIENCE_S = 120.0


class Counted(Scheduler):
    """A batch system in whose queue every job waits; it counts what it is asked."""

    def __init__(self, poll_s: float) -> None:
        site = load_site(SITE)
        super().__init__(site.model_copy(update={"scheduler": site.scheduler.model_copy(update={"poll_s": poll_s})}))
        self.queries = 0
        self._rows: list[JobRow] = []

    def submit(self, spec: JobSpec) -> str:
        """Take a job."""
        job_id = str(len(self._rows) + 1)
        self._rows.append(JobRow(job_id, spec.token, str(spec.workdir), JobState.QUEUED))
        return job_id

    def snapshot(self) -> Snapshot:
        """Tell of all jobs at once."""
        self.queries += 1
        return Snapshot(tuple(self._rows))

    def cancel(self, job_id: str, token: str) -> None:
        """Nothing here is cancelled."""

    @property
    def taken(self) -> int:
        """How many jobs wait."""
        return len(self._rows)


def queries_per_hour(folder: Path, jobs: int, polls: int, poll_s: float, periods: Periods, drivers: int = 1) -> float:
    """Return the queries that all drivers together make in an hour of the site's own polls.

    Args:
        folder: Where their campaigns go.
        jobs: Jobs of each driver.
        polls: For how many polls to count.
        poll_s: Seconds of a poll here.
        periods: Of the journals.
        drivers: Campaigns of one user, each with a driver of its own.
    """
    batch, journals, executors = Counted(poll_s), [], []
    for number in range(drivers):
        journals.append(Journal.take(RunDir(folder / f"{number}"), periods))
        executors.append(BatchExecutor(f"batch{number}", Shared(batch, folder), journals[-1], lambda *_: None))
        for job in (campaigns.shell_job(folder / f"{number}", k) for k in range(jobs)):
            executors[-1].enqueue(job, Future())
    try:
        for executor in executors:
            executor.start()
        _await_all(batch, jobs * drivers)
        began, asked = time.monotonic(), batch.queries
        time.sleep(polls * poll_s)
        passed = (time.monotonic() - began) / poll_s * load_site(SITE).scheduler.poll_s
        return (batch.queries - asked) / passed * _HOUR_S
    finally:
        for executor, journal in zip(executors, journals, strict=True):
            executor.shutdown()
            journal.close()


def _await_all(batch: Counted, count: int) -> None:
    until = time.monotonic() + _PATIENCE_S
    while batch.taken < count:
        if time.monotonic() > until:
            raise TimeoutError(f"{batch.taken} of {count} jobs were handed in")
        time.sleep(0.01)
