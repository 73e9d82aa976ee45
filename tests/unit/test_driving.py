"""Driving from a terminal: what is shown on the way and at the end, and the exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from toy.world import campaign_of, site_file
from toy.world import drive as drive_without_a_word

from workflow.report.driving import drive


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAMPAIGN_SITES", str(site_file(tmp_path)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("live", [True, False])
def test_what_is_held_is_shown_with_the_command_that_approves_it(
    home: Path, capsys: pytest.CaptureFixture[str], live: bool
) -> None:
    campaign = campaign_of(home, {"a": {}, "big": {"nodes": 2, "walltime": "01:00"}}, budget={"node_hours": 1})
    drive_without_a_word(campaign, once=True)
    assert drive(campaign, once=False, resume=False, live=live) == 3
    text = capsys.readouterr().out
    assert "big  held      its next job may cost 2 node-hours" in text
    assert "approve it with: campaign approve big -c toy.yaml" in text
    assert "a    done" in text


def test_a_driver_that_comes_back_says_what_it_finds(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    campaign = campaign_of(home, {"a": {"plan": ["wait go+done"], "links": 7}})
    drive_without_a_word(campaign, once=True)
    (home / "run" / "go").touch()
    assert drive(campaign, once=False, resume=False, live=False) == 0
    first = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("going on, as last seen: a "))
    assert "a link 2 waits as job 2" in first and first.endswith(", and 2 more")


def test_a_report_that_cannot_be_written_changes_no_exit_code(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("workflow.report.html.write_report", fail)
    campaign = campaign_of(home, {"a": {}})
    drive_without_a_word(campaign, once=True)
    assert drive(campaign, once=False, resume=False, live=False) == 0
    assert (
        "no report: OSError(28, 'No space left on device'); try again with: campaign report toy.yaml" in capsys.readouterr().err
    )
