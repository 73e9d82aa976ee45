"""One planted bug for each promise, and some more: the seeds must find every one, or they are worth nothing."""

from __future__ import annotations

import contextlib
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import seeds.agents
import workflow.driver
import workflow.stage_run
from model.outcome import Cause, Status
from model.silence import Silence
from seeds.agents import Run
from workflow import attempts, chain
from workflow.allocation.nodes import NodePool
from workflow.batch import fence, protocol
from workflow.batch.attempt import Action, Attempt, Kind, Observation, Phase
from workflow.batch.executor import BatchExecutor
from workflow.batch.protocol import Sight
from workflow.batch.scheduler import JobRow, Snapshot
from workflow.chained import ChainedFile
from workflow.journal import Journal
from workflow.ledger import AttemptEntry, StageEntry
from workflow.receipt import Receipt, write_receipt

Plant = Callable[[], AbstractContextManager[Any]]


def _always(value: Any) -> Callable[..., Any]:
    return lambda *_, **__: value


@contextlib.contextmanager
def _no_fence() -> Iterator[None]:
    def unfenced(self: Run) -> None:
        if not self.is_over:
            self.folder.run.mkdir(exist_ok=True)
            self.agent()

    with (
        mock.patch.object(Run, "script", unfenced),
        mock.patch.object(seeds.agents, "require_fence", _always(None)),
    ):
        yield


@contextlib.contextmanager
def _nothing_revoked() -> Iterator[None]:
    with (
        mock.patch.object(fence, "take", _always(False)),
        mock.patch.object(fence, "revoke_earlier", _always([])),
    ):
        yield


def _no_search() -> AbstractContextManager[Any]:
    decide = protocol.decide

    def hasty(attempt: Attempt, seen: Observation, now: float) -> Action:
        if attempt.phase in (Phase.INTENT, Phase.UNKNOWN) and not attempt.cancel and not seen.fenced:
            return Action("new; not found", Kind.SUBMIT, attempt)
        return decide(attempt, seen, now)

    return mock.patch.object(protocol, "decide", hasty)


def _ids_alone() -> AbstractContextManager[Any]:
    """A driver that knows a job that it has seen once by its id."""
    of, known = Snapshot.of, defaultdict[tuple[str, Path], set[str]](set)

    def by_id(self: Snapshot, token: str, workdir: Path) -> tuple[JobRow, ...]:
        known[token, workdir] |= {row.job_id for row in of(self, token, workdir)}
        return tuple(row for row in self.rows if row.job_id in known[token, workdir])

    return mock.patch.object(Snapshot, "of", by_id)


def _one_absence() -> AbstractContextManager[Any]:
    return mock.patch.object(Sight, "is_absent", property(lambda self: self.seen.answered and not self.rows))


@contextlib.contextmanager
def _requeue_allowed() -> Iterator[None]:
    """The script takes a run folder that its own job made before for its own."""
    script = Run.script

    def again(self: Run) -> None:
        if self._job.runs > 1 and self.folder.run.is_dir() and not self.is_over:
            self.agent()
        else:
            script(self)

    with mock.patch.object(Run, "script", again), mock.patch.object(seeds.agents, "require_fence", _always(None)):
        yield


def _receipt_first() -> AbstractContextManager[Any]:
    show = Run._show

    def early(self: Run, receipt: Receipt) -> None:
        if receipt.status is Status.DONE and not receipt.outputs:
            product = self.folder.run / "product.txt"
            product.write_text(f"{receipt.stage} {receipt.token}\n")
            listed = seeds.agents.vouch(self._world.campaign.folder, "product", product)
            product.unlink()
            receipt = replace(receipt, outputs=tuple(listed))
            write_receipt(self.folder.receipt, receipt)
        show(self, receipt)

    return mock.patch.object(Run, "_show", early)


def _silence_is_an_answer() -> AbstractContextManager[Any]:
    ask = BatchExecutor._ask
    return mock.patch.object(BatchExecutor, "_ask", lambda self: ask(self) or Snapshot(()))


def _memory_of_its_own() -> AbstractContextManager[Any]:
    """A driver that counts attempts itself, instead of by the record."""
    launch, numbers = workflow.stage_run.StageRun._launch, itertools.count(1)
    return mock.patch.object(
        workflow.stage_run.StageRun, "_launch", lambda self, link, _, after=(): launch(self, link, next(numbers), after)
    )


def _leaking_pool() -> AbstractContextManager[Any]:
    return mock.patch.object(NodePool, "release", lambda self, task: self._busy.pop(task))


def _cheap_unknowns() -> AbstractContextManager[Any]:
    known = AttemptEntry.node_hours.fget
    return mock.patch.object(AttemptEntry, "node_hours", property(lambda self: known(self) if self.job_id else 0.0))


def _no_cause() -> AbstractContextManager[Any]:
    return mock.patch.object(protocol, "judge", _always((None, "it ended")))


def _links_one_by_one() -> AbstractContextManager[Any]:
    return mock.patch.object(chain, "link_ahead", _always(None))


