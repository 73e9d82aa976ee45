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


def test_a_bad_node_among_a_thousand_takes_four_rounds() -> None:
    found, calls = _ask({"n700"})
    assert found == ["n700"] and calls == 1 + 32 + 32 + 1


def test_a_node_that_answers_when_asked_again_stays() -> None:
    asked: list[tuple[str, ...]] = []

    def answers(nodes: tuple[str, ...]) -> bool:
        asked.append(nodes)
        return len(asked) > 1

    assert silent_nodes(("n0",), answers) == [] and asked == [("n0",), ("n0",)]


def test_all_bad_ones_are_found() -> None:
    assert _ask({"n0", "n1", "n512", "n1023"})[0] == ["n0", "n1", "n512", "n1023"]
    assert silent_nodes((), lambda nodes: False) == []
