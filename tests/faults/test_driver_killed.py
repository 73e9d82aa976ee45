"""Kill -9 of the driver at every point that matters, then run again: one execution of each link, all jobs adopted."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from login import wait
from toy.world import batch, campaign_of, drive, events, executions, killed_at, signalled_at, site_file, states

from workflow.batch.local import Spool
from workflow.cancel import cancel
from workflow.process import stat
from workflow.receipt import read_receipt, verify
from workflow.rundir import RunDir

CHAIN = {"a": {"plan": ["sleep 0.5+partial", "done"], "links": 2}, "b": {"needs": ["a"]}}
POINTS = [
    ("lease", 1),
    ("before intent", 1),
    ("after intent", 1),
    ("before submit", 1),
    ("after submit", 1),
    ("after id", 1),
    ("poll", 2),
    ("poll", 6),
    ("before intent", 2),
    ("after intent", 2),
    ("after submit", 2),
    ("before settle", 1),
    ("after settle", 1),
    ("before settle", 2),
    ("after settle", 2),
    ("before stage receipt", 1),
    ("after stage receipt", 1),
    ("after stage", 1),
    ("after submit", 3),
    ("after stage", 2),
]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAMPAIGN_SITES", str(site_file(tmp_path)))
    return tmp_path


def check_whole(home: Path, links: dict[tuple[str, int], int]) -> None:
    """From files alone: each link ran once, every job is known, nothing is left, every output is vouched for."""
    assert executions(home) == links
    wait(lambda: all(row.state.is_final for row in batch(home).snapshot().rows))
    rows = batch(home).snapshot().rows
    known = {line["job_id"] for line in events(home, "submitted")}
    tokens = {line["token"] for line in events(home, "intent")}
    for row in rows:
        assert row.token in tokens, "a job without an intent"
        assert row.job_id in known or row.exit == 0, "a job that was neither adopted nor stopped by the fence"
    settled = [line["token"] for line in events(home, "settled")]
    assert sorted(settled) == sorted(tokens), "each attempt is settled, and once"
    for key in states(home):
        receipt = read_receipt(RunDir(home / "run").stage_receipt(key))
        assert receipt is not None
        verify(home / "run", receipt.outputs)


@pytest.mark.parametrize(("point", "nth"), POINTS, ids=lambda value: str(value).replace(" ", "-"))
def test_killed_and_run_again(home: Path, point: str, nth: int) -> None:
    campaign = campaign_of(home, CHAIN)
    assert killed_at(home, point, nth), "the point was never passed"
    assert drive(campaign) == 0
    assert states(home) == {"a": "done", "b": "done"}
    check_whole(home, {("a", 1): 1, ("a", 2): 1, ("b", 1): 1})


def test_a_chain_runs_to_its_end_though_its_driver_died_in_its_first_minute(home: Path) -> None:
    """R11: what was submitted needs nobody; the next driver finds it done."""
    campaign = campaign_of(home, {"a": {"plan": ["wait go+partial", "partial", "done"], "links": 3}})
    assert killed_at(home, "after id", 3)
    assert set(executions(home)) <= {("a", 1)}, "the chain had hardly begun"
    (home / "run" / "go").touch()
    wait(lambda: len(rows := batch(home).snapshot().rows) == 3 and all(row.state.is_final for row in rows))
    assert not events(home, "settled")
    check = {("a", 1): 1, ("a", 2): 1, ("a", 3): 1}
    assert executions(home) == check
    assert drive(campaign) == 0
    check_whole(home, check)
    receipt = read_receipt(RunDir(home / "run").stage_receipt("a"))
    assert receipt is not None and receipt.link == 3


def test_links_behind_the_end_of_a_chain_whose_driver_died_end_in_seconds(home: Path) -> None:
    campaign = campaign_of(home, {"a": {"plan": ["wait go+done"], "links": 4}})
    assert killed_at(home, "after id", 4)
    (home / "run" / "go").touch()
    wait(lambda: len(rows := batch(home).snapshot().rows) == 4 and all(row.state.is_final for row in rows))
    assert executions(home) == {("a", 1): 1}
    assert drive(campaign) == 0
    check_whole(home, {("a", 1): 1})


def test_a_link_of_a_chain_that_is_cancelled_by_hand_lets_none_overtake_the_one_at_work(home: Path) -> None:
    campaign = campaign_of(home, {"a": {"plan": ["wait go+partial", "done"], "links": 3}})
    assert killed_at(home, "after id", 3)
    wait(lambda: bool(executions(home)))
    second = sorted(batch(home).snapshot().rows, key=lambda row: int(row.job_id))[1]
    batch(home).cancel(second.job_id, second.token)
    wait(lambda: sum(row.state.is_final for row in batch(home).snapshot().rows) == 1)
    time.sleep(1.0)  # five looks of a supervisor at what it waits for
    assert executions(home) == {("a", 1): 1}
    (home / "run" / "go").touch()
    assert drive(campaign) == 0
    assert executions(home) == {("a", 1): 1, ("a", 3): 1}


@pytest.mark.parametrize("point", ["before line resumed", "within line resumed", "after line resumed", "before line intent"])
def test_killed_amid_a_resume(home: Path, point: str) -> None:
    """A stage that failed by its own fault is tried again once a resume was written down, and by nothing else."""
    campaign = campaign_of(home, {"a": {"plan": ["fail bug", "done"]}, "b": {"needs": ["a"]}})
    assert drive(campaign) == 1
    assert killed_at(home, point, command="resume")
    assert executions(home) == {("a", 1): 1}
    is_written = len(events(home, "resumed"))
    assert is_written == (point in ("after line resumed", "before line intent"))
    assert drive(campaign) == (0 if is_written else 1)
    assert drive(campaign, resume=True) == 0
    assert len(events(home, "resumed")) == 1
    check_whole(home, {("a", 1): 2, ("b", 1): 1})


def test_killed_again_and_again(home: Path) -> None:
    campaign = campaign_of(home, CHAIN)
    rounds = 0
    for point in ("after submit", "after id", "before settle", "after intent", "after submit", "after settle", "after stage"):
        rounds += killed_at(home, point)
    assert rounds >= 6
    assert drive(campaign) == 0
    check_whole(home, {("a", 1): 1, ("a", 2): 1, ("b", 1): 1})


def test_a_job_that_ends_while_no_driver_lives_is_taken_in(home: Path) -> None:
    campaign = campaign_of(home, {"a": {"plan": ["done"]}, "b": {"plan": ["exit 5"]}})
    assert killed_at(home, "after id", 2)
    wait(lambda: len(executions(home)) == 2 and all(row.state.is_final for row in batch(home).snapshot().rows))
    assert drive(campaign) == 1
    assert states(home) == {"a": "done", "b": "failed"}
    assert executions(home) == {("a", 1): 1, ("b", 1): 1}


def test_history_that_was_purged_while_no_driver_lived(home: Path) -> None:
    """K9: the job ended and the batch system forgot it; the receipt alone says so, or silence does."""
    campaign = campaign_of(home, {"a": {"plan": ["done"]}, "b": {"plan": ["kill", "done"]}})
    assert killed_at(home, "after id", 2)
    wait(lambda: len(executions(home)) == 2 and all(row.state.is_final for row in batch(home).snapshot().rows))
    for path in (home / "spool").glob("[0-9]*.*"):
        path.unlink()
    assert drive(campaign) == 0
    assert executions(home) == {("a", 1): 1, ("b", 1): 2}
    settled = {(line["stage"], line["attempt"]): line for line in events(home, "settled")}
    assert settled[("a", 1)]["evidence"]["by"] == "receipt"
    assert (settled[("b", 1)]["evidence"]["by"], settled[("b", 1)]["cause"]) == ("absence and silence", "node_failure")


def test_an_accepted_job_that_vanishes_from_the_queue_is_barred_and_replaced(home: Path) -> None:
    campaign = campaign_of(home, {"hog": {"plan": ["wait go+done"], "nodes": 2}, "a": {"nodes": 2}})
    assert killed_at(home, "after id", 2)
    waiting = max(batch(home).snapshot().rows, key=lambda row: int(row.job_id))
    end_supervisor(home, waiting.job_id)
    for suffix in ("job", "queue", "cancel", "end"):
        (home / "spool" / f"{waiting.job_id}.{suffix}").unlink(missing_ok=True)
    (home / "run" / "go").touch()
    assert drive(campaign) == 0
    assert states(home) == {"hog": "done", "a": "done"}
    assert sum(executions(home).values()) == 2
    lost = [line for line in events(home, "settled") if line["cause"] == "scheduler"]
    assert [line["evidence"]["by"] for line in lost] == ["fence"]


def test_a_cancel_goes_on_after_the_canceller_was_killed(home: Path) -> None:
    campaign = campaign_of(home, {"hog": {"plan": ["wait never+done"], "nodes": 2}, "a": {"nodes": 2}})
    assert killed_at(home, "after id", 2)
    wait(lambda: bool(executions(home)))
    RunDir(home / "run").stage_cancel("a").touch()
    for point in ("before fence", "after fence", "before settle"):
        killed_at(home, point)
    cancel(home / "run")
    assert set(states(home).values()) == {"cancelled"}
    assert sum(executions(home).values()) == 1
    assert all(row.state.is_final for row in batch(home).snapshot().rows)
    assert drive(campaign) == 1


def end_supervisor(home: Path, job_id: str) -> None:
    os.kill(int(Spool(home / "spool").job(int(job_id))["supervisor"]["pid"]), signal.SIGKILL)


def test_one_pass_stays_until_an_unknown_submission_is_cleared_up(home: Path) -> None:
    """A driver that only ever does single passes must not begin the search anew each time."""
    campaign = campaign_of(home, {"a": {"plan": ["wait go+done"]}})
    assert killed_at(home, "after intent")
    assert drive(campaign, once=True) == 4
    assert len(events(home, "submitted")) == 1
    (home / "run" / "go").touch()
    assert drive(campaign) == 0
    check_whole(home, {("a", 1): 1})


@pytest.mark.parametrize(
    "point", ["before intent", "after intent", "before submit", "after submit", "before settle", "after settle"]
)
def test_a_frozen_driver_is_replaced_and_thawed_has_no_effect(home: Path, point: str) -> None:
    """K17, K18: the time to live runs out, another driver takes over, then the first one goes on where it stood."""
    campaign = campaign_of(home, {"a": {"plan": ["sleep 0.5+done"]}, "b": {"needs": ["a"]}})
    frozen = signalled_at(home, point, 1, "SIGSTOP")
    try:
        wait(lambda: stat(frozen.pid)[0] == "T")
        assert drive(campaign) == 0
        before = events(home)
        os.kill(frozen.pid, signal.SIGCONT)
        _, errors = frozen.communicate(timeout=60)
        assert frozen.returncode == 1 and "LeaseHeld" in errors, errors
    finally:
        frozen.kill()
    assert events(home) == before, "what the thawed driver wrote is not accepted"
    check_whole(home, {("a", 1): 1, ("b", 1): 1})
