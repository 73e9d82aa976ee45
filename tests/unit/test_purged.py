"""What becomes of a campaign whose attempts' folders were deleted, or purged by the file system, between two drivers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from login import wait
from toy.world import campaign_of, drive, executions, killed_at, site_file, states

from workflow.batch import fence
from workflow.cancel import cancel
from workflow.rundir import AttemptDir, RunDir


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAMPAIGN_SITES", str(site_file(tmp_path)))
    return tmp_path


def purge(home: Path, below: str = "") -> None:
    shutil.rmtree(RunDir(home / "run").stage("a") / below)


@pytest.mark.parametrize("below", ["", "link-1", "link-1/attempt-1"])
def test_a_stage_whose_failed_attempt_is_gone_is_tried_again(home: Path, below: str) -> None:
    campaign = campaign_of(home, {"a": {"plan": ["fail bug", "done"]}})
    assert drive(campaign) == 1
    purge(home, below)
    assert drive(campaign) == 1, "nothing is asked for"
    assert drive(campaign, resume=True) == 0
    assert states(home) == {"a": "done"} and executions(home) == {("a", 1): 2}


def test_an_attempt_that_is_gone_is_fenced_and_asked_to_stop(tmp_path: Path) -> None:
    for number, act in enumerate((fence.take, fence.ask_to_stop)):
        attempt = AttemptDir(tmp_path / str(number) / "link-1" / "attempt-1")
        act(attempt)
        assert attempt.root.is_dir()
    assert fence.is_barred(AttemptDir(tmp_path / "0" / "link-1" / "attempt-1")) and attempt.stop.exists()


@pytest.mark.parametrize("point", ["after intent", "after id"])
def test_an_attempt_that_is_gone_before_its_job_began_is_made_again(home: Path, point: str) -> None:
    campaign = campaign_of(home, {"hog": {"plan": ["wait go+done"], "nodes": 2}, "a": {"nodes": 2}})
    assert killed_at(home, point, 2)
    purge(home)
    (home / "run" / "go").touch()
    assert drive(campaign) == 0
    assert states(home) == {"hog": "done", "a": "done"} and executions(home) == {("hog", 1): 1, ("a", 1): 1}


def test_a_job_whose_folder_is_gone_can_be_cancelled(home: Path) -> None:
    campaign_of(home, {"a": {"plan": ["wait never+done"]}})
    assert killed_at(home, "after id")
    wait(lambda: bool(executions(home)))
    purge(home, "link-1/attempt-1")
    cancel(home / "run")
    assert states(home) == {"a": "cancelled"}
