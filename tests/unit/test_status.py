"""Where a campaign stands, out of files that may be missing, torn or of any age."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from made_campaign import MadeCampaign, half, progress, whole
from rich.console import Console

from workflow.approval import leave
from workflow.report.history import histories
from workflow.report.lines import Narrator
from workflow.report.live import View
from workflow.report.status import read_status, status_json
from workflow.rundir import RunDir


def states(folder: Path) -> dict[str, str]:
    return {stage.key: stage.state for stage in read_status(folder).stages}


def picture(folder: Path, width: int = 80, view: View | None = None) -> str:
    console = Console(width=width, record=True, file=open(os.devnull, "w"), highlight=False)  # noqa: SIM115
    console.print((view or View()).render(read_status(folder)))
    console.file.close()
    return console.export_text()


def test_a_finished_campaign_is_done(tmp_path: Path) -> None:
    whole(tmp_path)
    status = read_status(tmp_path)
    assert (status.state, status.driver, status.remarks) == ("done", "ended", ())
    assert set(states(tmp_path).values()) == {"done"}
    assert status.node_hours == pytest.approx(2.4)
    assert status.budget == 20
    painn = next(stage for stage in status.stages if stage.key == "painn")
    assert (painn.link, painn.attempt, painn.attempts, painn.cause) == (2, 2, 3, "")
    assert painn.trials is not None
    assert (painn.trials.done, painn.trials.stopped, painn.trials.failed) == (18, 2, {"diverged": 2, "oom": 2})
    assert painn.objective == pytest.approx(min(row["objective"] for row in trials_of(tmp_path) if row["status"] == "done"))


def test_a_campaign_at_work_shows_what_runs_and_what_waits(tmp_path: Path) -> None:
    half(tmp_path)
    status = read_status(tmp_path)
    assert (status.state, status.driver) == ("unfinished", "at work")
    assert states(tmp_path) == {
        "data": "done", "painn": "running", "egnn": "queued", "best": "waiting", "train/1": "waiting", "train/2": "waiting",
        "lead": "waiting", "tune": "waiting", "weights": "waiting", "screen": "waiting",
    }  # fmt: skip
    painn = status.stages[1]
    assert (painn.link, painn.objective, painn.work.time_left_s) == (1, 0.4321, 754.0)
    assert [task.name for task in painn.work.tasks] == ["trial-0013", "trial-0014", "trial-0012"]
    assert status.stages[3].waits_for == ("painn", "egnn")


def test_an_agent_is_called_silent_by_the_observers_own_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, view, now = half(tmp_path), View(), [1000.0]
    monkeypatch.setattr("workflow.report.live.time.monotonic", lambda: now[0])
    assert "silent" not in picture(tmp_path, view=view)
    now[0] += 45
    assert "silent for 45 s" in picture(tmp_path, view=view)
    made.beat("painn", count=8)
    assert "silent" not in picture(tmp_path, view=view)


def test_files_tell_more_than_a_dead_drivers_journal(tmp_path: Path) -> None:
    made = MadeCampaign(tmp_path)
    made.begin("data", running=False)
    assert states(tmp_path)["data"] == "queued"
    made.attempt("data", 1, 1).run.mkdir(parents=True)
    made.beat("data")
    assert states(tmp_path)["data"] == "running"
    made.attempt("data", 1, 1).receipt.write_text(json.dumps({"status": "done", "result": {}}))
    assert states(tmp_path)["data"] == "ending"


def test_a_failed_stage_blocks_what_waits_for_it(tmp_path: Path) -> None:
    made = MadeCampaign(tmp_path)
    made.begin("data")
    made.end("data", "failed", cause="bug", message="no file\nwith a second line")
    assert read_status(tmp_path).state == "unfinished"
    assert states(tmp_path)["data"] == "retrying"
    made.journal.commit("stage", stage="data", state="failed", cause="bug", message="no file")
    status = read_status(tmp_path)
    assert (status.state, status.stages[0].cause, status.stages[0].message) == ("failed", "bug", "no file")
    made.journal.commit("resumed", stage="data")
    assert read_status(tmp_path).state == "unfinished"


def test_a_held_campaign_is_held_only_when_nothing_else_moves(tmp_path: Path) -> None:
    made = MadeCampaign(tmp_path)
    made.begin("data")
    made.end("data", "done", result={"branches": {}})
    made.journal.commit("stage", stage="painn", state="held", cause="approval", message="over budget")
    assert read_status(tmp_path).state == "unfinished"
    made.journal.commit("stage", stage="egnn", state="held", cause="approval", message="over budget")
    assert read_status(tmp_path).state == "held"


def test_a_link_that_was_not_needed_is_no_failure(tmp_path: Path) -> None:
    made = MadeCampaign(tmp_path)
    made.begin("train/1")
    made.metrics("train/1", "train", 2)
    made.begin("train/1", 2, running=False)
    made.journal.commit(
        "settled", token="gfm-0002", stage="train/1", link=2, attempt=1, status="failed", cause=None, message="", node_hours=0
    )
    assert states(tmp_path)["train/1"] == "running"


@pytest.mark.parametrize("missing", ["campaign.json", "journal", "stages", "heartbeat.json", "receipt.json"])
def test_whatever_is_missing_the_rest_is_shown(tmp_path: Path, missing: str) -> None:
    half(tmp_path)
    for path in [tmp_path / missing, *tmp_path.rglob(missing)]:
        if path.is_dir():
            path.rename(tmp_path.parent / f"{tmp_path.name}-away")
        elif path.is_file():
            path.unlink()
    status = read_status(tmp_path)
    assert status.stages[0].key == "data"
    assert picture(tmp_path)


@pytest.mark.parametrize(
    "instances",
    [7, "ab", {"a": 1}, ["a"], [{}], [{"key": "a", "nodes": 1e400}], [{"key": "a", "spec": [1]}], [{"key": "a", "needs": 7}]],
)
def test_a_resolved_campaign_with_stages_that_make_no_sense_is_remarked(tmp_path: Path, instances: object) -> None:
    (tmp_path / "campaign.json").write_text(json.dumps({"name": "x", "instances": instances}))
    status = read_status(tmp_path)
    assert any("not a resolved campaign" in remark for remark in status.remarks) and status.state == "empty"


@pytest.mark.parametrize("damaged", ["campaign.json", "heartbeat.json", "receipt.json", "1.jsonl"])
@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"\xff\xfe"])
def test_damaged_files_are_remarked_and_never_raise(tmp_path: Path, damaged: str, content: bytes) -> None:
    half(tmp_path)
    for path in tmp_path.rglob(damaged):
        path.write_bytes(content)
    status = read_status(tmp_path)
    assert status.remarks or damaged == "1.jsonl"
    assert picture(tmp_path)


def test_an_empty_or_absent_folder_has_a_status(tmp_path: Path) -> None:
    assert read_status(tmp_path).state == "empty"
    assert read_status(tmp_path / "none").state == "empty"


def test_the_status_goes_through_json(tmp_path: Path) -> None:
    half(tmp_path)
    fields = json.loads(status_json(read_status(tmp_path)))
    assert fields["state"] == "unfinished"
    assert fields["stages"][1]["trials"]["failed"] == {"diverged": 1, "oom": 2}


def test_ten_thousand_trials_take_no_more_lines_than_ten(tmp_path: Path) -> None:
    made = MadeCampaign(tmp_path)
    made.begin("painn")
    tasks = {f"trial-{n:05d}": {"status": "done", "nodes": ["n1"], "progress": progress(4, 4)} for n in range(10_000)}
    tasks["trial-10000"] = {"status": "running", "nodes": ["n1"], "progress": progress(1, 4)}
    made.beat("painn", tasks=tasks, progress={"trials": {"total": 20_000, "done": 10_000, "running": 1}})
    status = read_status(tmp_path)
    assert len(status.stages[1].work.tasks) == 10_001
    assert status.stages[1].work.tasks[0].name == "trial-10000"
    assert len(picture(tmp_path).splitlines()) < 20


def test_events_are_told_in_human_words(tmp_path: Path) -> None:
    made = half(tmp_path)
    narrator = Narrator()
    lines = [line[9:] for event in made.journal.events if (line := narrator.tell(event))]
    assert lines[:6] == [
        "campaign gfm begins",
        "data: asking for 1 node for 00:30:00",
        "data: queued as job 1001",
        "data: running",
        "data: done (0.2 node-hours)",
        "stage data: done",
    ]
    assert "painn link 2: queued as job 1003" in lines
    made.attempt("egnn", 1, 1).run.mkdir(parents=True)
    made.end("egnn", "failed", cause="node_failure", message="node2 is dead")
    assert narrator.tell(made.journal.events[-1])[9:] == "egnn: failed, node_failure: node2 is dead (0.2 node-hours)"  # type: ignore[index]


def test_unknown_events_are_passed_over() -> None:
    assert histories([{"event": "from the future", "t": 0.0, "token": "x"}]) == {}
    assert Narrator().tell({"event": "from the future", "t": 0.0}) is None


def trials_of(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(RunDir(folder).stage_receipt("painn").read_text())["result"]["trials"]
    return rows


def test_a_link_behind_the_one_that_finished_is_not_shown(tmp_path: Path) -> None:
    made = MadeCampaign(tmp_path)
    made.begin("train/1")
    made.end("train/1", "done", result={"objective": 0.25}, roles=["checkpoint"])
    made.begin("train/1", 2)
    assert [(s.link, s.state, s.objective) for s in read_status(tmp_path).stages if s.key == "train/1"] == [(1, "done", 0.25)]
    made.end("train/1", "done", 2)
    assert [(s.link, s.objective) for s in read_status(tmp_path).stages if s.key == "train/1"] == [(1, 0.25)]


def test_an_attempt_that_was_not_needed_is_told_without_alarm() -> None:
    narrator = Narrator()
    narrator.tell({"event": "intent", "stage": "train/1", "link": 2, "attempt": 1, "token": "x", "nodes": 2, "walltime_s": 60})
    line = narrator.tell(
        {
            "event": "settled",
            "token": "x",
            "status": "failed",
            "cause": None,
            "message": "cancelled before it started",
            "node_hours": 0,
        }
    )
    assert line is not None
    assert line[9:] == "train/1 link 2: not needed any more, cancelled before it started (0 node-hours)"


def test_what_a_stage_that_is_done_remarks_is_shown(tmp_path: Path) -> None:
    made = MadeCampaign(tmp_path)
    made.begin("data")
    made.end("data", "done")
    made.journal.commit("stage", stage="data", state="done", cause=None, message="a has no structure to validate on")
    assert read_status(tmp_path).stages[0].message == "a has no structure to validate on"
    assert "a has no structure to validate on" in picture(tmp_path)


def test_an_approval_that_waits_to_be_taken_in_is_shown(tmp_path: Path) -> None:
    made = MadeCampaign(tmp_path)
    made.begin("data")
    made.end("data", "done", result={"branches": {}}, node_hours=19.9)
    for key in ("painn", "egnn"):
        made.journal.commit("stage", stage=key, state="held", cause="approval", message="over budget")
    made.journal.close()
    before = read_status(tmp_path)
    assert (before.approved, before.to_take_in, before.stages[1].approved) == (20, None, False)
    leave(RunDir(tmp_path), "painn", 7.0)
    status = read_status(tmp_path)
    assert (status.approved, status.to_take_in) == (20, 27)
    assert [(stage.key, stage.approved) for stage in status.stages if stage.state == "held"] == [("painn", True), ("egnn", False)]
    shown = " ".join(picture(tmp_path, width=120).split())
    assert "approved; waits for a driver to take it in" in shown and "27 with what was approved and is not taken in yet" in shown
    assert "no driver is at work to take it in; go on with: campaign run" in shown
    assert "campaign approve egnn" in shown and "campaign approve painn" not in shown
    (tmp_path / "approvals" / "torn.json").write_text("{")
    assert any("torn.json: not an approval" in remark for remark in read_status(tmp_path).remarks)
