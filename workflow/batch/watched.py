"""An attempt as the executor watches it: what is remembered of it, and which jobs were found beside its own."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from workflow.batch.attempt import Attempt, Phase
from workflow.batch.job import Job
from workflow.batch.scheduler import JobRow


@dataclass
class Watched:
    """An attempt under way, or one that has ended and is guarded.

    Attributes:
        job: What was submitted, or is to be.
        attempt: What the protocol remembers.
        future: Gives its end.
        look: How the last look at it went; empty before the first.
        beside: Further jobs of its token: node-hours used, or None while they may still run.
    """

    job: Job
    attempt: Attempt
    future: Future[Any]
    look: str = ""
    beside: dict[str, float | None] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Whether something is still to be learnt of it."""
        return self.attempt.phase is not Phase.SETTLED or self.attempt.lingers

    @property
    def is_at_rest(self) -> bool:
        """Whether no window of the protocol is running for it, and its agent was seen to count."""
        if not self.look or not self.is_open:
            return bool(self.look)
        if self.attempt.phase is Phase.INTENT:
            return self.attempt.retry_at is not None or self.look == "no answer"
        is_clear = self.attempt.absent_since is None and self.attempt.ended_since is None
        return self.look == "no answer" or (is_clear and not self._may_be_silent)

    @property
    def _may_be_silent(self) -> bool:
        """Whether its agent has yet to be seen counting by this driver, as long as that can lead to anything.

        Another driver would have to begin that anew, and passes of which each looks once would never see a silence.
        """
        silence, windows = self.attempt.silence, self.attempt.windows
        stands = self.attempt.started and silence.count is not None and not silence.has_moved
        return stands and silence.stood_s < 2 * windows.ttl_s + windows.grace_s

    def news_beside(self, rows: tuple[JobRow, ...]) -> dict[str, float | None]:
        """Return what is new about jobs beside its own: node-hours used, or None for one that may still run.

        Each counts against the budget at full walltime until the accounting proves what it used. One that had ended
        without cost when it was first seen is no news.
        """
        own = self.attempt.job_id or next((row.job_id for row in rows), None)
        seen = {row.job_id: row.node_hours if row.state.is_final else None for row in rows if row.job_id != own}
        news = {job_id: used for job_id, used in seen.items() if self.beside.get(job_id, 0.0) != used}
        self.beside |= news
        return news
