"""Bad nodes are found with few calls."""

from __future__ import annotations

from workflow.allocation.health import silent_nodes

NODES = tuple(f"n{i}" for i in range(1024))


def _ask(bad: set[str]) -> tuple[list[str], int]:
    calls = 0

    def answers(nodes: tuple[str, ...]) -> bool:
        nonlocal calls
        calls += 1
        return not bad.intersection(nodes)

    return silent_nodes(NODES, answers), calls


def test_healthy_nodes_take_one_call() -> None:
    assert _ask(set()) == ([], 1)


def test_a_bad_node_among_a_thousand_takes_a_score_of_calls() -> None:
    found, calls = _ask({"n700"})
    assert found == ["n700"] and calls <= 21


def test_all_bad_ones_are_found() -> None:
    assert _ask({"n0", "n1", "n512", "n1023"})[0] == ["n0", "n1", "n512", "n1023"]
    assert silent_nodes((), lambda nodes: False) == []
