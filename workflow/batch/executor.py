"""A Parsl executor whose task is an attempt: it submits, adopts, watches and settles batch jobs, and never cancels by ending."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from parsl.config import Config
from parsl.dataflow.dependency_resolvers import DEEP_DEPENDENCY_RESOLVER
from parsl.executors.threads import ThreadPoolExecutor

from workflow.batch import fence, protocol
from workflow.batch.attempt import Action, Attempt, Kind, Observation, Phase, Settled, windows_of
from workflow.batch.job import Job
from workflow.batch.scheduler import JobRow, Scheduler, Snapshot
from workflow.batch.watched import Watched
from workflow.errors import SchedulerError
from workflow.executor import LaunchExecutor
from workflow.journal import Journal
from workflow.launch import Launch

_STEPS = 8  # actions on one attempt in one pass; a chain of adopt, start, … is shorter
_TOLD_AFTER = 3  # queries without an answer before a person hears of it
_AT_ONCE = (Kind.ADOPT, Kind.START, Kind.FENCE)


class BatchExecutor(LaunchExecutor):
    """Carries attempts through the protocol, by one thread and one query for all of them.

    Args:
        label: Parsl's name for it.
        scheduler: The batch system.
        journal: The lease; every fact is committed before it is acted upon.
        on_event: Called from the executor's thread with the token of an attempt whose job is known, or with a fault that ends it.
        passing: Called with the name of each point at which a crash is interesting; fault tests give one that kills.
    """

    launch_type: ClassVar[type[Launch]] = Job

    def __init__(
        self,
        label: str,
        scheduler: Scheduler,
        journal: Journal,
        on_event: Callable[[str, Exception | None], None],
        passing: Callable[[str], None] = lambda _: None,
    ) -> None:
        super().__init__(label)
        self._scheduler, self._journal = scheduler, journal
        self._on_event, self._passing = on_event, passing
        self._windows = windows_of(scheduler.site)
        self._lock = threading.Lock()
        self._inbox: list[Watched] = []
        self._unwanted: set[str] = set()
        self._unanswered = 0
        self._watches: dict[str, Watched] = {}
        self._end, self._wake = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"batch-{label}", daemon=True)

    def start(self) -> None:
        """Start the thread; Parsl calls this."""
        self._thread.start()

    def shutdown(self) -> None:
        """Stop watching. Jobs go on; the next driver adopts them."""
        self._end.set()
        self._wake.set()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join()
        super().shutdown()

    def monitor_resources(self) -> bool:
        """Nothing of an attempt runs in this process."""
        return False

    def enqueue(self, launch: Launch, future: Future[Any]) -> None:
        """Take over an attempt: adopt it where it stands, or begin it."""
        assert isinstance(launch, Job)
        attempt = Attempt(launch.spec.token, self._windows, launch.phase, launch.job_id, launch.started)
        with self._lock:
            self._inbox.append(Watched(launch, attempt, future))
        self._wake.set()

    def guard(self, job: Job, *, lingers: bool = False) -> None:
        """Watch a settled attempt too: a job of its token that turns up late is cancelled; its own may still linger."""
        attempt = Attempt(job.spec.token, self._windows, Phase.SETTLED, job.job_id, lingers=lingers)
        with self._lock:
            self._inbox.append(Watched(job, attempt, Future()))
        self._wake.set()

    def unwant(self, token: str) -> None:
        """Ask for the end of an attempt: barred if it has not started, else stopped in order, then by force."""
        with self._lock:
            self._unwanted.add(token)
        self._wake.set()

    @property
    def lingers(self) -> bool:
        """Whether the job of a settled attempt may still hold its nodes."""
        with self._lock:
            return any(watch.attempt.lingers for watch in [*self._watches.values(), *self._inbox])

    def is_at_rest(self, tokens: Iterable[str]) -> bool:
        """Say whether nothing more can be learnt of these attempts but by waiting for the world.

        An attempt whose absence is being proven is not at rest: another driver would have to begin that anew.
        """
        with self._lock:
            watches = [self._watches.get(token) for token in tokens]
            watches += [watch for watch in [*self._watches.values(), *self._inbox] if watch.attempt.lingers]
        return all(watch is not None and watch.is_at_rest for watch in watches)

    def _run(self) -> None:
        while not self._end.is_set():
            began = time.monotonic()
            try:
                self._pass()
            except Exception as error:  # the lease is lost, or the disk is full: the driver must hear of it
                self._on_event("", error)
                return
            self._rest(began)

    def _rest(self, began: float) -> None:
        """Sleep to the next poll; with nothing to watch, until there is something."""
        while not self._end.is_set():
            left = began + self._scheduler.site.scheduler.poll_s - time.monotonic()
            idle = not self._has_work()
            if left <= 0 and not idle:
                return
            self._wake.wait(None if idle else left)
            self._wake.clear()

    def _has_work(self) -> bool:
        with self._lock:
            return bool(self._inbox) or any(w.is_open for w in self._watches.values())

    def _pass(self) -> None:
        with self._lock:
            inbox, self._inbox = self._inbox, []
            self._watches.update({watch.job.spec.token: watch for watch in inbox})
            unwanted = set(self._unwanted)
        if not self._watches:
            return
        self._passing("poll")
        snapshot = self._ask()
        for watch in list(self._watches.values()):
            if watch.job.spec.token in unwanted and not watch.attempt.cancel:
                watch.attempt = replace(watch.attempt, cancel=True)
            self._advance(watch, snapshot)
            watch.look = "answered" if snapshot is not None and snapshot.is_complete else "no answer"

    def _ask(self) -> Snapshot | None:
        try:
            snapshot = self._scheduler.snapshot()
        except SchedulerError as error:  # no answer is no news of any job
            self._note_silence(error.what)
            return None
        self._note_silence("" if snapshot.is_complete else "accounting does not answer, or of a job of ours nothing can be read")
        return snapshot

    def _note_silence(self, what: str) -> None:
        self._unanswered += bool(what)
        if what and self._unanswered == _TOLD_AFTER:
            self._journal.commit("scheduler_silent", message=what)
        if not what and self._unanswered >= _TOLD_AFTER:
            self._journal.commit("scheduler_answers")
        self._unanswered *= bool(what)

    def _advance(self, watch: Watched, snapshot: Snapshot | None) -> None:
        token = watch.job.spec.token
        rows = None if snapshot is None else snapshot.of(token, watch.job.spec.workdir)
        for _ in range(_STEPS):
            seen = self._observe(watch, rows)
            if snapshot is not None and not snapshot.is_complete:  # what was seen counts, what was not seen does not
                seen = replace(seen, answered=False)
            action = protocol.decide(watch.attempt, seen, time.monotonic())
            if action.kind is Kind.ACCOUNT:  # it lingers until that is written: else the driver might leave in between
                self._account(watch, action)
            watch.attempt = action.attempt
            self._do(watch, action)
            if action.kind not in _AT_ONCE:
                break
        for job_id, used in watch.news_beside(rows or ()).items():
            self._journal.commit("found_beside", token=token, job_id=job_id, node_hours=used)

    def _observe(self, watch: Watched, rows: tuple[JobRow, ...] | None) -> Observation:
        if watch.attempt.phase is Phase.SETTLED:
            return Observation(rows is not None, rows or ())
        return fence.observe(watch.job.folder, rows)

    def _do(self, watch: Watched, action: Action) -> None:
        token = watch.job.spec.token
        if action.kind is Kind.SUBMIT:
            self._submit(watch)
        elif action.kind is Kind.ADOPT:
            self._journal.commit("submitted", token=token, job_id=action.jobs[0], adopted=True)
            self._on_event(token, None)
        elif action.kind is Kind.START:
            self._journal.commit("started", token=token)
        elif action.kind is Kind.FENCE:
            self._bar(watch)
        elif action.kind is Kind.STOP:
            fence.ask_to_stop(watch.job.folder)
        elif action.kind is Kind.CANCEL:
            self._cancel(action.jobs, token)
        elif action.kind is Kind.SETTLE and action.settled is not None:
            self._settle(watch, action.settled, action.row)

    def _account(self, watch: Watched, action: Action) -> None:
        used = watch.job.charged(action.node_hours)
        self._journal.commit("accounted", token=watch.job.spec.token, node_hours=used)

    def _submit(self, watch: Watched) -> None:
        token = watch.job.spec.token
        self._journal.check()
        if not watch.job.spec.script.exists():
            self._give_up(watch, protocol.gone(), "new; its folder is gone")
            return
        self._passing("before submit")
        try:
            job_id = self._scheduler.submit(watch.job.spec)
        except SchedulerError as error:
            self._note_failed_submit(watch, error)
            return
        self._passing("after submit")
        self._journal.commit("submitted", token=token, job_id=job_id)
        watch.attempt = protocol.submitted(watch.attempt, job_id)
        self._passing("after id")
        self._on_event(token, None)

    def _note_failed_submit(self, watch: Watched, error: SchedulerError) -> None:
        token = watch.job.spec.token
        if error.unknown:
            watch.attempt = protocol.unanswered(watch.attempt)
            self._journal.commit("submit_unknown", token=token, message=str(error))
            return
        self._journal.commit("submit_rejected", token=token, message=str(error), transient=error.transient)
        watch.attempt = protocol.refused(watch.attempt, time.monotonic())
        if not error.transient:
            self._give_up(watch, protocol.rejected(str(error)), "new; refused for good")

    def _give_up(self, watch: Watched, settled: Settled, row: str) -> None:
        watch.attempt = replace(watch.attempt, phase=Phase.SETTLED, settled=settled)
        self._settle(watch, settled, row)

    def _bar(self, watch: Watched) -> None:
        self._journal.check()
        self._passing("before fence")
        barred = fence.take(watch.job.folder)
        self._passing("after fence")
        self._journal.commit("revoked", token=watch.job.spec.token, barred=barred)

    def _cancel(self, jobs: tuple[str, ...], token: str) -> None:
        self._journal.check()
        for job_id in jobs:
            try:
                self._scheduler.cancel(job_id, token)
            except SchedulerError:  # asked again when its time has come
                continue

    def _settle(self, watch: Watched, settled: Settled, row: str) -> None:
        """Take the right to have effect from an attempt without a receipt, write down its end, tell the driver."""
        if settled.receipt is None and not watch.job.folder.revoked.exists():
            self._bar(watch)
        self._passing("before settle")
        job = watch.job
        self._journal.commit(
            "settled",
            token=job.spec.token,
            stage=job.stage,
            link=job.link,
            attempt=job.number,
            status=settled.status.value,
            cause=settled.cause.value if settled.cause else None,
            message=settled.message,
            evidence={**settled.evidence, "row": row},
            node_hours=job.charged(settled.node_hours),
            job_ended=settled.job_ended,
        )
        self._passing("after settle")
        watch.future.set_result(settled)


def kernel_config(batch: BatchExecutor, run_dir: Path) -> Config:
    """Return Parsl's configuration around our executor: dependencies and futures only, no state of its own."""
    return Config(
        executors=[batch, ThreadPoolExecutor(label="login", max_threads=2)],
        dependency_resolver=DEEP_DEPENDENCY_RESOLVER,  # otherwise a future inside a list is no dependency
        retries=0,  # Parsl would adopt the failed attempt for ever
        strategy="none",
        exit_mode="skip",
        run_dir=str(run_dir),
        usage_tracking=0,
        initialize_logging=False,
    )
