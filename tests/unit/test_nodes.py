"""Nodes are conserved and lent in order, whatever tasks, failures, quarantines and expiries come; nobody waits for ever."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from model.outcome import Cause
from workflow.allocation.nodes import INFRASTRUCTURE, NodePool, Quarantine
from workflow.errors import StageError


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


EXPIRY_S = 100.0


class Pool(RuleBasedStateMachine):
    """Drive a pool at random beside a model of what was done: who asked, who runs where, who was accused, probed, set aside.

    At its end all that runs ends, whatever the state: then every task that still waits must get its nodes.
    """

    @initialize(
        size=st.integers(1, 8),
        spares=st.integers(0, 3),
        votes=st.sampled_from([1, 2]),
        floor=st.sampled_from([0.75, 0.0]),
    )
    def make(self, size: int, spares: int, votes: int, floor: float) -> None:
        self.clock = Clock()
        self.names = [f"n{i}" for i in range(size + spares)]
        self.rules = Quarantine(votes, EXPIRY_S, floor)
        self.pool = NodePool(self.names, spares, self.rules, self.clock)
        self.accused: dict[str, dict[str, float]] = {name: {} for name in self.names}
        self.reasons: set[str] = set()
        self.excluded: set[str] = set()
        self.aside: dict[str, float] = {}
        self.size, self.number = size, 0
        self.waiting: list[tuple[str, int]] = []
        self.running: dict[str, tuple[str, ...]] = {}

    @rule(shares=st.lists(st.sampled_from([0.0, 0.2, 0.4, 1.0]), min_size=1, max_size=3))
    def ask(self, shares: list[float]) -> None:
        """Let tasks of mixed sizes ask; they get nodes at once where they can, as the executor does."""
        for share in shares:
            self.number += 1
            name, num_nodes = f"t{self.number}", max(1, round(share * self.size))
            self.pool.ask(name, num_nodes)
            self.waiting.append((name, num_nodes))
        self.grant(4)

    @precondition(lambda self: not self.number)
    @rule(more=st.integers(1, 3))
    def ask_too_much(self, more: int) -> None:
        with pytest.raises(StageError):
            self.pool.ask("large", self.size + more)

    @rule(most=st.sampled_from([4, 4, 1, 0]))
    def grant(self, most: int) -> None:
        for name, nodes in self.pool.grant(most):
            assert (name, len(nodes)) == self.waiting.pop(0), "first come, first served"
            assert not set(nodes) & {node for each in self.running.values() for node in each}, "a node is lent once"
            self.running[name] = nodes
        late = [node for node in self.pool.quarantined if self.clock.now - self.aside.get(node, self.clock.now) >= EXPIRY_S]
        assert set(late) <= self.excluded, "its time is over"
        counts = self.pool.counts
        if most and self.waiting and self.waiting[0][1] <= counts.free:
            assert len(self.pool.grant(1)) == 1 and self._regrant(), "the head waits though its nodes are free"

    def _regrant(self) -> bool:
        name, _ = self.waiting.pop(0)
        self.running[name] = self.pool.nodes_of(name)
        return bool(self.running[name])

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.waiting))
        self.pool.withdraw(entry[0])
        self.waiting.remove(entry)

    def _end(self, task: str) -> None:
        self.pool.release(task)
        del self.running[task]

    @precondition(lambda self: self.running)
    @rule(data=st.data(), cause=st.sampled_from(sorted(INFRASTRUCTURE)) | st.sampled_from(list(Cause)))
    def fail(self, data: st.DataObject, cause: Cause) -> None:
        for task in data.draw(st.lists(st.sampled_from(sorted(self.running)), unique=True, min_size=1)):
            self._fail(task, cause)
        self.grant(4)

    def _fail(self, task: str, cause: Cause) -> None:
        before, nodes = self._out(), self.running[task]
        self.pool.accuse(nodes, task, cause)
        if cause in INFRASTRUCTURE:
            for node in nodes:
                self.accused[node][task] = self.clock.now
        voted = self._out() - before
        for node in voted:
            recent = [when for when in self.accused[node].values() if self.clock.now - when < EXPIRY_S]
            assert len(recent) >= self.rules.votes and cause in INFRASTRUCTURE
        assert not voted or self._left() >= max(1.0, self.rules.floor * len(self.names)), "votes never go below the floor"
        self.reasons |= voted
        self._end(task)

    def _out(self) -> set[str]:
        """Return the nodes that are set aside, or will be as soon as their task ends."""
        return set(self.pool.quarantined) | self.pool._condemned

    def _left(self) -> int:
        return len(self.names) - len(self._out())

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def succeed(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from(sorted(self.running)))
        self.pool.acquit(self.running[task])
        for node in self.running[task]:
            self.accused[node] = {}
        self._end(task)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def condemn(self, data: st.DataObject) -> None:
        node = data.draw(st.sampled_from(self.names))
        self.reasons.update({node} - self._out())
        self.pool.condemn([node])

    @precondition(lambda self: not self.number)
    @rule(data=st.data())
    def exclude(self, data: st.DataObject) -> None:
        node = data.draw(st.sampled_from(self.names))  # as the agent does at the start, when no task has asked
        self.reasons.update({node} - self._out())
        self.pool.exclude([node])
        self.excluded.add(node)

    @rule(seconds=st.sampled_from([1.0, 60.0, EXPIRY_S]))
    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def a_node_is_set_aside_for_a_reason_and_for_its_time(self) -> None:
        if not hasattr(self, "pool"):
            return
        aside = set(self.pool.quarantined)
        for node in aside - self.aside.keys():
            self.reasons.remove(node)
            self.aside[node], self.accused[node] = self.clock.now, {}
        for node in self.aside.keys() - aside:
            assert node not in self.excluded, "it had no staged files, and never will"
            assert self.clock.now - self.aside.pop(node) >= EXPIRY_S, "before its time"

    @invariant()
    def a_spare_stands_aside_only_while_none_is_needed(self) -> None:
        if hasattr(self, "pool"):
            counts = self.pool.counts
            assert counts.spare == 0 or counts.free + counts.busy == self.size

    @invariant()
    def nodes_are_conserved(self) -> None:
        if hasattr(self, "pool"):
            counts = self.pool.counts
            assert counts.free + counts.busy + counts.quarantined + counts.spare == counts.allocated == len(self.names)
            assert counts.busy == sum(map(len, self.running.values()))
            assert counts.free + counts.busy <= self.size

    @invariant()
    def no_task_waits_for_what_cannot_come(self) -> None:
        if hasattr(self, "pool"):
            hopeless = self.pool.unplaceable()
            assert {name for name, num_nodes in self.waiting if num_nodes > self._left()} == set(hopeless)
            self.a_node_is_set_aside_for_a_reason_and_for_its_time()  # some may have come back as it was asked

    def teardown(self) -> None:
        """Let all that runs end, again and again, while small tasks keep coming: nobody who can be placed waits for ever."""
        if not hasattr(self, "pool"):
            return
        for number in range(len(self.waiting)):
            for task in self.pool.unplaceable():  # the executor tells these, see its own tests
                self.pool.withdraw(task)
                self.waiting = [each for each in self.waiting if each[0] != task]
            self.pool.ask(f"newcomer{number}", 1)
            for task in self.running:
                self.pool.release(task)
            self.running = dict(self.pool.grant(100))
            self.waiting = [each for each in self.waiting if each[0] not in self.running]
        assert self.waiting == []


TestPool = Pool.TestCase
TestPool.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)


def pool(**options: Any) -> tuple[NodePool, Clock]:
    clock = Clock()
    return NodePool([f"n{i}" for i in range(8)], clock=clock, **options), clock


def test_a_large_task_is_not_starved_by_small_ones() -> None:
    nodes, _ = pool()
    for i in range(7):
        nodes.ask(f"s{i}", 1)
    assert len(nodes.grant(100)) == 7
    nodes.ask("large", 8)
    nodes.ask("small", 1)
    assert nodes.grant(100) == []  # one node is free, and it is the large one's turn
    for i in range(7):
        nodes.release(f"s{i}")
    assert [name for name, _ in nodes.grant(100)] == ["large"]


def test_a_spare_steps_in_and_the_bad_node_comes_back_as_a_spare() -> None:
    nodes, clock = pool(spares=1)
    nodes.ask("a", 7)
    [(_, lent)] = nodes.grant(1)
    nodes.condemn(lent[:1])
    assert nodes.counts.quarantined == 0 and nodes.num_usable == 7  # busy until its processes are gone
    nodes.release("a")
    assert nodes.counts.as_dict() == {"free": 7, "busy": 0, "quarantined": 1, "spare": 0, "allocated": 8}
    clock.now += 3601.0
    nodes.grant(0)
    assert nodes.counts.as_dict() == {"free": 7, "busy": 0, "quarantined": 0, "spare": 1, "allocated": 8}


def test_a_vote_needs_different_tasks_without_a_success_between() -> None:
    nodes, _ = pool()
    nodes.accuse(["n0"], "a", Cause.STALLED)
    nodes.accuse(["n0"], "a", Cause.STALLED)
    assert nodes.counts.quarantined == 0
    nodes.acquit(["n0"])
    nodes.accuse(["n0"], "b", Cause.LAUNCHER)
    assert nodes.counts.quarantined == 0
    nodes.accuse(["n0"], "c", Cause.LAUNCHER)
    assert nodes.quarantined == ["n0"]


@pytest.mark.parametrize("cause", sorted(set(Cause) - INFRASTRUCTURE))
def test_the_fault_of_a_trial_accuses_no_node(cause: Cause) -> None:
    nodes, _ = pool()
    for task in "abcd":
        nodes.accuse(["n0", "n1"], task, cause)
    assert nodes.counts.quarantined == 0


def test_votes_never_take_more_than_the_floor_leaves_but_probes_do() -> None:
    nodes, _ = pool()
    for task in "abcd":
        nodes.accuse([f"n{i}" for i in range(8)], task, Cause.LAUNCHER)
    assert nodes.counts.quarantined == 2
    nodes.condemn([f"n{i}" for i in range(8)])
    assert nodes.counts.quarantined == 8 and nodes.num_usable == 0


def test_an_excluded_node_never_comes_back() -> None:
    nodes, clock = pool(spares=1)
    nodes.exclude(["n0"])
    clock.now += 1e9
    nodes.grant(0)
    assert nodes.quarantined == ["n0"] and nodes.num_usable == 7


def test_a_task_too_large_for_what_is_left_is_told() -> None:
    nodes, _ = pool()
    nodes.ask("all", 8)
    nodes.ask("some", 7)
    nodes.condemn(["n3"])
    assert nodes.unplaceable() == ["all"]


def test_what_comes_back_from_the_quarantine_is_counted_before_a_task_is_told_that_it_is_too_large() -> None:
    nodes, clock = pool()
    nodes.ask("all", 8)
    nodes.condemn(["n3"])
    clock.now += 1e9
    assert nodes.unplaceable() == []
    assert [task for task, _ in nodes.grant(1)] == ["all"]


def test_a_name_asks_once() -> None:
    nodes, _ = pool()
    nodes.ask("a", 1)
    with pytest.raises(StageError, match="twice"):
        nodes.ask("a", 1)


@pytest.mark.parametrize(("names", "spares"), [(["a", "a"], 0), (["a"], 1), ([], 0), (["a", "b"], -1)])
def test_an_allocation_without_usable_nodes_is_refused(names: list[str], spares: int) -> None:
    with pytest.raises(StageError, match="spares among"):
        NodePool(names, spares)


def test_threads_never_share_a_node() -> None:
    nodes, _ = pool()
    lent: list[str] = []
    clash: list[str] = []

    def work(number: int) -> None:
        for step in range(50):
            name = f"{number}.{step}"
            nodes.ask(name, 1 + number % 3)
            while not nodes.nodes_of(name):
                nodes.grant(100)
            mine = nodes.nodes_of(name)
            clash.extend(node for node in mine if node in lent)
            lent.extend(mine)
            for node in mine:
                lent.remove(node)
            nodes.release(name)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not clash and nodes.counts.free == 8


def test_nodes_given_back_go_to_the_back() -> None:
    pool = NodePool(["a", "b", "c"])
    for task in ("first", "second"):
        pool.ask(task, 1)
        assert pool.grant(1)[0][0] == task
        pool.release(task)
    pool.ask("third", 3)
    assert pool.grant(1) == [("third", ("c", "a", "b"))]
