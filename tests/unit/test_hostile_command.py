"""Clumsy and hostile arguments: each is answered with what, where and remedy, and nothing is made of a slip of the pen."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from made_campaign import MadeCampaign, whole
from test_cli import home, run

from workflow.cli import campaign
from workflow.errors import JournalError
from workflow.journal import read_events
from workflow.rundir import RunDir

__all__ = ["home"]


@pytest.mark.parametrize("command", ["init quickstart", "schema", "report my.yaml"])
def test_a_folder_is_no_file_to_write(command: str, home: Path) -> None:
    (home / "there").mkdir()
    told = run(*command.split(), "--into", "there", code=2).stderr
    assert "there: that is a folder, and a file is to be written" in told and "Name a file in it with --into." in told
    assert not list((home / "there").iterdir())
    assert "no such folder" in run(*command.split(), "--into", "none/x", code=2).stderr


@pytest.mark.parametrize(
    "command", ["env build --into", "rehearse my.yaml --into", "sites test local --into", "plan my.yaml --scripts"]
)
def test_folders_are_not_made_out_of_a_slip_of_the_pen(command: str, home: Path) -> None:
    told = run(*command.split(), "nosuch/folder", code=2).stderr
    assert "nosuch: no such folder" in told and f"another name with {command.split()[-1]}." in told
    assert not (home / "nosuch").exists()
    assert "a.xyz: that is a file, and a folder is to be written" in run(*command.split(), "a.xyz", code=2).stderr


def test_a_device_is_not_replaced_by_a_file(home: Path) -> None:
    os.mkfifo(home / "pipe")
    assert "pipe: that is no plain file" in run("init", "quickstart", "--into", "pipe", "--force", code=2).stderr
    assert (home / "pipe").is_fifo()


def test_lines_are_counted_from_none_on(home: Path) -> None:
    assert "-5 is not in the range x>=0" in run("logs", "data", "-n", "-5", code=2).stderr


def test_one_broken_site_does_not_hide_the_others(home: Path) -> None:
    overlay = home / "config" / "campaign" / "sites" / "aurora.yaml"
    overlay.parent.mkdir(parents=True)
    overlay.write_text("nodse: 3\n")
    result = run("sites", "list", code=2)
    assert "frontier" in result.stdout and "perlmutter" in result.stdout and "aurora" not in result.stdout
    assert "aurora: not listed, its file or your overlay is broken" in result.stderr
    assert f"(with {overlay}): nodse: no key 'nodse' here" in result.stderr


def test_of_what_has_ended_there_is_nothing_to_cancel(home: Path) -> None:
    whole(home / "runs" / "gfm")
    before = sorted(home.rglob("*"))
    told = run("cancel", "-c", "runs/gfm", "--yes").output
    assert told.startswith("nothing to cancel: data is done, painn is done") and told.count("\n") == 1
    assert run("cancel", "painn", "-c", "runs/gfm", "--yes").output == "nothing to cancel: painn is done\n"
    assert sorted(home.rglob("*")) == before


def test_garbage_in_a_journal_is_cut_and_cannot_write_to_the_terminal(home: Path) -> None:
    made = MadeCampaign(home / "runs" / "gfm")
    made.begin("data")
    made.journal.commit("settled", token="gfm-0001", status="\x1b[2J" + "x" * 5000, cause=None, message="", node_hours=0.1)
    made.journal.close()
    result = CliRunner().invoke(campaign, ["status", "runs/gfm"], env={"COLUMNS": "1000"})
    assert "is not understood: '\\x1b[2Jxxx" in result.output and "\x1b[2J" not in result.output
    assert all(len(line) < 500 for line in result.output.splitlines())
    first = home / "runs" / "gfm" / "journal" / "1.jsonl"
    first.write_text('{"before":"' + "9" * 30 + "g" * 4000 + '","length":0,"accepted":"x"}\n')
    result = CliRunner().invoke(campaign, ["status", "runs/gfm"], env={"COLUMNS": "1000"})
    assert "damaged first line" in result.output and all(len(line) < 500 for line in result.output.splitlines())
    with pytest.raises(JournalError) as caught:
        read_events(RunDir(home / "runs" / "gfm"))
    assert len(caught.value.what) < 300, "this is what `run` and `cancel` tell"


def test_a_message_cannot_write_to_the_terminal(home: Path) -> None:
    made = MadeCampaign(home / "runs" / "gfm")
    made.begin("data")
    made.journal.commit("stage", stage="data", state="failed", cause="bug", message="\x1b[2Jgone")
    assert "\\x1b[2Jgone" in run("status", "runs/gfm").output
