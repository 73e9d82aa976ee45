"""A campaign's folder that stood before: it is closed to all others, and what another user left in it is not taken."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner
from toy.world import campaign_of, drive, events, executions, site_file, states

from workflow.approval import leave, read_approval
from workflow.books import Books
from workflow.cancel import cancel
from workflow.cli import campaign as commands
from workflow.driver import Driver
from workflow.errors import ConfigError
from workflow.ownership import close, is_ours
from workflow.rundir import RunDir

STRANGER = 65534
BIG = {"big": {"nodes": 2, "walltime": "01:00"}}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files to another user")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CAMPAIGN_SITES", str(site_file(tmp_path)))
    return tmp_path


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("before", "after"), [(0o775, 0o700), (0o2770, 0o2700), (0o700, 0o700), (0o500, 0o500)])
def test_a_folder_that_stood_is_closed_and_keeps_its_group(tmp_path: Path, before: int, after: int) -> None:
    root = tmp_path / "run"
    root.mkdir()
    root.chmod(before)
    close(RunDir(root))
    assert mode_of(root) == after


def test_a_folder_that_cannot_be_closed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    tmp_path.chmod(0o750)
    monkeypatch.setattr(Path, "chmod", refused)
    with pytest.raises(ConfigError, match="cannot be closed: Operation not permitted") as caught:
        close(RunDir(tmp_path))
    assert "chmod 700" in caught.value.remedy


@as_root
@pytest.mark.parametrize("name", ["", "campaign.json", "journal", "journal/1.jsonl"])
def test_a_folder_or_a_record_of_another_user_is_refused(home: Path, name: str) -> None:
    assert drive(campaign_of(home, {"a": {}})) == 0
    path = home / "run" / name
    os.chown(path, STRANGER, STRANGER)
    with pytest.raises(ConfigError, match=f"another user \\(uid {STRANGER}\\)") as caught:
        drive(campaign_of(home, {"a": {}, "b": {}}))
    assert caught.value.where == str(path) and executions(home) == {("a", 1): 1}


@as_root
def test_an_approval_of_another_user_is_told_of_and_not_taken(home: Path) -> None:
    root = home / "run"
    root.mkdir(mode=0o775)
    root.chmod(0o775)
    campaign = campaign_of(home, BIG, budget={"node_hours": 1.5})
    assert drive(campaign) == 3
    assert mode_of(root) == 0o700
    path = RunDir(root).approvals / f"{leave(RunDir(root), None, 1e9).id}.json"
    os.chown(path, STRANGER, STRANGER)
    told: list[str] = []
    assert Driver(campaign, on_event=lambda event: told.append(str(event.get("message")))).run() == 3
    assert sum("not an approval of yours" in line for line in told) == 1
    assert not events(home, "approved") and not executions(home)
    assert Books(root).total == 1.5


@as_root
@pytest.mark.parametrize("is_folder", [False, True])
def test_a_wish_to_cancel_that_is_none_of_ours_is_told_of_and_left(home: Path, is_folder: bool) -> None:
    campaign = campaign_of(home, {"a": {"plan": ["fail bug", "done"]}})
    assert drive(campaign) == 1
    wish = RunDir(home / "run").stage_cancel("a")
    wish.mkdir() if is_folder else wish.touch()
    os.chown(wish, 0 if is_folder else STRANGER, STRANGER)
    with pytest.raises(ConfigError, match="no file of yours can be made there"):
        cancel(home / "run")
    told: list[str] = []
    assert Driver(campaign, on_event=lambda event: told.append(str(event.get("message")))).run(resume=True) == 0
    assert sum("cancels nothing" in line for line in told) == 1
    assert states(home) == {"a": "done"} and wish.exists() and not is_ours(wish)


def test_a_link_is_no_approval(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path)
    path = rundir.approvals / f"{leave(rundir, None, 5.0).id}.json"
    assert read_approval(path).node_hours == 5.0
    path.symlink_to(path.rename(tmp_path / "elsewhere.json"))
    with pytest.raises(ConfigError, match="not an approval of yours"):
        read_approval(path)


@pytest.mark.parametrize("text", ["{", json.dumps({"id": "0", "stage": None, "node_hours": -1})])
def test_the_command_passes_over_what_is_no_approval(home: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(home)
    campaign = campaign_of(home, BIG, budget={"node_hours": 1.5})
    assert drive(campaign) == 3
    approvals = RunDir(home / "run").approvals
    approvals.mkdir()
    (approvals / "0.json").write_text(text)
    result = CliRunner().invoke(commands, ["approve", "big"])
    assert result.exit_code == 0, result.output
    assert "0.json: not an approval" in result.output and "It is passed over" in result.output
    assert drive(campaign) == 0