def _idle_agent() -> AbstractContextManager[Any]:
    leave = Run.leave

    def idle(self: Run, status: Status, cause: Any, outputs: Any = ()) -> None:
        when = self._world.now + (900.0 if outputs else 0.0)
        self._world.at(when, lambda: None if self.is_over else leave(self, status, cause, outputs))

    return mock.patch.object(Run, "leave", idle)


@contextlib.contextmanager
def _careless_append() -> Iterator[None]:
    append = ChainedFile.append

    def behind(self: ChainedFile, event: str, /, **fact: Any) -> dict[str, Any]:
        self._fault = None
        return append(self, event, **fact)

    with mock.patch.object(ChainedFile, "append", behind), mock.patch.object(ChainedFile, "is_broken", property(_always(False))):
        yield


def _without_rows(*names: str) -> AbstractContextManager[Any]:
    return mock.patch.object(protocol, "TABLE", tuple(row for row in protocol.TABLE if row.name not in names))


def _partial_is_done() -> AbstractContextManager[Any]:
    """A stage whose link has stopped in order counts as done, with what stands there."""
    next_step = chain.next_step

    def hasty(stage: StageEntry, spec: Any) -> chain.Step:
        ended = [each for each in stage.attempts if each.status is Status.PARTIAL]
        return chain.Step("done", ended[0].link, ended[0].number) if ended else next_step(stage, spec)

    return mock.patch.object(chain, "next_step", hasty)


def _judged(cause: Cause) -> Plant:
    return lambda: mock.patch.object(protocol, "judge", _always((cause, "so it is said")))


def _gaps_count() -> AbstractContextManager[Any]:
    look = Silence.look

    def hasty(self: Silence, count: object, now: float, *periods: float) -> Silence:
        seen = look(self, count, now, *periods)
        stands = self.looked_at is not None and seen.count == self.count
        return replace(seen, stood_s=self.stood_s + now - (self.looked_at or 0.0), looks=self.looks + 2) if stands else seen

    return mock.patch.object(Silence, "look", hasty)


def _forgetful_driver() -> AbstractContextManager[Any]:
    """One that takes an attempt without an id, which an earlier driver wrote down, for one never submitted."""
    restored = attempts.restored
    return mock.patch.object(
        workflow.driver,
        "restored",
        lambda rundir, entry: replace(restored(rundir, entry), **({} if entry.job_id else {"phase": Phase.INTENT})),
    )


BUGS: dict[str, tuple[str, Plant]] = {
    "the batch script takes no fence": ("R1", _no_fence),
    "nothing is ever revoked": ("R1", _nothing_revoked),
    "a job that the site starts again goes on": ("R1", _requeue_allowed),
    "the lease is not looked at": ("R1", lambda: mock.patch.object(Journal, "check", _always(None))),
    "a job that is found is not adopted": (
        "R2",
        lambda: mock.patch.object(Sight, "chosen", property(lambda self: self.attempt.job_id)),
    ),
    "a job is known by its id alone": ("R10", _ids_alone),
    "cancels are not carried out": ("R2", lambda: mock.patch.object(BatchExecutor, "_cancel", _always(None))),
    "what has ended is not guarded": ("R2", lambda: mock.patch.object(BatchExecutor, "guard", _always(None))),
    "nobody looks for twins": ("R2", lambda: mock.patch.object(Sight, "twins", property(_always([])))),
    "lines are appended behind one that failed": ("R3", _careless_append),
    "nobody searches before submitting": ("R3", _no_search),
    "one absence is enough": ("R3", _one_absence),
    "an earlier driver's unknown submission counts as none": ("R3", _forgetful_driver),
    "earlier work is not inherited": ("R3", lambda: mock.patch.object(attempts, "_previous", _always(()))),
    "an agent with nothing to do stays": ("R4", _idle_agent),
    "a job that hangs behind its receipt is left alone": (
        "R4",
        lambda: _without_rows("receipt; its job lingers", "settled; its job lingers"),
    ),
    "a receipt stands before its outputs": ("R5", _receipt_first),
    "a stage counts as done when a link has stopped": ("R5", _partial_is_done),
    "silence counts as an answer": ("R6", _silence_is_an_answer),
    "a driver counts attempts by itself": ("R7", _memory_of_its_own),
    "the pool does not take nodes back": ("R8", _leaking_pool),
    "unknown submissions cost nothing": ("R9", _cheap_unknowns),
    "an end has no cause": ("R10", _no_cause),
    "every end is a defect": ("R10", _judged(Cause.BUG)),
    "every end is for want of memory": ("R10", _judged(Cause.OOM)),
    "time in which nobody looked counts as silence": ("R10", _gaps_count),
    "a receipt settles before its job has ended": ("R10", lambda: mock.patch.object(Sight, "is_gone", property(_always(True)))),
    "links are submitted one by one": ("R11", _links_one_by_one),
}
"""What is planted, and the promise that it breaks."""
STORMS: dict[str, tuple[str, ...]] = {
    "nothing is ever revoked": ("node failure, agent lives on", "driver killed"),
    "what has ended is not guarded": ("driver killed", "appears very late"),
    "silence counts as an answer": ("outage of a day",),
    "a job is known by its id alone": ("id reused", "person cancels"),
    "time in which nobody looked counts as silence": ("everything hangs",),
}
"""Faults by which a bug is found in few histories that would else need many."""
