"""Nodes are conserved and lent in order, whatever tasks, failures, quarantines and expiries come."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from model.outcome import Cause
from workflow.allocation.nodes import INFRASTRUCTURE, NodePool, Quarantine
from workflow.errors import StageError


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Pool(RuleBasedStateMachine):
    """Drive a pool at random beside a model that knows only who waits, who runs where, and in which order they asked."""

    tasks: Bundle[str] = Bundle("tasks")

    @initialize(
        size=st.integers(1, 8), spares=st.integers(0, 3), votes=st.integers(1, 3), floor=st.sampled_from([0.0, 0.5, 0.75])
    )
    def make(self, size: int, spares: int, votes: int, floor: float) -> None:
        self.clock = Clock()
        self.names = [f"n{i}" for i in range(size + spares)]
        self.floor = floor
        self.pool = NodePool(self.names, spares, Quarantine(votes, 100.0, floor), self.clock)
        self.size, self.number = size, 0
        self.waiting: list[tuple[str, int]] = []
        self.running: dict[str, tuple[str, ...]] = {}

    @rule(target=tasks, share=st.floats(0.01, 1.0))
    def ask(self, share: float) -> str:
        self.number += 1
        name, num_nodes = f"t{self.number}", max(1, round(share * self.size))
        self.pool.ask(name, num_nodes)
        self.waiting.append((name, num_nodes))
        return name

    @rule(more=st.integers(1, 3))
    def ask_too_much(self, more: int) -> None:
        with pytest.raises(StageError):
            self.pool.ask("large", self.size + more)

    @rule(most=st.integers(0, 4))
    def grant(self, most: int) -> None:
        for name, nodes in self.pool.grant(most):
            assert (name, len(nodes)) == self.waiting.pop(0), "first come, first served"
            assert not set(nodes) & {node for each in self.running.values() for node in each}, "a node is lent once"
            self.running[name] = nodes
        counts = self.pool.counts
        if most and self.waiting and self.waiting[0][1] <= counts.free:
            assert len(self.pool.grant(1)) == 1 and self._regrant(), "the head waits though its nodes are free"

    def _regrant(self) -> bool:
        name, _ = self.waiting.pop(0)
        self.running[name] = self.pool.nodes_of(name)
        return bool(self.running[name])

    @rule(task=consumes(tasks))
    def end(self, task: str) -> None:
        if task in self.running:
            self.pool.release(task)
            del self.running[task]
        self.pool.withdraw(task)
        self.waiting = [each for each in self.waiting if each[0] != task]

    @rule(task=tasks, cause=st.sampled_from(list(Cause)))
    def accuse(self, task: str, cause: Cause) -> None:
        before = self.pool.num_usable
        self.pool.accuse(self.running.get(task, ()), task, cause)
        if cause not in INFRASTRUCTURE:
            assert self.pool.num_usable == before

    @rule(task=tasks)
    def acquit(self, task: str) -> None:
        self.pool.acquit(self.running.get(task, ()))

    @rule(data=st.data())
    def condemn(self, data: st.DataObject) -> None:
        self.pool.condemn(data.draw(st.lists(st.sampled_from(self.names), max_size=2)))

    @rule(seconds=st.sampled_from([1.0, 60.0, 101.0]))
    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds

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
            counts = self.pool.counts
            possible = counts.allocated - counts.quarantined
            assert {name for name, num_nodes in self.waiting if num_nodes > possible} <= set(hopeless)


TestPool = Pool.TestCase
TestPool.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


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
