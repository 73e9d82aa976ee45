"""How a chain of links goes on, as a pure function of the journal."""

from __future__ import annotations

from typing import Any

import pytest

from workflow.chain import link_ahead, most_links, next_number, next_step, token
from workflow.ledger import Ledger, StageEntry
from workflow.stages.base import StageSpec

SPEC = StageSpec(kind="train", nodes=2, links=3, attempts=2)


def told(*lines: str) -> StageEntry:
    """Fold lines such as `intent 1.2`, `started 1.2`, `partial 1.2`, `failed 1.2 oom`, `resumed`."""
    ledger = Ledger([])
    for line in lines:
        word, _, rest = line.partition(" ")
        where, _, cause = rest.partition(" ")
        ledger.apply(event(word, where, cause))
    return ledger.stage("s")


def event(word: str, where: str, cause: str) -> dict[str, Any]:
    if word in ("resumed", "cancel_requested"):
        return {"event": word, "stage": "s"}
    link, number = (int(part) for part in where.split("."))
    about = {"token": where, "stage": "s", "link": link, "attempt": number, "node_hours": 1.0}
    if word in ("intent", "started"):
        return {"event": word, **about}
    if word == "submitted":
        return {"event": word, "token": where, "job_id": f"j{where}"}
    return {"event": "settled", **about, "status": word, "cause": cause or None, "message": "m"}


@pytest.mark.parametrize(
    ("lines", "step"),
    [
        ((), ("launch", 1, 1)),
        (("intent 1.1",), ("wait", 0, 0)),
        (("intent 1.1", "done 1.1"), ("done", 1, 1)),
        (("intent 1.1", "partial 1.1"), ("launch", 2, 1)),
        (("intent 1.1", "intent 2.1", "partial 1.1"), ("wait", 0, 0)),
        (("intent 1.1", "intent 2.1", "done 1.1"), ("done", 1, 1)),
        (("intent 1.1", "intent 2.1", "failed 1.1 node_failure"), ("wait", 0, 0)),
        (("intent 1.1", "intent 2.1", "failed 1.1 bug"), ("failed", 0, 0)),
        (("intent 1.1", "failed 1.1 stalled"), ("launch", 1, 2)),
        (("intent 1.1", "failed 1.1 stalled", "intent 1.2", "failed 1.2 storage"), ("failed", 0, 0)),
        (("intent 1.1", "failed 1.1 preempted"), ("launch", 1, 2)),
        (("intent 1.1", "failed 1.1 preempted", "intent 1.2", "partial 1.2"), ("launch", 2, 1)),
        (("intent 1.1", "failed 1.1 preempted", "intent 1.2", "failed 1.2 preempted"), ("failed", 0, 0)),
        (("intent 3.1", "failed 3.1 preempted"), ("launch", 3, 2)),
        (("intent 3.1", "failed 3.1 preempted", "intent 3.2", "done 3.2"), ("done", 3, 2)),
        (("intent 1.1", "intent 2.1", "failed 1.1 preempted"), ("wait", 0, 0)),
        (("intent 1.1", "intent 2.1", "failed 1.1 preempted", "partial 2.1"), ("launch", 3, 1)),
        (("intent 1.1", "cancel_requested", "failed 1.1 preempted"), ("cancelled", 0, 0)),
        (("intent 1.1", "failed 1.1 oom"), ("failed", 0, 0)),
        (("intent 1.1", "intent 2.1", "failed 1.1 walltime", "failed 2.1 walltime"), ("launch", 2, 2)),
        (("intent 1.1", "failed 1.1"), ("launch", 1, 2)),
        (("intent 1.1", "cancel_requested"), ("wait", 0, 0)),
        (("intent 1.1", "cancel_requested", "failed 1.1"), ("cancelled", 0, 0)),
        (("intent 1.1", "cancel_requested", "done 1.1"), ("done", 1, 1)),
        (("intent 1.1", "cancel_requested", "failed 1.1", "resumed"), ("launch", 1, 2)),
        (("intent 1.1", "failed 1.1 bug", "resumed"), ("launch", 1, 2)),
        (("intent 1.1", "failed 1.1 bug", "resumed", "intent 1.2", "failed 1.2 bug"), ("failed", 0, 0)),
        (("intent 1.1", "failed 1.1 stalled", "intent 1.2", "failed 1.2 stalled", "resumed"), ("launch", 1, 3)),
        (("intent 3.1", "partial 3.1"), ("failed", 0, 0)),
        (("intent 3.1", "partial 3.1", "resumed"), ("launch", 4, 1)),
        (("intent 3.1", "partial 3.1", "resumed", "intent 4.1", "partial 4.1"), ("failed", 0, 0)),
    ],
)
def test_next_step(lines: tuple[str, ...], step: tuple[str, int, int]) -> None:
    found = next_step(told(*lines), SPEC)
    assert (found.do, found.link, found.attempt) == step
    assert found.do != "failed" or (found.cause is not None and found.message)


