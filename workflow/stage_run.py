"""One stage instance as its driver carries it: its chain of attempts, or its decision on the login node, to its end."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from model.outcome import Cause, Status
from workflow import budget, chain
from workflow.attempts import inputs_of, prepared, request_of
from workflow.batch import fence
from workflow.batch.job import Job
from workflow.campaign import Campaign, Instance, stage_kind
from workflow.errors import StageError
from workflow.journal import Journal
from workflow.ledger import Ledger, StageEntry
from workflow.ownership import is_ours
from workflow.queues import queue_for
from workflow.receipt import Receipt, read_receipt, write_receipt
from workflow.rundir import RunDir
from workflow.stages.base import StageResult, hours_text

ENDED = ("done", "failed", "cancelled")


@dataclass(frozen=True)
class Desk:
    """What all stages of a driver share.

    Attributes:
        campaign: The campaign, with the keys that hold.
        journal: The lease.
        ledger: The fold of the journal, kept up to date by its listener.
        resume: Failed and cancelled stages are tried again.
        launch: Hand an attempt to the batch executor.
        unwant: Ask the batch executor for the end of an attempt.
        decide: Do a login stage in a thread: (key, work).
        passing: Called at points where a crash is interesting.
    """

    campaign: Campaign
    journal: Journal
    ledger: Ledger
    resume: bool
    launch: Callable[[Job], None]
    unwant: Callable[[str], None]
    decide: Callable[[str, Callable[[], StageResult]], None]
    passing: Callable[[str], None]

    @cached_property
    def rundir(self) -> RunDir:
        """The campaign's folder."""
        return RunDir(self.campaign.folder)


