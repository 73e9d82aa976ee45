"""The story of a campaign: take the lease, lay the graph of stages out in Parsl, carry every stage to its end, settle."""

from __future__ import annotations

import contextlib
import queue
import secrets
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from parsl import join_app, python_app
from parsl.dataflow.dflow import DataFlowKernel

from workflow.approval import read_approval, waiting
from workflow.attempts import restored
from workflow.batch import scheduler
from workflow.batch.executor import BatchExecutor, kernel_config
from workflow.batch.job import Job
from workflow.batch.shared import shared
from workflow.campaign import Campaign, Instance
from workflow.errors import CampaignError, ConfigError, LeaseHeld, SiteError, StageError, is_of_storage
from workflow.journal import Journal
from workflow.launch import launches
from workflow.ledger import Ledger
from workflow.ownership import close, is_ours, private
from workflow.resolved import reconciled, write_resolved
from workflow.rundir import RunDir
from workflow.signals import hearing
from workflow.stage_run import ENDED, Desk, StageRun
from workflow.stages.base import StageResult

DONE, FAILED, HELD, UNFINISHED = 0, 1, 3, 4
_LOOK_S = 0.25
_OF_COST = ("settled", "accounted", "found_beside", "approved")  # after these, what is held may fit

Tell = Callable[[dict[str, Any]], None]


def run_campaign(campaign: Campaign, *, once: bool = False, resume: bool = False, on_event: Tell | None = None) -> int:
    """Carry a campaign on from wherever it stands; return 0 done, 1 failed, 3 held, 4 unfinished.

    Args:
        campaign: The campaign, as its file says it now.
        once: Do one pass: adopt, submit what is ready, take in what has ended.
        resume: Try failed and cancelled stages again.
        on_event: Called with every line of the journal as it is written, and with `notice` events that are not kept;
            from any thread, and not for long.

    Raises:
        LeaseHeld: Another driver runs the campaign, or has taken it over.
        JournalError: Its record is damaged.
    """
    return Driver(campaign, on_event=on_event).run(once=once, resume=resume)


