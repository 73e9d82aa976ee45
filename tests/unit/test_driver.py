"""The driver on toy stages: real jobs of the local batch system, nothing of science."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from toy.world import campaign_of, drive, events, executions, site_file, states

from workflow.cancel import cancel
from workflow.driver import Driver
from workflow.errors import ConfigError, LeaseHeld
from workflow.receipt import read_receipt, verify
from workflow.rundir import RunDir


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAMPAIGN_SITES", str(site_file(tmp_path)))
    return tmp_path


def going_after(home: Path, submissions: int) -> Callable[[dict[str, Any]], None]:
    """Let jobs that `wait go` go on once so many have been submitted."""
    left = [submissions]

    def tell(event: dict[str, Any]) -> None:
        left[0] -= event["event"] == "submitted"
        if left[0] == 0:
            (home / "run" / "go").touch()

    return tell


def test_a_graph_is_carried_to_its_end(home: Path) -> None:
    campaign = campaign_of(
        home,
        {
            "a": {},
            "b": {"needs": ["a"]},
            "best": {"kind": "choose", "needs": ["a", "b"]},
            "c": {"needs": ["best"]},
        },
    )
    assert drive(campaign) == 0
    assert states(home) == dict.fromkeys(["a", "b", "best", "c"], "done")
    assert executions(home) == {("a", 1): 1, ("b", 1): 1, ("c", 1): 1}
    receipt = read_receipt(RunDir(home / "run").stage_receipt("best"))
    assert receipt is not None and receipt.result == {"inputs": ["a", "b"]}
    done = read_receipt(RunDir(home / "run").stage_receipt("c"))
    assert done is not None and done.outputs
    verify(home / "run", done.outputs)
    lines = [line["event"] for line in events(home)]
    assert lines[:2] == ["lease", "created"] and lines[-1] == "driver_ended"
    before = len(lines)
    assert drive(campaign) == 0, "a done campaign stays done"
    assert [line["event"] for line in events(home)][before:] == ["lease", "driver_ended"]


def test_a_chain_goes_on_and_all_its_links_are_submitted_at_once(home: Path) -> None:
    campaign = campaign_of(home, {"a": {"plan": ["wait go+partial", "partial", "done"], "links": 3}})
    assert Driver(campaign, on_event=going_after(home, 3)).run() == 0
    assert executions(home) == {("a", 1): 1, ("a", 2): 1, ("a", 3): 1}
    order = [(line["event"], line.get("link")) for line in events(home, "intent", "settled")]
    assert order[:4] == [("intent", 1), ("intent", 2), ("intent", 3), ("settled", 1)]
    ids = [line["job_id"] for line in events(home, "submitted")]
    assert [line["after"] for line in events(home, "intent")] == [[], ids[:1], ids[:2]]
    receipt = read_receipt(RunDir(home / "run").stage_receipt("a"))
    assert receipt is not None and receipt.link == 3
    assert receipt.result["previous"] == ["stages/a/link-1/attempt-1", "stages/a/link-2/attempt-1"]


def test_a_link_ahead_that_is_not_needed_is_barred_or_ends_by_itself(home: Path) -> None:
    campaign = campaign_of(home, {"a": {"plan": ["wait go+done"], "links": 4}})
    assert Driver(campaign, on_event=going_after(home, 4)).run() == 0
    assert executions(home) == {("a", 1): 1}
    assert len(events(home, "intent")) == len(events(home, "settled")) == 4, "every job is settled before the driver leaves"


def test_where_the_queue_forbids_it_no_link_is_submitted_ahead(home: Path) -> None:
    campaign = campaign_of(home, {"a": {"plan": ["partial", "done"], "links": 2}})
    alone = tuple(queue.model_copy(update={"chains": False}) for queue in campaign.site.queues)
    campaign = replace(campaign, site=campaign.site.model_copy(update={"queues": alone}))
    assert drive(campaign) == 0
    assert [line["event"] for line in events(home, "intent", "settled")] == ["intent", "settled"] * 2


def test_a_link_ahead_that_does_not_fit_the_budget_waits_for_its_time(home: Path) -> None:
    stage = {"plan": ["wait go+partial", "partial", "done"], "links": 3, "walltime": "01:00"}
    campaign = campaign_of(home, {"a": stage}, budget={"node_hours": 2.5})
    assert Driver(campaign, on_event=going_after(home, 2)).run() == 0
    order = [(line["event"], line.get("link")) for line in events(home, "intent", "settled")]
    assert order[:4] == [("intent", 1), ("intent", 2), ("settled", 1), ("intent", 3)]


def test_transient_failures_are_tried_again_and_counted(home: Path) -> None:
    campaign = campaign_of(
        home, {"a": {"plan": ["fail node_failure", "kill", "done"]}, "b": {"plan": ["fail stalled"], "attempts": 2}}
    )
    assert drive(campaign) == 1
    assert states(home) == {"a": "done", "b": "failed"}
    assert executions(home) == {("a", 1): 3, ("b", 1): 2}
    causes = [(line["stage"], line["attempt"], line["cause"]) for line in events(home, "settled") if line["stage"] == "a"]
    assert causes == [("a", 1, "node_failure"), ("a", 2, "node_failure"), ("a", 3, None)]
    killed = next(line["token"] for line in events(home, "intent") if (line["stage"], line["attempt"]) == ("a", 2))
    assert [(line["token"], line["barred"]) for line in events(home, "revoked")] == [(killed, False)]
    failed = next(line for line in events(home, "stage") if line["stage"] == "b")
    assert failed["cause"] == "stalled" and "2 attempts" in failed["message"]


def test_a_bug_is_not_tried_again_and_dependents_do_not_run(home: Path) -> None:
    campaign = campaign_of(home, {"a": {"plan": ["exit 5", "done"]}, "b": {"needs": ["a"]}, "free": {}})
    assert drive(campaign) == 1
    assert states(home) == {"a": "failed", "free": "done"}
    assert executions(home) == {("a", 1): 1, ("free", 1): 1}
    settled = next(line for line in events(home, "settled") if line["stage"] == "a")
    assert (settled["cause"], settled["evidence"]["exit"], settled["evidence"]["by"]) == ("bug", 5, "accounting")
    assert drive(campaign) == 1
    assert executions(home)[("a", 1)] == 1, "`run` leaves a failed stage alone"
    assert drive(campaign, resume=True) == 0
    assert executions(home) == {("a", 1): 2, ("free", 1): 1, ("b", 1): 1}


def test_a_chain_that_used_its_links_fails_and_resume_gives_one_more(home: Path) -> None:
    campaign = campaign_of(home, {"a": {"plan": ["partial", "done"]}})
    assert drive(campaign) == 1
    assert "not done after 1 link" in events(home, "stage")[0]["message"]
    assert drive(campaign, resume=True) == 0
    assert executions(home) == {("a", 1): 1, ("a", 2): 1}


@pytest.mark.parametrize(("fault", "cause"), [("raise", "bug"), ("nothing to choose", "bad_config")])
def test_a_login_stage_that_fails_is_told(home: Path, fault: str, cause: str) -> None:
    campaign = campaign_of(home, {"best": {"kind": "choose", "fault": fault}})
    assert drive(campaign) == 1
    line = events(home, "stage")[0]
    assert (line["state"], line["cause"]) == ("failed", cause)
    assert (home / "run" / "traceback.log").exists() == (fault == "raise")


def test_over_budget_a_stage_is_held_until_the_file_allows_more(home: Path) -> None:
    stages = {"a": {"walltime": "01:00"}, "b": {"needs": ["a"], "walltime": "01:00", "nodes": 2}}
    assert drive(campaign_of(home, stages, budget={"node_hours": 1.5})) == 3
    assert states(home) == {"a": "done", "b": "held"}
    assert events(home, "stage")[-1]["cause"] == "approval"
    assert drive(campaign_of(home, stages, budget={"node_hours": 3})) == 0
    assert states(home) == {"a": "done", "b": "done"}


def test_a_changed_file_holds_for_stages_that_have_not_begun(home: Path) -> None:
    stages = {"a": {"nodes": 1}, "b": {"needs": ["a"], "plan": ["exit 5"]}}
    assert drive(campaign_of(home, stages)) == 1
    stages = {"a": {"nodes": 2}, "b": {"needs": ["a"], "plan": ["done"]}, "c": {"needs": ["b"]}}
    told: list[str] = []
    code = Driver(campaign_of(home, stages), on_event=lambda e: told.append(str(e.get("message")))).run(resume=True)
    assert code == 0
    assert [e["nodes"] for e in events(home, "intent") if e["stage"] == "a"] == [1]
    assert any("stages.a.nodes: 1 -> 2; it has begun and keeps the first" in line for line in told)
    assert any("stages.b.plan" in line and line.endswith("taken") for line in told)
    with pytest.raises(ConfigError, match="another|began on site"):
        other = campaign_of(home, stages)
        drive(type(other)(other.path, other.header, other.site.model_copy(update={"name": "else"}), other.stages, other.folder))


def test_one_pass_submits_and_leaves(home: Path) -> None:
    campaign = campaign_of(home, {"a": {"plan": ["wait go+done"]}, "b": {"needs": ["a"]}})
    for _ in range(3):
        assert drive(campaign, once=True) == 4
    assert len(events(home, "intent")) == 1
    (home / "run" / "go").touch()
    end = time.monotonic() + 60
    while drive(campaign, once=True) == 4:
        assert time.monotonic() < end
    assert executions(home) == {("a", 1): 1, ("b", 1): 1}


def test_an_interrupted_driver_leaves_its_jobs_running(home: Path) -> None:
    campaign = campaign_of(home, {"a": {"plan": ["wait go+done"]}})
    told: list[str] = []

    def interrupt(event: dict) -> None:
        told.append(str(event.get("message")))
        if event["event"] == "started":
            os.kill(os.getpid(), signal.SIGINT)

    assert Driver(campaign, on_event=interrupt).run() == 4
    assert "campaign run" in told[-1] or "campaign run" in told[-2]
    assert not events(home, "settled")
    (home / "run" / "go").touch()
    assert drive(campaign) == 0
    assert executions(home) == {("a", 1): 1}


def test_two_drivers_do_not_share_a_campaign(home: Path) -> None:
    campaign = campaign_of(home, {"a": {"plan": ["wait go+done"]}})
    first = threading.Thread(target=drive, args=(campaign,))
    first.start()
    while not (home / "run" / "campaign.json").exists():
        time.sleep(0.02)
    with pytest.raises(LeaseHeld):
        drive(campaign)
    (home / "run" / "go").touch()
    first.join()
    assert states(home) == {"a": "done"}


def test_cancel_without_a_driver_ends_what_runs_and_resume_goes_on(home: Path) -> None:
    campaign = campaign_of(home, {"a": {"plan": ["wait never+done", "done"]}, "b": {"needs": ["a"]}})
    while not executions(home):
        assert drive(campaign, once=True) == 4
    cancel(home / "run", "a")
    assert states(home) == {"a": "cancelled"}
    assert [line["status"] for line in events(home, "settled")] == ["partial"]
    assert drive(campaign) == 1
    assert drive(campaign, resume=True) == 0
    with pytest.raises(ConfigError, match="no stage"):
        cancel(home / "run", "aa")


def test_cancel_while_a_driver_lives_is_done_by_that_driver(home: Path) -> None:
    campaign = campaign_of(home, {"a": {"plan": ["wait never+done"], "nodes": 2}, "b": {"nodes": 2}})
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(drive(campaign)))
    thread.start()
    while not executions(home):
        time.sleep(0.05)
    cancel(home / "run")
    thread.join()
    assert codes == [1]
    assert states(home) == {"a": "cancelled", "b": "cancelled"}
    assert executions(home) == {("a", 1): 1}
    barred = [line for line in events(home, "revoked") if line["barred"]]
    assert len(barred) == 1, "the one that had not started was barred"
