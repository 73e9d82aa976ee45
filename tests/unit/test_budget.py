"""What is used, reserved and approved, as a pure function of the journal."""

from __future__ import annotations

from typing import Any

import pytest

from workflow.budget import approved, fits, link_cost, rest_of_chain, room
from workflow.campaign import Budget
from workflow.ledger import Ledger
from workflow.stages.base import StageSpec

SPEC = StageSpec(kind="train", nodes=2, links=3, walltime="01:00", attempts=2)
BUDGET = Budget(node_hours=10)


def ledger(*events: dict[str, Any]) -> Ledger:
    return Ledger(events)


def intent(token: str, stage: str = "a", link: int = 1, cost: float = 2.0) -> dict[str, Any]:
    return {"event": "intent", "token": token, "stage": stage, "link": link, "attempt": 1, "node_hours": cost}


def submitted(token: str, job_id: str) -> dict[str, Any]:
    return {"event": "submitted", "token": token, "job_id": job_id}


def settled(token: str, used: float, status: str = "done") -> dict[str, Any]:
    return {"event": "settled", "token": token, "status": status, "cause": None, "message": "", "node_hours": used}


def beside(token: str, job_id: str, used: float | None) -> dict[str, Any]:
    return {"event": "found_beside", "token": token, "job_id": job_id, "node_hours": used}


def approval(number: str, stage: str | None, node_hours: float) -> dict[str, Any]:
    return {"event": "approved", "id": number, "stage": stage, "node_hours": node_hours}


def test_an_attempt_counts_in_full_from_its_intent_and_what_it_used_from_its_end() -> None:
    lines = [intent("x"), submitted("x", "7")]
    assert [ledger(*lines[:n]).node_hours for n in (0, 1, 2)] == [0, 2, 2]
    unknown = {"event": "submit_unknown", "token": "x", "message": "no answer"}
    assert ledger(lines[0], unknown).node_hours == 2
    assert ledger(*lines, settled("x", 0.25)).node_hours == 0.25


def test_each_job_of_a_token_counts_in_full_until_the_accounting_has_it() -> None:
    lines = [intent("x"), submitted("x", "7"), beside("x", "8", None)]
    assert ledger(*lines).node_hours == 4
    assert ledger(*lines, settled("x", 0.5)).by_token["x"].proven == 0.5
    assert ledger(*lines, settled("x", 0.5)).node_hours == 2.5, "the other one may still run"
    assert ledger(*lines, beside("x", "8", 0.0)).node_hours == 2
    ended = ledger(*lines, settled("x", 0.5), beside("x", "8", 0.125))
    assert ended.node_hours == ended.by_token["x"].proven == 0.625


def test_the_job_that_took_the_fence_changes_places_with_the_one_that_was_adopted() -> None:
    lines = [intent("x"), submitted("x", "7"), beside("x", "8", None), submitted("x", "8"), beside("x", "7", None)]
    assert ledger(*lines).node_hours == 4
    assert ledger(*lines, beside("x", "7", 0.0), settled("x", 0.5)).node_hours == 0.5


def test_without_a_budget_everything_fits() -> None:
    assert approved(None, ledger(intent("x"))) is None
    assert fits(None, ledger(intent("x")), "a", 1e9)


def test_a_budget_is_shared_and_may_be_raised() -> None:
    used = [intent("x", cost=8.0)]
    assert room(BUDGET, ledger(*used), "b") == 2
    assert fits(BUDGET, ledger(*used), "b", 2.0) and not fits(BUDGET, ledger(*used), "b", 2.5)
    raised = ledger(*used, approval("1", None, 15.0))
    assert (approved(BUDGET, raised), room(BUDGET, raised, "b"), room(BUDGET, raised, "c")) == (15, 7, 7)
    assert approved(Budget(node_hours=20), raised) == 20, "the file may allow more than was approved"
    assert approved(BUDGET, ledger(*used, approval("1", None, 15.0), approval("2", None, 12.0))) == 15


def test_an_approval_counts_once_however_often_it_is_written() -> None:
    assert approved(BUDGET, ledger(approval("1", "a", 4.0), approval("1", "a", 4.0), approval("2", "a", 1.0))) == 15


def test_what_was_approved_for_a_stage_is_used_by_this_stage_alone() -> None:
    lines = [intent("x", "b", cost=9.0), approval("1", "a", 4.0)]
    assert (room(BUDGET, ledger(*lines), "a"), room(BUDGET, ledger(*lines), "b")) == (5, 1)
    lines.append(intent("y", "a", cost=4.0))
    assert (room(BUDGET, ledger(*lines), "a"), room(BUDGET, ledger(*lines), "b")) == (1, 1)
    lines.append(settled("y", 1.0))
    assert (room(BUDGET, ledger(*lines), "a"), room(BUDGET, ledger(*lines), "b")) == (4, 1), "the rest is its own"
    assert ledger(*lines).node_hours == 10


def test_an_overdrawn_budget_does_not_eat_what_was_approved_for_a_stage() -> None:
    lines = [intent("x", "b", cost=9.0), beside("x", "8", None), approval("1", "a", 4.0)]
    assert ledger(*lines).node_hours == 18
    assert (room(BUDGET, ledger(*lines), "a"), room(BUDGET, ledger(*lines), "b")) == (4, 0)


@pytest.mark.parametrize(
    ("events", "jobs"),
    [
        ((), 3),
        ((intent("x"), settled("x", 1, "partial")), 2),
        ((intent("x"), {**settled("x", 1, "failed"), "cause": "stalled"}), 3),
        ((intent("x"), {**settled("x", 1, "failed"), "cause": None}), 3),
        ((intent("x", link=3), settled("x", 1, "partial")), 1),
    ],
)
def test_the_rest_of_a_chain_is_what_it_may_need_when_nothing_is_repeated(events: tuple[dict[str, Any], ...], jobs: int) -> None:
    assert link_cost(SPEC) == 2
    assert rest_of_chain(ledger(*events).stage("a"), SPEC) == (jobs, 2.0 * jobs)