class Driver:
    """One driver of a campaign; what it knows it has from the journal, and anything it does can be done again.

    Args:
        campaign: The campaign.
        on_event: See `run_campaign`.
        passing: Called with the name of each point at which a crash is interesting; fault tests give one that kills.
    """

    def __init__(self, campaign: Campaign, *, on_event: Tell | None = None, passing: Callable[[str], None] | None = None) -> None:
        self._campaign = campaign
        self._rundir = RunDir(campaign.folder)
        self._tell: Tell = on_event or (lambda _: None)
        self._passing = passing or (lambda _: None)
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()  # its `put` may run in a signal handler
        self._interrupted = self._has_news = False
        self._passed_over: set[str] = set()
        self._runs: dict[str, StageRun] = {}
        self._stages: dict[str, Future[Any]] = {}

    def run(self, *, once: bool = False, resume: bool = False) -> int:
        """Tell the whole story; see `run_campaign`."""
        with private(), self._lease() as journal, self._kernel(journal) as kernel:
            self._open(journal, kernel, resume)
            self._adopt(list(self._ledger.stages))
            self._lay_out(kernel)
            while not (self._interrupted or self._is_over() or (once and self._is_quiet())):
                self._step()
            return self._code()

    def wind_down(self, keys: list[str]) -> None:
        """Cancel some stages, and go on until they have ended."""
        with private(), self._lease() as journal, self._kernel(journal) as kernel:
            self._open(journal, kernel, resume=False)
            self._adopt(keys)
            entries = [self._ledger.stage(key) for key in keys]
            while not self._interrupted and (self._batch.lingers or any(e.open or e.state not in ENDED for e in entries)):
                self._step()

    @contextmanager
    def _lease(self) -> Iterator[Journal]:
        close(self._rundir)
        journal = Journal.take(self._rundir, self._campaign.site.periods)
        self._passing("lease")
        with hearing(lambda: self._events.put(self._interrupt)):
            try:
                yield journal
            except LeaseHeld:
                journal.drop()
                raise
            except BaseException:
                with contextlib.suppress(LeaseHeld, OSError):
                    journal.close()
                raise
            journal.close()

    @contextmanager
    def _kernel(self, journal: Journal) -> Iterator[DataFlowKernel]:
        """Give Parsl with our batch executor; leaving it ends threads and never a job."""
        site = self._campaign.site
        self._batch = BatchExecutor("batch", shared(scheduler.for_site(site)), journal, self._on_batch, self._passing)
        kernel = DataFlowKernel(kernel_config(self._batch, self._rundir.parsl))
        try:
            yield kernel
        finally:
            kernel.cleanup()

    def _open(self, journal: Journal, kernel: DataFlowKernel, resume: bool) -> None:
        """Learn from the journal where the campaign stands, and write its first line where there is none."""
        self._journal, self._ledger = journal, Ledger(journal.events)
        journal.listener = self._on_commit
        if not self._ledger.campaign_id:
            journal.commit("created", **write_resolved(self._rundir, self._campaign, secrets.token_hex(16)))
        self._campaign, differences = reconciled(self._rundir, self._campaign, self._ledger)
        for line in differences:
            self._notice(line)
        self._attempt_app = python_app(launches(_attempt), data_flow_kernel=kernel, executors=["batch"])
        self._login_app = python_app(_login, data_flow_kernel=kernel, executors=["login"])
        desk = Desk(self._campaign, journal, self._ledger, resume, self._launch, self._batch.unwant, self._decide, self._passing)
        self._runs = {each.key: StageRun(desk, each) for each in self._campaign.instances()}

    def _adopt(self, keys: list[str]) -> None:
        """Hand all attempts of earlier drivers to the executor: open ones to be carried on, ended ones to be guarded."""
        for entry in [each for key in keys for each in self._ledger.stage(key).attempts]:
            job = restored(self._rundir, entry)
            if not entry.is_open:
                self._batch.guard(job, lingers=entry.used is None)
                continue
            self._launch(job)
            if self._ledger.stage(entry.stage).state in ENDED:
                self._batch.unwant(entry.token)

    def _lay_out(self, kernel: DataFlowKernel) -> None:
        """Give Parsl the graph: a stage is an app that waits for the stages it needs."""
        app = join_app(self._stage, data_flow_kernel=kernel)
        for each in self._campaign.instances():
            self._stages[each.key] = app(each.key, [self._stages[need] for need in each.needs])

    def _stage(self, key: str, needs: list[Any]) -> Future[Any]:  # noqa: ARG002 Parsl waits for them
        """Set a stage going, once Parsl has the receipts of all that it needs."""
        self._events.put(lambda: self._guarded(key, StageRun.begin))
        return self._runs[key].future

    def _launch(self, job: Job) -> None:
        future = self._attempt_app(job)
        future.add_done_callback(lambda done: self._events.put(partial(self._attempt_ended, job.stage, done)))

    def _decide(self, key: str, work: Callable[[], StageResult]) -> None:
        future = self._login_app(work)
        future.add_done_callback(lambda done: self._events.put(partial(self._login_ended, key, done)))

    def _attempt_ended(self, key: str, future: Future[Any]) -> None:
        future.result()  # an exception here is a fault of ours, not of the job
        if key in self._runs:
            self._guarded(key, StageRun.advance)

    def _login_ended(self, key: str, future: Future[Any]) -> None:
        error = future.exception()
        if error is None:
            self._runs[key].decided(future.result())
        elif isinstance(error, CampaignError):
            self._runs[key].fail(StageError(error.what, error.where, error.remedy))
        elif is_of_storage(error):
            raise error  # this driver leaves, and the next one decides it
        else:
            with open(self._rundir.traceback, "a") as file:
                traceback.print_exception(error, file=file)
            self._runs[key].fail(RuntimeError(f"{error!r}; see {self._rundir.traceback}"))

    def _guarded(self, key: str, act: Callable[[StageRun], None]) -> None:
        try:
            act(self._runs[key])
        except (StageError, SiteError, ConfigError) as error:
            self._runs[key].fail(StageError(error.what, error.where, error.remedy))

    def _on_commit(self, line: dict[str, Any]) -> None:
        self._ledger.apply(line)
        self._has_news = self._has_news or line["event"] in _OF_COST
        self._tell(line)

    def _on_batch(self, token: str, error: Exception | None) -> None:
        if error is not None:
            self._events.put(partial(_raise, error))
        elif token in self._ledger.by_token and (key := self._ledger.by_token[token].stage) in self._runs:
            self._events.put(lambda: self._guarded(key, StageRun.look_again))

    def _step(self) -> None:
        with contextlib.suppress(queue.Empty):
            self._events.get(timeout=_LOOK_S)()
        self._look_for_files()
        if self._has_news:
            self._has_news = False
            for key in self._runs:
                self._guarded(key, StageRun.look_again)

    def _look_for_files(self) -> None:
        """Take in what people have asked for since the last look."""
        for path in waiting(self._rundir, self._ledger.approvals | self._passed_over):
            self._take_in(path)
        for key in self._runs:
            if self._ledger.stage(key).state not in ENDED and self._is_wanted(self._rundir.stage_cancel(key)):
                self._guarded(key, StageRun.cancel)

    def _is_wanted(self, wish: Path) -> bool:
        """Say whether we ask for the end of a stage; what is none of ours is told of, and left."""
        if is_ours(wish):
            return True
        if wish.exists():
            self._pass_over(str(wish), f"{wish}: no file of yours, so it cancels nothing; take it away")
        return False

    def _pass_over(self, name: str, why: str) -> None:
        if name not in self._passed_over:
            self._passed_over.add(name)
            self._notice(why)

    def _take_in(self, path: Path) -> None:
        try:
            approval = read_approval(path)
        except ConfigError as error:
            self._pass_over(path.stem, str(error))
            return
        self._passing("before approval")
        self._journal.commit("approved", **asdict(approval))
        self._passing("after approval")

    def _is_over(self) -> bool:
        """Say whether nothing can go on by itself: every stage has ended, is held, or waits for one that is held."""
        waits: set[str] = set()
        for each in self._campaign.instances():
            if self._runs[each.key].is_held or not waits.isdisjoint(each.needs):
                waits.add(each.key)
            elif not self._stages[each.key].done():
                return False
        return not (self._open_attempts() or self._batch.lingers or self._has_news) and self._events.empty()

    def _open_attempts(self) -> list[str]:
        return [each.token for each in self._ledger.by_token.values() if each.is_open]

    def _is_quiet(self) -> bool:
        """Say whether one pass has come to rest: every stage that can go on has, every attempt was looked at."""
        rests = all(self._rests(each) for each in self._campaign.instances())
        return rests and self._batch.is_at_rest(self._open_attempts()) and self._events.empty() and not self._has_news

    def _rests(self, instance: Instance) -> bool:
        if self._stages[instance.key].done() or any(not self._stages[need].done() for need in instance.needs):
            return True
        run = self._runs[instance.key]
        return run.is_held or (run.has_begun and bool(run.entry.open))

    def _code(self) -> int:
        if not self._is_over():
            self._notice(f"queued and running jobs go on; come back with: campaign run {self._campaign.path}")
            return UNFINISHED
        states = [self._ledger.stage(key).state for key in self._stages]
        if all(state == "done" for state in states):
            return DONE
        return FAILED if any(state in ("failed", "cancelled") for state in states) else HELD

    def _notice(self, message: str) -> None:
        self._tell({"event": "notice", "message": message})

    def _interrupt(self) -> None:
        self._interrupted = True


def _attempt(job: Job) -> Job:
    return job


def _login(work: Callable[[], StageResult]) -> StageResult:
    return work()


def _raise(error: Exception) -> None:
    raise error
