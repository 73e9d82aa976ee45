"""The crash points K1 to K20 as cases: which deaths, one after another, in which campaign."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from login import wait

from matrix.old import age
from matrix.play import Play, thaw


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        points: The crash points it is for.
        play: What happens, up to the end of the campaign.
    """

    points: tuple[str, ...]
    play: Callable[[Play], None]


def around_a_submission(play: Play) -> None:
    """Before and after the intent, and when the job was accepted and its id is on its way: one job all the same."""
    play.write({"a": {}})
    play.dies("before intent")
    assert not play.login.accounts() and not play.login.events("intent")
    play.dies("after intent")
    assert not play.login.accounts()
    play.dies_within(play.login.system.submits)
    play.accepted(1)
    assert not play.login.events("submitted")
    play.finishes()
    assert [line["adopted"] for line in play.login.events("submitted")] == [True]


def around_an_id(play: Play) -> None:
    """When the id came and is not written down, when it is, at the next look, and when that was answered."""
    play.write({"a": {"plan": ["wait go+done"]}, "b": {}})
    play.dies("after submit")
    assert not play.login.events("submitted")
    play.dies("after id")
    assert play.login.events("submitted")
    play.dies("poll", 3)
    play.dies_within(play.login.system.asks)
    play.release()
    play.finishes()


def a_start_unseen(play: Play) -> None:
    """The job starts while no driver lives, and works on when the next one comes."""
    play.write({"a": {"plan": ["wait go+done"], "nodes": 2}})
    play.dies("after id")
    play.started("a")
    assert not play.login.events("started")
    play.dies("after line started")
    play.release()
    play.finishes()


def a_chain_unseen(play: Play) -> None:
    """The driver dies when a chain of three links is submitted; all of it is over before the next one comes (R11)."""
    play.write({"a": {"plan": ["wait go+partial", "partial", "done"], "links": 3}})
    play.dies("after id", 3)
    play.release()
    play.all_ended(3)
    assert not play.login.events("settled")
    play.finishes()
    assert [line["link"] for line in play.login.events("settled")] == [1, 2, 3]


def a_search_unseen(play: Play) -> None:
    """The driver dies as soon as a search is submitted; it completes all the same before the next one comes (R11)."""
    play.write_search()
    play.dies("after id", 2)
    play.all_ended(2)
    assert not play.login.events("settled", stage="search")
    play.finishes()
    play.require_one_search(deaths=0)


def a_history_purged(play: Play) -> None:
    """Both jobs end, and all books forget them, before a driver lives again: a receipt says so, or silence does."""
    play.write({"a": {}, "b": {"plan": ["kill", "done"]}})
    play.runs = {("b", 1): 2}
    play.dies("after id", 2)
    play.all_ended(2)
    play.forgotten = {job.job_id for job in play.login.accounts()}
    for job_id in sorted(play.forgotten):
        play.login.system.forget(job_id)
    assert not play.login.accounts()
    play.finishes()
    settled = {(line["stage"], line["attempt"]): line["evidence"]["by"] for line in play.login.events("settled")}
    assert settled == {("a", 1): "receipt", ("b", 1): "absence and silence", ("b", 2): "receipt"}


def between_receipt_and_stage(play: Play) -> None:
    """The attempt's receipt stands; its end and the stage's are being written down."""
    play.write({"a": {}, "b": {"needs": ["a"]}})
    play.dies("before settle")
    play.dies("after settle")
    play.dies("before stage receipt")
    play.dies("after stage receipt")
    play.dies("after stage")
    play.finishes()


def in_a_rename(play: Play) -> None:
    """Agents die before and after their receipt gets its name, a driver when it copies it."""
    play.write({"a": {}, "b": {}})
    play.runs = {("a", 1): 2}
    play.let_agents_die(a_1_1="before rename receipt.json", b_1_1="after rename receipt.json")
    play.dies("before rename receipt.json")
    play.finishes()
    causes = {(line["stage"], line["attempt"]): line["cause"] for line in play.login.events("settled")}
    assert causes == {("a", 1): "node_failure", ("a", 2): None, ("b", 1): None}


def in_a_promotion(play: Play) -> None:
    """The choice is made on the login node, and what it is for is not submitted."""
    play.write({"a": {}, "pick": {"kind": "choose", "needs": ["a"]}, "b": {"needs": ["pick"]}, "c": {"needs": ["pick"]}})
    play.dies("after stage", 2)
    assert {line["stage"]: line["state"] for line in play.login.events("stage")} == {"a": "done", "pick": "done"}
    play.dies("before intent")
    assert {line["stage"] for line in play.login.events("intent")} == {"a"}
    play.dies("after intent")
    play.finishes()


