"""A batch system in memory: seeded, on a clock that its owner moves. It rules jobs and nodes, and runs nothing itself.

Three faces rest on it: the property tests of the protocol, the stand-in for a batch system by which tests drive whole
campaigns, and `campaign simulate`. Whoever owns it advances its time, carries out what `advance` says has happened (a
job has started, is asked to end, is ended), and tells it when a job's script is over.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence

from workflow.batch.scheduler import JobState
from workflow.simulation.job import Ask, Happening, Job, Refused, Rules, What
from workflow.site import Limit

_PLAIN = Rules()


class Model:
    """The batch system. Its owner advances it to the present before calling anything else.

    Args:
        nodes: Names of the nodes.
        rules: How it behaves.
        seed: Same seed, same calls: same history.
        name_id: Makes an id out of a job's number.
    """

    def __init__(
        self, nodes: Sequence[str], rules: Rules = _PLAIN, seed: int = 0, name_id: Callable[[int], str] = lambda n: str(n)
    ) -> None:
        self.now = 0.0
        self.jobs: dict[str, Job] = {}
        self.down: set[str] = set()
        self._nodes, self._rules, self._name_id = tuple(nodes), rules, name_id
        self._rng = random.Random(seed)  # noqa: S311 a history to be repeated, not a secret
        self._busy: dict[str, str] = {}
        self._count = 0
        self._happened: list[Happening] = []

    def submit(self, ask: Ask) -> Job:
        """Take a job.

        Raises:
            Refused: It is not taken.
        """
        if not (ask.impossible or 1 <= ask.nodes <= len(self._nodes)):
            raise Refused(f"{ask.nodes} nodes are asked for, {len(self._nodes)} are there")
        for limit in self._rules.limits:
            if limit.submitted is not None and _under(limit, ask) and len(self._open(limit)) >= limit.submitted:
                raise Refused(f"{limit.submitted} jobs are submitted already")
        self._count += 1
        job = Job(self._name_id(self._count), ask, self.now, self._count, JobState.HELD if ask.held else JobState.QUEUED)
        self.jobs[job.id] = job
        return job

    def cancel(self, job_id: str) -> bool:
        """Ask for the end of a job; say whether there was one to end."""
        job = self.jobs.get(job_id)
        if job is None or job.state.is_final:
            return False
        if job.is_waiting:
            self._end(job, JobState.CANCELLED)
        elif job.is_running and job.ending is None:
            self._ask_to_end(job, JobState.CANCELLED)
        return True

    def preempt(self, job: Job) -> None:
        """Take the nodes of a running job away, as the site may."""
        if job.is_running and job.ending is None:
            self._ask_to_end(job, JobState.PREEMPTED)

    def requeue(self, job: Job) -> None:
        """Let a job wait again, under its own id; its processes are ended at once."""
        if job.is_running:
            self._tell(What.KILLED, job)
            self._free(job)
        job.state, job.started, job.ended, job.exit, job.ending = JobState.QUEUED, None, None, None, None
        job.eligible, job.ready, job.kill_at = None, math.inf, math.inf

    def hold(self, job: Job) -> None:
        """Keep a waiting job back."""
        if job.is_waiting:
            job.state, job.eligible, job.ready = JobState.HELD, None, math.inf

    def release(self, job: Job) -> None:
        """Let a held job wait for its turn."""
        if job.state is JobState.HELD:
            job.state = JobState.QUEUED

    def fail_node(self, node: str, *, kills_job: bool = True) -> Job | None:
        """Let a node die; return the job that had it.

        Args:
            node: Its name.
            kills_job: Whether the batch system ends the whole job; else only what ran on the node is gone.
        """
        self.down.add(node)
        job = self.jobs.get(self._busy.get(node, ""))
        if job is not None and job.is_running and kills_job:
            self._tell(What.KILLED, job)
            self._end(job, JobState.NODE_FAIL)
        return job

    def mend_node(self, node: str) -> None:
        """Let a node be used again."""
        self.down.discard(node)

    def forget(self, job: Job) -> None:
        """Tell no more of a job that has ended; those that come after it count it as ended still."""
        if job.state.is_final:
            self.jobs.pop(job.id, None)

    def vanish(self, job: Job) -> None:
        """Forget a waiting job without a trace."""
        if job.is_waiting:
            del self.jobs[job.id]

    def finish(self, job: Job, code: int) -> None:
        """Hear that a job's script is over, and no process of it is left."""
        if not job.is_running:
            return
        job.exit = code
        state = job.ending or (JobState.COMPLETED if code == 0 else JobState.FAILED)
        if job.lingers:
            job.state, job.ending, job.kill_at = JobState.ENDING, state, math.inf
        else:
            self._end(job, state)

    def leave_ending(self, job: Job) -> None:
        """Let a job that lingers in its last state come to its end."""
        job.lingers = False
        if job.state is JobState.ENDING and job.ending is not None:
            self._end(job, job.ending)

    def due(self) -> float:
        """Return when something happens next by itself, if nothing else does."""
        return min((at for job in self.jobs.values() for at in self._times(job)), default=math.inf)

    def advance(self, now: float) -> list[Happening]:
        """Let time pass; return what has happened since the last call, in order."""
        self._settle()
        while (at := self.due()) <= now:
            self.now = max(self.now, at)
            for job in list(self.jobs.values()):
                self._pass_limits(job)
            self._settle()
        self.now = max(self.now, now)
        happened, self._happened = self._happened, []
        return happened

    def free(self) -> list[str]:
        """Return the nodes that a job could have now."""
        return [node for node in self._nodes if node not in self._busy and node not in self.down]

    def told(self) -> list[Job]:
        """Return the jobs that the batch system tells of: all but those that ended long ago."""
        return [job for job in self.jobs.values() if job.ended is None or self.now - job.ended <= self._rules.history_s]

    def _times(self, job: Job) -> Iterator[float]:
        """Give the times at which a job changes by itself."""
        if job.state is JobState.QUEUED and job.ready > self.now:
            yield job.ready
        if job.is_running and not job.deaf:
            yield job.kill_at if job.ending is not None else job.limit_at + self._rules.notice_s

    def _pass_limits(self, job: Job) -> None:
        if not job.is_running or job.deaf:
            return
        if job.ending is None and self.now >= job.limit_at + self._rules.notice_s:
            self._ask_to_end(job, JobState.TIMEOUT)
        elif job.ending is not None and self.now >= job.kill_at:
            job.kill_at = math.inf
            self._tell(What.KILLED, job)

    def _settle(self) -> None:
        """Let jobs have their turn and start until nothing changes: a start may free the turn of the next."""
        while self._give_turns() + self._start_ready():
            pass

    def _waiting(self) -> list[Job]:
        return [job for job in self.jobs.values() if job.state is JobState.QUEUED]

    def _give_turns(self) -> int:
        given = 0
        for job in sorted(self._waiting(), key=lambda each: each.order):
            if job.eligible is None and self._may_be_eligible(job):
                job.eligible = self.now
                job.ready = self.now + self._rules.wait(self._rng, job.ask)
                given += 1
        return given

    def _start_ready(self) -> int:
        """Start jobs whose time and nodes have come, in order, without overtaking; say how many."""
        ready = [job for job in self._waiting() if job.ready <= self.now]
        free, started = self.free() if ready else [], 0
        for job in sorted(ready, key=lambda each: (each.ready, each.order)):
            if self._is_full(job, "running"):
                continue
            if job.ask.nodes > len(free):
                break
            self._start(job, free[: job.ask.nodes])
            free, started = free[job.ask.nodes :], started + 1
        return started

    def _may_be_eligible(self, job: Job) -> bool:
        if job.ask.impossible:
            return False
        waits_for = (self.jobs.get(each) for each in job.ask.after)
        return all(each is None or each.state.is_final for each in waits_for) and not self._is_full(job, "eligible")

    def _is_full(self, job: Job, what: str) -> bool:
        for limit in self._rules.limits:
            most = getattr(limit, what)
            if most is not None and _under(limit, job.ask) and sum(_counts(each, what) for each in self._open(limit)) >= most:
                return True
        return False

    def _open(self, limit: Limit) -> list[Job]:
        return [job for job in self.jobs.values() if not job.state.is_final and _under(limit, job.ask)]

    def _start(self, job: Job, nodes: Sequence[str]) -> None:
        job.state, job.started, job.nodes = JobState.RUNNING, self.now, tuple(nodes)
        job.runs += 1
        self._busy.update(dict.fromkeys(nodes, job.id))
        self._tell(What.STARTED, job)

    def _ask_to_end(self, job: Job, state: JobState) -> None:
        if job.deaf:
            return
        job.ending, job.kill_at = state, self.now + self._rules.kill_wait_s
        self._tell(What.ASKED_TO_END, job)

    def _end(self, job: Job, state: JobState) -> None:
        was_waiting = job.is_waiting
        job.state, job.ended, job.kill_at = state, self.now, math.inf
        self._free(job)
        if was_waiting or state is JobState.NODE_FAIL:
            self._tell(What.ENDED, job)

    def _free(self, job: Job) -> None:
        for node in job.nodes:
            if self._busy.get(node) == job.id:
                del self._busy[node]

    def _tell(self, what: What, job: Job) -> None:
        self._happened.append(Happening(self.now, what, job))


def _under(limit: Limit, ask: Ask) -> bool:
    return not limit.queues or ask.queue in limit.queues


def _counts(job: Job, what: str) -> bool:
    """Say whether a job takes a place: among those that run, or among those that have their turn and wait."""
    return job.state.has_started if what == "running" else job.eligible is not None and job.state is JobState.QUEUED
