"""Commands that take a stage: what they say to one who names the campaign there, or a stage that is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from made_campaign import half

from workflow.cli import campaign


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text("name: gfm\n")
    half(tmp_path / "runs" / "gfm")
    return tmp_path


def run(*args: str, code: int) -> Result:
    result = CliRunner().invoke(campaign, list(args))
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


@pytest.mark.parametrize("named", ["my.yaml", "runs/gfm", "absent.yaml"])
@pytest.mark.parametrize("usage", ["approve [STAGE]", "cancel [STAGE]", "logs STAGE"])
def test_a_campaign_in_the_place_of_a_stage_is_told_with_the_way_to_name_it(usage: str, named: str) -> None:
    told = run(usage.split()[0], named, code=2)
    assert f"'{named}' names a campaign, and a stage is asked for here" in told.stderr
    assert f"campaign {usage} -c {named}" in told.stderr
    assert "[y/N]" not in told.output


def test_the_campaign_named_by_the_option_is_the_one_told() -> None:
    assert "campaign cancel [STAGE] -c runs/gfm" in run("cancel", "my.yaml", "-c", "runs/gfm", code=2).stderr


def test_files_and_folders_called_as_a_stage_hide_no_stage(home: Path) -> None:
    (home / "data").touch()
    assert "attempt-1/job.log" in run("logs", "data", code=0).output
    (home / "painn").mkdir()
    assert "attempt-1/job.log" in run("logs", "painn", code=0).output
    half(home / "painn")
    assert "'painn' names a campaign" in run("logs", "painn", code=2).stderr
    assert "gfm/stages/painn/" in run("logs", "painn", "-c", "runs/gfm", code=0).output


@pytest.mark.parametrize(("command", "name"), [("cancel", ""), ("logs", ""), ("cancel", "x" * 5000)])
def test_a_name_that_can_be_none_is_a_stage_that_is_none(
    home: Path, monkeypatch: pytest.MonkeyPatch, command: str, name: str
) -> None:
    monkeypatch.chdir(home / "runs" / "gfm")
    assert f"stage '{name}'" in run(command, name, code=2).stderr


def test_cancel_asks_about_no_stage_that_is_none() -> None:
    told = run("cancel", "pain", code=2)
    assert "no stage 'pain'" in told.stderr
    assert "Did you mean 'painn'?" in told.stderr
    assert "[y/N]" not in told.output


def test_cancel_of_nothing_that_has_begun_says_so(home: Path) -> None:
    (home / "new.yaml").write_text("name: new\n")
    assert "no campaign has begun here" in run("cancel", "-c", "new.yaml", "--yes", code=2).stderr