def in_a_search(play: Play) -> None:
    """Agents of a real search die before a suggestion is written down, amid a training, and before a result is told."""
    play.write_search()
    play.let_agents_die(
        search_1_1="before line ask",
        search_1_2="stands tasks/*/checkpoints/last/meta.json",
        search_1_3="before line tell",
    )
    play.finishes()
    play.require_one_search(deaths=3)


def a_torn_line(play: Play) -> None:
    """The journal ends in the middle of a line: of an intent, of an id, of an end."""
    play.write({"a": {}})
    play.dies("within line intent")
    play.dies("within line submitted")
    play.dies("within line settled")
    play.dies("within line stage")
    play.finishes()


def two_login_nodes(play: Play) -> None:
    """A second driver on another login node stays out while the first lives, and takes over when it was killed."""
    play.write({"a": {"plan": ["wait go+done"]}})
    first = play.elsewhere("login1")
    play.started("a")
    wait(lambda: bool(play.login.events("started")))
    assert play.drives() == 1 and first.poll() is None, play.login.said
    assert "LeaseHeld" in play.login.said
    first.kill()
    first.wait()
    play.release()
    play.finishes()
    assert len(play.login.events("lease")) == 2


def a_holder_frozen(play: Play) -> None:
    """The holder of the lease stands still past its time to live; another ends the campaign; then the first goes on."""
    play.write({"a": {}})
    frozen = play.freezes("after intent")
    play.finishes()
    before = play.login.events()
    assert thaw(frozen) == 1
    assert "LeaseHeld" in play.login.said
    assert play.login.events() == before, "what a thawed driver writes is not accepted"


def a_holder_frozen_at_its_last_look(play: Play) -> None:
    """It stands between its look at the lease and the submission, and goes on with that: the fence keeps the twin out."""
    play.write({"a": {}})
    frozen = play.freezes("before submit")
    play.finishes()
    before = play.login.events()
    assert thaw(frozen) == 1
    assert play.login.events() == before, "what a thawed driver writes is not accepted"
    play.all_ended(2)
    play.twins = {line["token"] for line in play.login.events("intent")}


def in_a_cancel(play: Play) -> None:
    """A chain is ended by hand: one link runs, one waits; whoever ends it dies on the way."""
    play.write({"a": {"plan": ["sleep 250+done"], "links": 2}}, a="cancelled")  # far longer than all the deaths take
    play.dies("after id", 2)
    play.started("a")
    play.dies("after line cancel_requested", cancels=True)
    play.dies("before fence", cancels=True)
    play.dies("after fence", cancels=True)
    play.dies_within(play.login.system.cancels, cancels=True)
    play.dies("before settle", cancels=True)
    play.cancels()
    play.finishes(1)


def in_an_upgrade(play: Play) -> None:
    """A journal as an older release wrote it, of jobs that run and wait; drivers of this one go on with it."""
    play.write({"a": {"plan": ["wait go+partial", "done"], "links": 2}, "b": {"needs": ["a"]}})
    play.dies("after id", 2)
    age(play.login.rundir)
    play.release()
    play.dies("after settle")
    play.finishes()


CASES = {
    "in a search": Case(("K13", "K14", "K15"), in_a_search),
    "around a submission": Case(("K1", "K2", "K3"), around_a_submission),
    "around an id": Case(("K4", "K5", "K6"), around_an_id),
    "a start unseen": Case(("K7",), a_start_unseen),
    "a chain unseen": Case(("K8",), a_chain_unseen),
    "a search unseen": Case(("K8",), a_search_unseen),
    "a history purged": Case(("K9",), a_history_purged),
    "between receipt and stage": Case(("K10",), between_receipt_and_stage),
    "in a rename": Case(("K11",), in_a_rename),
    "in a promotion": Case(("K12",), in_a_promotion),
    "a torn line": Case(("K16",), a_torn_line),
    "two login nodes": Case(("K17",), two_login_nodes),
    "a holder frozen": Case(("K18",), a_holder_frozen),
    "a holder frozen at its last look": Case(("K18",), a_holder_frozen_at_its_last_look),
    "in a cancel": Case(("K19",), in_a_cancel),
    "in an upgrade": Case(("K20",), in_an_upgrade),
}
