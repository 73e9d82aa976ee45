"""Who has which node of an allocation: free + busy + quarantined + spare = allocated, always."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

from model.outcome import Cause
from workflow.errors import StageError

INFRASTRUCTURE = frozenset({Cause.NODE_FAILURE, Cause.STALLED, Cause.LAUNCHER})
"""Causes that may lie with a node. Faults of a trial, of storage or of the walltime accuse none (facts: a task
with bad data would otherwise take every node with it)."""


@dataclass(frozen=True)
class Quarantine:
    """When a node is set aside, and for how long.

    Attributes:
        votes: Different tasks that must have failed on a node with no success between; a failed probe is proof.
        expiry_s: Seconds after which a node, and an old vote, gets another chance.
        floor: Share of the allocated nodes that is never set aside on votes alone: when more than the rest fail,
            the nodes are not to blame.
    """

    votes: int = 2
    expiry_s: float = 3600.0
    floor: float = 0.75


@dataclass(frozen=True)
class Counts:
    """How many nodes are in each state; the first four add up to the last."""

    free: int
    busy: int
    quarantined: int
    spare: int
    allocated: int

    def as_dict(self) -> dict[str, int]:
        """Return the counts by name."""
        return asdict(self)


class NodePool:
    """The nodes of an allocation, lent to tasks in the order of their asking.

    First come, first served, without overtaking: a task of many nodes waits at the head until they are free and
    can never be starved by smaller ones behind it. Safe to call from any thread.

    Args:
        nodes: Names of all allocated nodes.
        spares: How many of them to keep aside; a spare steps in for a node that is set aside.
        rules: When nodes are set aside.
        clock: Monotonic seconds.
    """

    def __init__(
        self, nodes: Sequence[str], spares: int = 0, rules: Quarantine = Quarantine(), clock: Callable[[], float] = time.monotonic
    ) -> None:
        if len(set(nodes)) != len(nodes) or not 0 <= spares < len(nodes):
            found = f"{spares} spares among {len(nodes)} nodes, {len(set(nodes))} of them different"
            raise StageError(found, "allocation", "Ask for more nodes, or fewer spares.")
        self._allocated, self._rules, self._clock = frozenset(nodes), rules, clock
        self._target = len(nodes) - spares
        self._free: deque[str] = deque(nodes[: self._target])
        self._spare: deque[str] = deque(nodes[self._target :])
        self._busy: dict[str, tuple[str, ...]] = {}
        self._quarantined: dict[str, float] = {}
        self._condemned: set[str] = set()
        self._votes: dict[str, dict[str, float]] = {}
        self._waiting: deque[tuple[str, int]] = deque()
        self._lock = threading.Lock()
        self._check()

    @property
    def num_usable(self) -> int:
        """Return how many nodes tasks may have at once: spares are left out, and nodes that no spare replaces."""
        with self._lock:
            return min(self._target, len(self._allocated) - len(self._quarantined) - len(self._condemned))

    @property
    def quarantined(self) -> list[str]:
        """Return the names of the nodes that are set aside."""
        with self._lock:
            return sorted(self._quarantined)

    @property
    def counts(self) -> Counts:
        """Return how many nodes are in each state."""
        with self._lock:
            return self._counted()

    def nodes_of(self, task: str) -> tuple[str, ...]:
        """Return the nodes that a task has now."""
        with self._lock:
            return self._busy.get(task, ())

    def ask(self, task: str, num_nodes: int) -> None:
        """Put a task at the end of the queue.

        Raises:
            StageError: The allocation can never give so many nodes, or the task has asked already.
        """
        with self._lock:
            if not 1 <= num_nodes <= self._target:
                found = f"task '{task}' asks for {num_nodes} nodes of {self._target}"
                raise StageError(found, "allocation", "Ask for fewer, or enlarge the stage.")
            if task in self._busy or any(task == name for name, _ in self._waiting):
                raise StageError(f"task '{task}' asks twice", "allocation", "Give each task a name of its own.")
            self._waiting.append((task, num_nodes))

    def withdraw(self, task: str) -> None:
        """Take a waiting task out of the queue; one that is not there is no fault."""
        with self._lock:
            self._waiting = deque(entry for entry in self._waiting if entry[0] != task)

    def grant(self, most: int) -> list[tuple[str, tuple[str, ...]]]:
        """Give the tasks at the head of the queue their nodes, at most `most` tasks, as far as free nodes go."""
        with self._lock:
            self._expire()
            granted: list[tuple[str, tuple[str, ...]]] = []
            while len(granted) < most and self._waiting and self._waiting[0][1] <= len(self._free):
                task, num_nodes = self._waiting.popleft()
                self._busy[task] = tuple(self._free.popleft() for _ in range(num_nodes))
                granted.append((task, self._busy[task]))
            self._check()
            return granted

    def unplaceable(self) -> list[str]:
        """Return waiting tasks that ask for more nodes than are left outside the quarantine."""
        with self._lock:
            self._expire()
            left = len(self._allocated) - len(self._quarantined) - len(self._condemned)
            return [task for task, num_nodes in self._waiting if num_nodes > left]

    def release(self, task: str) -> None:
        """Take back the nodes of a task whose processes are gone; condemned ones go to the quarantine."""
        with self._lock:
            for node in self._busy.pop(task):
                # To the back, so that the next task gets another mixture: a bad node among good ones then stands out.
                self._free.append(node)
            self._enforce()

    def accuse(self, nodes: Iterable[str], task: str, cause: Cause) -> None:
        """Record that a task failed on these nodes; enough different tasks set a node aside."""
        if cause not in INFRASTRUCTURE:
            return
        with self._lock:
            now = self._clock()
            for node in nodes:
                votes = {who: when for who, when in self._votes.get(node, {}).items() if now - when < self._rules.expiry_s}
                self._votes[node] = {**votes, task: now}
                if len(self._votes[node]) >= self._rules.votes and self._above_floor():
                    self._condemned.add(node)
            self._enforce()

    def acquit(self, nodes: Iterable[str]) -> None:
        """Record that a task succeeded on these nodes."""
        with self._lock:
            for node in nodes:
                self._votes.pop(node, None)

    def condemn(self, nodes: Iterable[str]) -> None:
        """Set nodes aside that failed a probe, however few are left; busy ones as soon as they are released."""
        with self._lock:
            self._condemned.update(self._allocated.intersection(nodes) - self._quarantined.keys())
            self._enforce()

    def exclude(self, nodes: Iterable[str]) -> None:
        """Set free nodes aside for good, such as those that did not answer at the start and so have no staged files."""
        self.condemn(nodes)
        with self._lock:
            self._quarantined.update((node, float("inf")) for node in nodes if node in self._quarantined)

    def _above_floor(self) -> bool:
        left = len(self._allocated) - len(self._quarantined) - len(self._condemned)
        return left - 1 >= max(1.0, self._rules.floor * len(self._allocated))

    def _enforce(self) -> None:
        for node in list(self._condemned):
            for shelf in (self._free, self._spare):
                if node in shelf:
                    shelf.remove(node)
                    self._condemned.remove(node)
                    self._votes.pop(node, None)
                    self._quarantined[node] = self._clock() + self._rules.expiry_s
        self._refill()

    def _expire(self) -> None:
        for node in [name for name, until in self._quarantined.items() if self._clock() >= until]:
            del self._quarantined[node]
            self._spare.append(node)
        self._refill()

    def _refill(self) -> None:
        while self._spare and len(self._free) + sum(map(len, self._busy.values())) < self._target:
            self._free.append(self._spare.popleft())
        self._check()

    def _counted(self) -> Counts:
        busy = sum(map(len, self._busy.values()))
        return Counts(len(self._free), busy, len(self._quarantined), len(self._spare), len(self._allocated))

    def _check(self) -> None:
        everyone = [*self._free, *self._spare, *self._quarantined, *(node for nodes in self._busy.values() for node in nodes)]
        if len(everyone) != len(self._allocated) or set(everyone) != self._allocated:
            found = f"nodes are not conserved: {self._counted()}"
            raise StageError(found, "allocation", "This is a defect of campaign; please report it.")