def test_each_link_is_submitted_behind_all_that_are_open_as_soon_as_their_jobs_are_known() -> None:
    one = ("intent 1.1", "submitted 1.1")
    two = (*one, "intent 2.1", "submitted 2.1")
    assert link_ahead(told(), SPEC) is None
    assert link_ahead(told(*one[:1]), SPEC) is None, "its job is not known: nothing can come after it"
    assert link_ahead(told(*one), SPEC) == (2, ("j1.1",))
    assert link_ahead(told(*one, "intent 2.1"), SPEC) is None
    assert link_ahead(told(*two), SPEC) == (3, ("j1.1", "j2.1"))
    assert link_ahead(told(*two, "partial 1.1"), SPEC) == (3, ("j2.1",))
    assert link_ahead(told(*two, "failed 2.1"), SPEC) is None, "the one ahead was given up; it is not asked for again"
    assert link_ahead(told(*two, "cancel_requested"), SPEC) is None
    assert link_ahead(told("intent 3.1", "submitted 3.1"), SPEC) is None


def test_a_resumed_stage_gets_its_links_ahead_once_nothing_of_the_round_before_is_open() -> None:
    before = ("intent 1.1", "submitted 1.1", "intent 2.1", "submitted 2.1", "failed 1.1 bug", "resumed")
    assert link_ahead(told(*before), SPEC) is None
    again = (*before, "failed 2.1", "intent 1.2", "submitted 1.2")
    assert link_ahead(told(*again), SPEC) == (2, ("j1.2",))


def test_a_link_that_was_lost_is_made_up_for_as_often_as_one_may_be_tried_again() -> None:
    lost = ("intent 1.1", "intent 2.1", "intent 3.1", "failed 1.1 node_failure")
    assert most_links(told(*lost), SPEC) == 4
    assert most_links(told(*lost, "failed 2.1 node_failure"), SPEC) == 4
    assert most_links(told(*lost[:3], "failed 2.1"), SPEC) == 3, "one that was not needed is not lost"
    done = next_step(told(*lost, "partial 2.1", "partial 3.1"), SPEC)
    assert (done.do, done.link, done.attempt) == ("launch", 4, 1)


def test_a_preempted_attempt_uses_up_no_link_but_an_attempt() -> None:
    one = StageSpec(kind="train", nodes=2, links=1, attempts=3)
    lines = ["intent 1.1", "failed 1.1 preempted"]
    for number in (2, 3):
        step = next_step(told(*lines), one)
        assert (step.do, step.link, step.attempt) == ("launch", 1, number)
        lines += [f"intent 1.{number}", f"failed 1.{number} preempted"]
    step = next_step(told(*lines), one)
    assert (step.do, step.cause) == ("failed", "preempted")
    assert "3 attempts" in step.message
    assert told(*lines).links_ended == 0


def test_a_preempted_link_is_made_up_for_where_the_one_ahead_takes_over() -> None:
    lost = ("intent 1.1", "intent 2.1", "intent 3.1", "failed 1.1 preempted")
    assert most_links(told(*lost), SPEC) == 4
    assert most_links(told(*lost, "failed 2.1 preempted"), SPEC) == 4, "as often as one link may be tried again"
    done = next_step(told(*lost, "partial 2.1", "partial 3.1"), SPEC)
    assert (done.do, done.link, done.attempt) == ("launch", 4, 1)
    ended = next_step(told(*lost, "partial 2.1", "partial 3.1", "intent 4.1", "partial 4.1"), SPEC)
    assert (ended.do, ended.cause) == ("failed", "walltime")


def test_a_resumed_stage_has_one_link_more_than_it_used_up() -> None:
    assert most_links(told("intent 3.1", "partial 3.1", "resumed"), SPEC) == 4
    assert most_links(told("intent 3.1", "failed 3.1 bug", "resumed"), SPEC) == 3
    assert most_links(told("intent 1.1", "partial 1.1"), SPEC) == 3


def test_numbers_and_tokens() -> None:
    assert next_number(told("intent 1.1", "intent 1.2", "intent 2.1"), 1) == 3
    tokens = {token(c, s, link, n) for c in ("a", "b") for s in ("t", "t/1") for link in (1, 11) for n in (1, 2)}
    assert len(tokens) == 16
    assert all(len(each) == 14 and each[0] == "c" and each.isalnum() and each == each.lower() for each in tokens)
