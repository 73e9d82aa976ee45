"""The task of a `BatchExecutor`: one attempt, and how far it has come."""

from __future__ import annotations

from dataclasses import dataclass

from workflow.batch.attempt import Phase
from workflow.batch.scheduler import JobSpec
from workflow.launch import Launch
from workflow.rundir import AttemptDir


@dataclass(frozen=True)
class Job(Launch):
    """One attempt, and how far it has come.

    Attributes:
        spec: What to submit.
        folder: Its folder.
        stage: Stage instance.
        link: Link number.
        number: Attempt number at this link.
        phase: `INTENT` for one just written down, else what the journal of an earlier driver says.
        job_id: Its job, where known.
        started: Its start is in the journal.
    """

    spec: JobSpec
    folder: AttemptDir
    stage: str
    link: int
    number: int
    phase: Phase = Phase.INTENT
    job_id: str | None = None
    started: bool = False

    def charged(self, node_hours: float | None) -> float:
        """Return what it is charged: all that it asked for, where nothing proves less."""
        return self.spec.node_hours if node_hours is None else node_hours
