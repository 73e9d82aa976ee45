"""The agent of one job in simulated time: slots of nodes with pieces of work, what a node's death does, where node-hours go."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

from model.outcome import Cause, Status
from workflow.allocation.nodes import NodePool, Quarantine
from workflow.simulation.work import ROUNDING_S, StageWork

_MOST_CALLS = 10**9


@dataclass(frozen=True)
class Times:
    """When things happen in a job; simulated seconds.

    Attributes:
        began: Its start.
        start_up_s: From there to work.
        restart_s: From a node's death to a new try of the task that was on it.
        notice_s: From a node's death to the end of what was on it.
        stop_at: When tasks are asked to stop.
        limit_at: The end of its walltime.
    """

    began: float
    start_up_s: float
    restart_s: float
    notice_s: float
    stop_at: float
    limit_at: float


@dataclass(frozen=True)
class Rights:
    """What an attempt may do.

    Attributes:
        tries: How often a piece may be tried in one job.
        is_last: Whether no link comes after it.
        repeats: Whether it takes up the work of a job that a failure has ended: its start-up is that failure's cost.
    """

    tries: int
    is_last: bool
    repeats: bool


@dataclass
class Spent:
    """Node-seconds of a job by what they were good for.

    Attributes:
        useful: Work that stands.
        lost: To failures: work thrown away, dead nodes, nodes that wait for them, starting again.
        idle: Start-up, spares that stand by, slots without a piece.
    """

    useful: float = 0.0
    lost: float = 0.0
    idle: float = 0.0


@dataclass(frozen=True)
class Ended:
    """How a job has ended.

    Attributes:
        status: As in a receipt.
        cause: As in a receipt.
        message: One sentence.
        node: The node whose death ended the job, where one did.
    """

    status: Status
    cause: Cause | None = None
    message: str = ""
    node: str = ""


@dataclass
class _Slot:
    """Nodes that carry one piece after the other.

    Attributes:
        piece: What it works at; None: nothing, for it waits for nodes.
        since: When the piece is at work, after starting.
        has_nodes: Whether the pool has given it nodes.
    """

    piece: int | None = None
    since: float = math.inf
    has_nodes: bool = False


class SimulatedAgent:
    """Carries the work of a stage through one job; nodes are the real agent's `NodePool`.

    Args:
        nodes: The job's nodes.
        spares: How many of them stand by.
        work: The stage's work; what stands is kept there.
        times: See `Times`.
        rights: See `Rights`.
    """

    def __init__(self, nodes: Sequence[str], spares: int, work: StageWork, times: Times, rights: Rights) -> None:
        self.spent = Spent()
        self.failed_at: list[float] = []
        self._nodes, self._work, self._times, self._rights = tuple(nodes), work, times, rights
        self._pool = NodePool(self._nodes, spares, Quarantine(expiry_s=math.inf), clock=lambda: 0.0)
        self._unused = len(self._nodes) - spares - work.slots * work.pieces.nodes
        self._slots: dict[str, _Slot] = {}
        self._todo: list[int] = []
        self._failed: dict[int, int] = {}
        self._now, self._has_begun, self._dies_at, self._dead = times.began, False, math.inf, ""

    def due(self) -> float:
        """Return when something happens next, if no node fails."""
        if self._dies_at < math.inf:
            return self._dies_at
        if not self._has_begun:
            return min(self._times.began + self._times.start_up_s, self._times.stop_at)
        return min(self._times.stop_at, *(self._ends_at(slot) for slot in self._slots.values()), math.inf)

    def advance(self, now: float) -> Ended | None:
        """Let time pass, not beyond `due`; say whether the job is over."""
        self._account(now)
        if now >= self._dies_at:
            return Ended(Status.FAILED, Cause.NODE_FAILURE, f"node {self._dead} failed", self._dead)
        for name, slot in list(self._slots.items()):
            if slot.piece is not None and self._ends_at(slot) <= now + ROUNDING_S:
                self._keep(slot, self._work.left_s(slot.piece))
                self._take(name, now)
        if now >= self._times.stop_at:
            return self._stop()
        if not self._has_begun and now >= self._times.began + self._times.start_up_s:
            self._begin()
        return self._verdict()

    def fail(self, node: str) -> Ended | None:
        """Let a node die now: the first takes the job with it, another one the task that it has."""
        if self._dies_at < math.inf or node in self._pool.quarantined:
            return None
        if node == self._nodes[0]:
            self.die(node)
            return None
        self.failed_at.append(self._now)
        name = next((name for name in self._slots if node in self._pool.nodes_of(name)), None)
        self._pool.condemn([node])
        if name is not None:
            slot = self._slots[name]
            self._interrupt(slot)
            self._pool.release(name)
            slot.has_nodes = False
            self._pool.ask(name, self._work.pieces.nodes)
            self._grant(self._now + self._times.restart_s)
        return self._verdict()

    def die(self, node: str) -> None:
        """Let the job end by a node's death, as soon as that is noticed."""
        self._dead = node
        self.failed_at.append(self._now)
        for slot in self._slots.values():
            self._interrupt(slot)
        self._dies_at = min(self._now + self._times.notice_s, self._times.limit_at)

    def cut(self, now: float) -> None:
        """Stop looking; what is at work counts as it stands."""
        self._account(now)
        for slot in self._slots.values():
            if slot.piece is not None:
                self._keep(slot, self._worked_s(slot))

    def _begin(self) -> None:
        """Lay the slots out and start as many as there are nodes for."""
        self._has_begun = True
        self._todo = [piece for piece in range(self._work.pieces.count) if self._work.left_s(piece) > 0.0]
        for number in range(min(self._work.slots, len(self._todo))):
            self._slots[f"slot {number}"] = _Slot()
            self._pool.ask(f"slot {number}", self._work.pieces.nodes)
        self._grant(self._now)

    def _grant(self, since: float) -> None:
        for name in self._pool.unplaceable():
            self._pool.withdraw(name)
            del self._slots[name]
        for name, _ in self._pool.grant(_MOST_CALLS):
            self._slots[name].has_nodes = True
            self._take(name, since)

    def _take(self, name: str, since: float) -> None:
        """Give a slot the first piece that waits: one that was interrupted came before those that have not begun."""
        if self._todo:
            self._slots[name].piece, self._slots[name].since = heapq.heappop(self._todo), since
        else:
            self._pool.release(name)
            del self._slots[name]

    def _ends_at(self, slot: _Slot) -> float:
        return math.inf if slot.piece is None else slot.since + self._work.left_s(slot.piece)

    def _worked_s(self, slot: _Slot) -> float:
        return max(0.0, self._now - slot.since)

    def _keep(self, slot: _Slot, seconds: float) -> None:
        """Let so much of a slot's last work stand, and throw the rest away."""
        assert slot.piece is not None
        unkept = self._worked_s(slot) - seconds
        thrown = unkept * self._work.pieces.nodes if unkept > ROUNDING_S else 0.0
        self._work.kept[slot.piece] += seconds
        self.spent.useful -= thrown
        self.spent.lost += thrown

    def _interrupt(self, slot: _Slot) -> None:
        """End a slot's task by a node's death: what it has written stands."""
        if slot.piece is None:
            return
        self._keep(slot, self._work.written_s(self._worked_s(slot)))
        self._failed[slot.piece] = self._failed.get(slot.piece, 0) + 1
        if self._failed[slot.piece] < self._rights.tries:
            heapq.heappush(self._todo, slot.piece)
        slot.piece, slot.since = None, math.inf

    def _stop(self) -> Ended:
        """End in order: every task that can writes a checkpoint first."""
        for slot in self._slots.values():
            if slot.piece is not None:
                self._keep(slot, self._worked_s(slot) if self._work.pieces.keeps else 0.0)
                slot.piece = None
        if self._work.is_done:
            return Ended(Status.DONE)
        if self._rights.is_last and self._work.is_enough:
            return Ended(Status.DONE, message="the links ran out; what is done suffices")
        return Ended(Status.PARTIAL)

    def _verdict(self) -> Ended | None:
        """Say whether the job is over before its time: nothing is left to do, or nothing left can be done here."""
        if not self._has_begun or any(slot.piece is not None for slot in self._slots.values()):
            return None
        if self._work.is_done:
            return Ended(Status.DONE)
        return Ended(Status.FAILED, Cause.NODE_FAILURE, "too few nodes are left for what is left to do")

    def _account(self, now: float) -> None:
        """Book the node-seconds since the last look; work counts as useful until it is thrown away."""
        passed, before, self._now = now - self._now, self._now, now
        counts, each, spent = self._pool.counts, self._work.pieces.nodes, self.spent
        if self._dies_at < math.inf:
            spent.lost += len(self._nodes) * passed
            return
        spent.lost += counts.quarantined * passed
        if not self._has_begun:
            rest = (counts.free + counts.spare) * passed
            spent.lost, spent.idle = (spent.lost + rest, spent.idle) if self._rights.repeats else (spent.lost, spent.idle + rest)
            return
        for slot in self._slots.values():
            if slot.has_nodes:
                at_work = max(0.0, now - max(before, slot.since))
                spent.useful += at_work * each
                spent.lost += (passed - at_work) * each
        broken = max(0, counts.free - self._unused) if self._todo else 0
        spent.lost += broken * passed
        spent.idle += (counts.free - broken + counts.spare) * passed
