"""What becomes of a campaign whose files were lost, damaged or edited between two drivers."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from dying import failing_write
from toy.world import campaign_of, drive, events, executions, site_file, states

from workflow.campaign import stage_kind
from workflow.cancel import cancel
from workflow.driver import Driver
from workflow.errors import JournalError
from workflow.receipt import read_receipt
from workflow.resolved import stored_campaign
from workflow.rundir import RunDir

A, BEST = {"a": {}}, {"best": {"kind": "choose", "needs": ["a"]}}
B = {"b": {"needs": ["a"]}}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAMPAIGN_SITES", str(site_file(tmp_path)))
    return tmp_path


@pytest.mark.parametrize("stage", ["a", "best"])
@pytest.mark.parametrize("damage", ["", '{"outputs": [', "[1]", None])
def test_a_stages_receipt_that_was_lost_is_made_again(home: Path, stage: str, damage: str | None) -> None:
    assert drive(campaign_of(home, A | BEST)) == 0
    path = RunDir(home / "run").stage_receipt(stage)
    before = read_receipt(path)
    path.unlink() if damage is None else path.write_text(damage)
    assert drive(campaign_of(home, A | BEST | {"c": {"needs": ["best"]}})) == 0
    after = read_receipt(path)
    assert before is not None and after is not None and after.result == before.result
    assert executions(home) == {("a", 1): 1, ("c", 1): 1}


def test_without_any_receipt_nothing_that_rests_on_the_stage_runs(home: Path) -> None:
    assert drive(campaign_of(home, A)) == 0
    rundir = RunDir(home / "run")
    places = [rundir.stage_receipt("a"), rundir.attempt("a", 1, 1).receipt]
    texts = [path.read_text() for path in places]
    for path in places:
        path.write_text("{")
    assert drive(campaign_of(home, A | B)) == 1
    assert "gone or damaged" in events(home, "stage")[-1]["message"]
    for path, text in zip(places, texts, strict=True):
        path.write_text(text)
    assert drive(campaign_of(home, A | B), resume=True) == 0
    assert executions(home) == {("a", 1): 1, ("b", 1): 1}


@pytest.mark.parametrize("damage", ["", "other size", None])
def test_an_output_that_is_gone_stops_the_next_stage_before_its_job(home: Path, damage: str | None) -> None:
    assert drive(campaign_of(home, A)) == 0
    path = RunDir(home / "run").attempt("a", 1, 1).run / "work.txt"
    text = path.read_text()
    path.unlink() if damage is None else path.write_text(damage)
    assert drive(campaign_of(home, A | B)) == 1
    assert str(path) in events(home, "stage")[-1]["message"]
    assert [line["stage"] for line in events(home, "intent")] == ["a"]
    path.write_text(text)
    assert drive(campaign_of(home, A | B), resume=True) == 0


def test_a_resolved_campaign_that_is_gone_is_written_anew(home: Path) -> None:
    assert drive(campaign_of(home, A)) == 0
    path = RunDir(home / "run").campaign
    identity = json.loads(path.read_text())["campaign_id"]
    path.unlink()
    told: list[str] = []
    changed = campaign_of(home, {"a": {"links": 7}} | B)
    assert Driver(changed, on_event=lambda line: told.append(str(line.get("message", "")))).run() == 0
    assert any("was gone; it is written anew" in line for line in told)
    assert json.loads(path.read_text())["campaign_id"] == identity
    assert stored_campaign(RunDir(home / "run")).stages["a"].links == 1, "what has begun keeps its keys"
    assert executions(home) == {("a", 1): 1, ("b", 1): 1}


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("event", ["lease", "intent", "submitted", "settled"])
def test_a_disk_that_fails_in_a_commit_costs_the_driver_and_nothing_else(home: Path, event: str, whole: bool) -> None:
    """The line is left half by a full disk, or whole by one that cannot say whether it stands; then there is room again."""
    with failing_write(f'"event":"{event}"'.encode(), whole=whole), pytest.raises(OSError, match="the disk"):
        drive(campaign_of(home, A))
    assert drive(campaign_of(home, A)) == 0
    assert executions(home) == {("a", 1): 1} and states(home) == {"a": "done"}


def test_a_disk_that_fails_in_a_decision_is_not_the_stages_fault(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "the disk is full")

    campaign = campaign_of(home, A | BEST)
    with monkeypatch.context() as patch:
        patch.setattr(stage_kind("choose"), "decide", full)
        with pytest.raises(OSError, match="the disk is full"):
            drive(campaign)
    assert drive(campaign_of(home, A | BEST)) == 0
    assert executions(home) == {("a", 1): 1} and states(home) == {"a": "done", "best": "done"}


@pytest.mark.parametrize("text", ["[1]", "{}"])
def test_a_resolved_campaign_that_is_none_is_refused(home: Path, text: str) -> None:
    assert drive(campaign_of(home, A)) == 0
    RunDir(home / "run").campaign.write_text(text)
    with pytest.raises(JournalError, match="not a resolved campaign"):
        drive(campaign_of(home, A))


def test_a_stage_that_is_new_in_the_file_is_told_once_and_can_be_cancelled(home: Path) -> None:
    assert drive(campaign_of(home, A)) == 0
    told: list[str] = []
    changed = campaign_of(home, A | {"b": {"needs": ["a"], "plan": ["wait never"]}})
    for _ in range(2):
        assert Driver(changed, on_event=lambda line: told.append(str(line.get("message", "")))).run(once=True) == 4
    assert told.count("the file has changed: stages.b is new") == 1
    cancel(home / "run", "b")
    assert states(home) == {"a": "done", "b": "cancelled"}