class StageRun:
    """Carries one stage instance; used by the driver's own thread only.

    Attributes:
        future: Gives the stage's receipt, or a `StageError`.
        has_begun: Everything it needs is done, and it was set going.
    """

    def __init__(self, desk: Desk, instance: Instance) -> None:
        self._desk, self._instance = desk, instance
        self.key = instance.key
        self.future: Future[Receipt] = Future()
        self.has_begun = False

    @property
    def entry(self) -> StageEntry:
        """What the journal says."""
        return self._desk.ledger.stage(self.key)

    @property
    def is_held(self) -> bool:
        """Whether it waits for a person's approval and for nothing else."""
        return self.has_begun and self.entry.state == "held" and not self.entry.open

    @property
    def _kind(self) -> Any:
        return stage_kind(self._instance.spec.kind)

    def begin(self) -> None:
        """Set the stage going; everything it needs is done."""
        self.has_begun = True
        if self.future.done():
            return
        if self.entry.state in ("failed", "cancelled") and self._desk.resume:
            if is_ours(wish := self._desk.rundir.stage_cancel(self.key)):
                wish.unlink()
            self._desk.journal.commit("resumed", stage=self.key)
        if self.entry.state in ENDED:
            self._tell()
        elif self._kind.on_login:
            self._decide()
        else:
            self.advance()

    def advance(self) -> None:
        """Do the next step of the chain."""
        if self.entry.state in ENDED:
            return
        step = chain.next_step(self.entry, self._instance.spec)
        if step.do == "launch":
            self._launch(step.link, step.attempt)
        elif step.do == "done":
            self._done(step.link, step.attempt)
        elif step.do == "wait":
            self.look_ahead()
        else:
            self._end(step.do, step.cause, step.message)

    def look_ahead(self) -> None:
        """Submit the next link behind those that are submitted, where queue and budget allow it."""
        ahead = chain.link_ahead(self.entry, self._instance.spec)
        if ahead is not None and self._may_chain() and self._fits():
            self._launch(ahead[0], chain.next_number(self.entry, ahead[0]), ahead[1])

    def look_again(self) -> None:
        """Go on if what was used or approved has changed meanwhile; do nothing otherwise."""
        if self.is_held:
            self.advance()
        elif self.has_begun:
            self.look_ahead()

    def cancel(self) -> None:
        """End the stage: bar what has not started, stop what runs."""
        if self.entry.state in ENDED:
            return
        if not self.entry.cancelled:
            self._desk.journal.commit("cancel_requested", stage=self.key)
        self._unwant_open()
        self.advance()

    def decided(self, result: StageResult) -> None:
        """Take the result of a login stage."""
        if result.status is not Status.DONE:
            self._end("failed", result.cause, result.message)
            return
        receipt = Receipt("", self.key, 1, 1, Status.DONE, None, result.message, result.evidence, result.outputs, result.result)
        write_receipt(self._desk.rundir.stage_receipt(self.key), receipt)
        self._end("done", message=receipt.message)

    def fail(self, error: Exception) -> None:
        """End the stage by a fault of its driver's part."""
        self._end("failed", Cause.BAD_CONFIG if isinstance(error, StageError) else Cause.BUG, str(error))

    def _decide(self) -> None:
        if is_ours(self._desk.rundir.stage_cancel(self.key)):
            self.cancel()
            return
        self._desk.rundir.stage(self.key).mkdir(parents=True, exist_ok=True, mode=0o700)
        campaign, spec, kind, key = self._desk.campaign, self._instance.spec, self._kind, self.key
        self._desk.decide(key, lambda: kind.decide(spec, key, inputs_of(campaign, key), campaign.folder))

    def _launch(self, link: int, number: int, after: tuple[str, ...] = ()) -> None:
        if not self._fits():
            self._hold()
            return
        for each in self.entry.at(link):  # the former attempts have lost the right to have effect, or left a receipt
            folder = self._desk.rundir.attempt(self.key, each.link, each.number)
            if not folder.receipt.exists():
                fence.take(folder)
        identity = self._desk.ledger.campaign_id
        links = chain.most_links(self.entry, self._instance.spec)
        plain = request_of(self._desk.campaign, self._instance, self.entry, link, number)
        request = replace(plain, campaign_id=identity, token=chain.token(identity, self.key, link, number), links=links)
        job, intent = prepared(self._desk.campaign, request, after)
        self._desk.passing("before intent")
        self._desk.journal.commit("intent", **intent)
        self._desk.passing("after intent")
        self._desk.launch(job)

    def _may_chain(self) -> bool:
        spec = self._instance.spec
        return queue_for(self._desk.campaign.site, spec.nodes or 1, spec.walltime_s, spec.queue).chains

    def _fits(self) -> bool:
        return budget.fits(self._desk.campaign.header.budget, self._desk.ledger, self.key, budget.link_cost(self._instance.spec))

    def _hold(self) -> None:
        """Let the stage wait for approval; what needs it waits too, everything else goes on."""
        if self.entry.state == "held":
            return
        ledger, cost = self._desk.ledger, budget.link_cost(self._instance.spec)
        total = budget.approved(self._desk.campaign.header.budget, ledger) or 0.0
        used = hours_text(ledger.node_hours)
        message = f"its next job may cost {hours_text(cost)} node-hours; {used} of {hours_text(total)} are used or reserved"
        self._desk.journal.commit("stage", stage=self.key, state="held", cause="approval", message=message)

    def _done(self, link: int, number: int) -> None:
        receipt = read_receipt(self._desk.rundir.attempt(self.key, link, number).receipt)
        if receipt is None:
            self.fail(
                StageError(
                    f"the receipt of link {link}, attempt {number} is gone", f"stages.{self.key}", "Restore it from a copy."
                )
            )
            return
        self._desk.passing("before stage receipt")
        write_receipt(self._desk.rundir.stage_receipt(self.key), receipt)
        self._desk.passing("after stage receipt")
        self._end("done", message=receipt.message)

    def _end(self, state: str, cause: Cause | None = None, message: str = "") -> None:
        self._desk.journal.commit("stage", stage=self.key, state=state, cause=cause.value if cause else None, message=message)
        self._desk.passing("after stage")
        self._unwant_open()
        self._tell()

    def _unwant_open(self) -> None:
        for each in self.entry.open:
            self._desk.unwant(each.token)

    def _tell(self) -> None:
        """Complete the future by what the journal says."""
        if self.future.done():
            return
        if self.entry.state == "done":
            self._tell_done()
            return
        what = self.entry.message or f"stage '{self.key}' has ended as {self.entry.state}"
        self.future.set_exception(
            StageError(what, f"stages.{self.key}", "`campaign logs` shows why; `campaign resume` tries it again.")
        )

    def _tell_done(self) -> None:
        receipt = self._receipt()
        if receipt is not None:
            self.future.set_result(receipt)
        elif self._kind.on_login:
            self._decide()  # seconds of work, and the same result
        else:
            path = self._desk.rundir.stage_receipt(self.key)
            self._end("failed", Cause.STORAGE, f"its receipt is gone or damaged: {path}; restore it from a copy")

    def _receipt(self) -> Receipt | None:
        """Return the receipt of a stage that is done; one that was lost or damaged is copied again from its attempt's."""
        path = self._desk.rundir.stage_receipt(self.key)
        done = [each for each in self.entry.attempts if each.status is Status.DONE]
        for place in (path, *(self._desk.rundir.attempt(self.key, each.link, each.number).receipt for each in done)):
            with contextlib.suppress(StageError):
                if (receipt := read_receipt(place)) is not None:
                    if place != path:
                        write_receipt(path, receipt)
                    return receipt
        return None
