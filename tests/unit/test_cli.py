"""The command: help, templates, errors and exit codes, logs, and what it may load."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from made_campaign import MadeCampaign, half, whole

from model.outcome import CampaignError
from workflow.cli import campaign
from workflow.report.logs import print_logs
from workflow.report.terminal import print_results, sign_of_life
from workflow.templates import templates

ROOT = Path(__file__).parents[2]
FILE = """\
name: first
branches: {a: {reader: extxyz, path: a.xyz}}
stages:
  data: {kind: convert, nodes: 1}
  train: {kind: train, needs: [data], backbone: painn, nodes: 2, links: 3, walltime: 02:00}
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("CONFIG", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name.lower()))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text(FILE)
    (tmp_path / "a.xyz").write_text('1\nProperties=species:S:1:pos:R:3 energy=-1.0 pbc="F F F"\nH 0 0 0\n')
    return tmp_path


def run(*args: str, code: int = 0) -> Result:
    result = CliRunner().invoke(campaign, list(args))
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


def python(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True, timeout=60)
    return done.stdout


@pytest.mark.parametrize("name", list(campaign.commands))
def test_every_command_has_help_with_examples(name: str) -> None:
    text = run(name, "--help").output
    assert "Examples:" in text
    assert f"  campaign {name}" in text


def test_the_commands_stand_in_the_order_of_use() -> None:
    names = ["init", "check", "plan", "run", "resume", "status", "approve", "cancel", "logs", "report"]
    assert [name for name in campaign.commands if name in names] == names


def test_a_template_is_written_once(home: Path) -> None:
    name = next(iter(templates()), None)
    if name is None:
        pytest.skip("no campaign is packaged yet")
    assert name in run("init").output
    run("init", name, "--into", "new.yaml")
    assert not re.search(r"(path|folder): .?\.\./", (home / "new.yaml").read_text()), "data and runs lie beside the copy"
    (home / "new.yaml").write_text("mine")
    assert "a file stands there" in run("init", name, "--into", "new.yaml", code=2).stderr
    assert (home / "new.yaml").read_text() == "mine"
    run("init", name, "--into", "new.yaml", "--force")
    assert (home / "new.yaml").read_text() != "mine"


def test_an_unknown_template_is_refused(home: Path) -> None:
    assert "no template 'nothing-like-it'" in run("init", "nothing-like-it", code=2).stderr


def test_check_tells_all_and_ends_with_two(home: Path) -> None:
    assert run("check", "my.yaml", "--no-models").output.endswith("my.yaml: nothing wrong\n")
    (home / "my.yaml").write_text(FILE.replace("painn", "pain").replace("kind: convert", "kind: convrt"))
    text = run("check", "my.yaml", "--no-models", code=2).stderr
    assert "stages.data.kind: no stage kind 'convrt'" in text
    assert text.endswith("my.yaml: 1 problem\n")  # what rests on `data` is not looked at yet


def test_what_takes_long_gives_a_sign_of_life_in_a_pipe_too(capsys: pytest.CaptureFixture[str]) -> None:
    with sign_of_life("checking [bold]my.yaml") as tell:
        tell("[red]half")
    assert capsys.readouterr() == ("", "[red]half\n")


def test_plan_prints_the_table_and_the_total() -> None:
    text = run("plan", "my.yaml").output
    assert "\ntrain  " in text
    assert "at most 12.5 node-hours when no link is repeated; no budget is set" in text
    fields = json.loads(run("plan", "my.yaml", "--json").output)
    assert (fields["node_hours"], fields["stages"][1]["queue"]) == (12.5, "local")


def test_a_refused_plan_ends_with_two(home: Path) -> None:
    (home / "my.yaml").write_text(FILE.replace("nodes: 2", "nodes: 4"))
    text = run("plan", "my.yaml", code=2).output
    assert "refused: train: 4 nodes asked, local has 2" in text
    assert "This would fit: on: {local: {nodes: 2, links: 6}}" in text


def test_an_error_is_what_where_remedy_and_no_more(home: Path) -> None:
    text = run("plan", "none.yaml", code=2).stderr
    assert text == "error: none.yaml: no such file\n  Give the path of a campaign file; `campaign init` writes one.\n"
    assert not (home / "state").exists(), "a user's error leaves no traceback behind"
    text = run("--debug", "plan", "none.yaml", code=2).stderr
    assert text.startswith("Traceback") and "ConfigError" in text


def test_a_fault_of_the_program_says_so_and_where_the_traceback_is(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half(home / "runs" / "gfm")

    def fail(_: object) -> None:
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr("workflow.report.live.show", fail)
    text = run("status", "runs/gfm", code=2).stderr
    kept = Path("runs/gfm/traceback.log")
    assert text.startswith("error: ZeroDivisionError: of ours\n  This is a fault of the program, not of your file.\n")
    assert str(kept) in text
    assert "in fail" in kept.read_text()


def test_run_refuses_a_faulty_campaign_before_anything_is_made(home: Path) -> None:
    (home / "a.xyz").unlink()
    assert "branches.a.path: no such file" in run("run", "my.yaml", code=2).stderr
    assert not (home / "runs").exists()


def test_status_finds_the_campaign_by_file_folder_or_place(home: Path) -> None:
    half(home / "runs" / "first")
    wanted = run("status", "my.yaml").output
    assert "trial-0013" in wanted
    assert run("status", "runs/first").output == run("status").output == wanted
    assert json.loads(run("status", "--json").output)["name"] == "gfm"
    half(home / "runs" / "second")
    assert "2 campaigns here: runs/first, runs/second" in run("status", code=2).stderr


def test_status_before_the_first_run_says_how_to_start() -> None:
    assert run("status", "my.yaml").output == "first: not started\nstart it with: campaign run my.yaml\n"
    fields = json.loads(run("status", "my.yaml", "--json").output)
    assert (fields["state"], fields["driver"], fields["remarks"]) == ("empty", "ended", [])


def test_status_reads_a_folder_named_by_a_path_of_the_site(home: Path) -> None:
    overlay = home / "config" / "campaign" / "sites"
    overlay.mkdir(parents=True)
    (overlay / "local.yaml").write_text(f"paths: {{scratch: {home}/scratch}}\n")
    (home / "my.yaml").write_text(f'folder: "{{scratch}}/{{name}}"\n{FILE}')
    half(home / "scratch" / "first")
    assert "trial-0013" in run("status", "my.yaml").output


def test_watching_a_finished_campaign_ends(home: Path) -> None:
    whole(home / "runs" / "gfm")
    assert "screen:done" in run("status", "--watch").output


def test_status_and_help_load_neither_torch_nor_parsl_nor_matplotlib(home: Path) -> None:
    half(home / "runs" / "gfm")
    heavy = {"torch", "parsl", "deephyper", "matplotlib", "numpy"}
    for args in (["--help"], ["status", str(home / "runs" / "gfm")]):
        code = (
            f"import sys; sys.argv = ['campaign', *{args}]\nfrom workflow.cli import main\ntry: main()\nexcept SystemExit: pass\n"
            f"print('loaded', sorted({{m.split('.')[0] for m in sys.modules}} & {heavy}))"
        )
        assert python(code).splitlines()[-1] == "loaded []"


def test_logs_of_a_job_and_of_a_task(home: Path) -> None:
    made = half(home / "runs" / "gfm")
    attempt = made.attempt("painn", 1, 1)
    attempt.log.write_text("".join(f"line {n}\n" for n in range(100)))
    task = attempt.tasks / "trial-0001"
    task.mkdir()
    (task / "stderr.log").write_text("out of memory\n")
    text = run("logs", "painn", "-n", "3").output
    assert "line 97\nline 98\nline 99\n" in text
    assert "line 96" not in text
    assert "--task NAME): trial-0001" in text
    text = run("logs", "painn", "--task", "trial-0001").output
    assert "stdout.log\nnot written yet\n" in text
    assert "out of memory" in text
    (task / "stdout.log").touch()
    assert "stdout.log\nempty: it had nothing to say\n" in run("logs", "painn", "--task", "trial-0001").output
    for again in ("trial-0001-9", "trial-0001-10", "trial-0001-x", "trial-00012"):
        (attempt.tasks / again).mkdir()
        (attempt.tasks / again / "stderr.log").write_text(f"from {again}\n")
    text = run("logs", "painn", "--task", "trial-0001").output
    assert "from trial-0001-10\n" in text and "out of memory" not in text  # the newest run of the trial
    assert "from trial-0001-9\n" in run("logs", "painn", "--task", "trial-0001-9").output


def test_logs_of_what_is_not_there(home: Path) -> None:
    half(home / "runs" / "gfm").begin("train/1")
    assert "Stages that had jobs: data, painn, train/1." in run("logs", "best", code=2).stderr
    assert "no task 'x'" in run("logs", "painn", "--task", "x", code=2).stderr
    assert "no task '../..'" in run("logs", "painn", "--task", "../..", code=2).stderr


def test_folders_that_are_no_attempts_are_passed_over(home: Path) -> None:
    made = half(home / "runs" / "gfm")
    for strange in ("link-1/attempt-x", "link-a/attempt-1", "link-1/attempt-2.bak"):
        (made.rundir.stage("painn") / strange).mkdir(parents=True)
    assert "link-1/attempt-1/job.log" in run("logs", "painn").output


def test_a_screening_that_ranks_nothing_says_why(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = MadeCampaign(home / "c")
    made.begin("screen")
    made.end("screen", "done", result={"count": 5, "flagged": 5, "top": []})
    print_results(home / "c")
    assert "screen: nothing is ranked; 5 candidates hold elements" in capsys.readouterr().out


def test_results_are_printed_as_tables(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole(home / "c")
    print_results(home / "c")
    told = capsys.readouterr().out
    assert "Errors of train/1 on test" in told and "Errors of tune, on the test split" in told and "scarce" in told


def test_following_a_log_ends_with_the_receipt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = MadeCampaign(tmp_path / "c")
    made.begin("data")
    attempt = made.attempt("data", 1, 1)
    attempt.log.write_text("first\n")

    def go_on() -> None:
        with open(attempt.log, "a") as file:
            file.write("second\n")
        made.end("data", "done")

    timer = threading.Timer(0.3, go_on)
    timer.start()
    print_logs(tmp_path / "c", "data", None, lines=10, follow=True)
    timer.join()
    assert "first\n" in (out := capsys.readouterr().out)
    assert out.endswith("second\n")


def test_report_writes_where_it_is_told(home: Path) -> None:
    whole(home / "runs" / "gfm")
    assert run("report").output == f"wrote {home}/runs/gfm/report.html\n"
    run("report", "runs/gfm", "--into", "mine.html")
    assert (home / "mine.html").read_text().startswith("<!doctype html>")


def test_cancel_asks_before_it_acts(home: Path) -> None:
    half(home / "runs" / "gfm")
    result = CliRunner().invoke(campaign, ["cancel", "painn"], input="n\n")
    assert result.exit_code == 1
    assert "Cancel painn of" in result.output
    assert not list(home.rglob("cancel*"))


def test_an_error_on_a_full_disk_is_still_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from workflow.report.fault import tell

    monkeypatch.setenv("XDG_STATE_HOME", "/proc/none")
    tell(ZeroDivisionError("x"), None)
    assert "ZeroDivisionError: x" in capsys.readouterr().err
    tell(OSError(28, "No space left on device", "/full/file"), None)
    assert "error: /full/file: No space left on device\n  See to space" in capsys.readouterr().err
    tell(CampaignError("what", "where", "remedy"), None)
    assert capsys.readouterr().err == "error: where: what\n  remedy\n"


def test_a_reader_that_leaves_is_no_fault(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half(home / "runs" / "gfm")

    def leave(_: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("workflow.report.live.show", leave)
    assert run("status", "runs/gfm", code=1).stderr == ""


def test_a_file_system_that_evicts_is_no_reader_that_leaves(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python calls both a broken pipe."""
    half(home / "runs" / "gfm")

    def evicted(_: object) -> None:
        raise OSError(errno.ESHUTDOWN, os.strerror(errno.ESHUTDOWN), "/lustre/file")

    monkeypatch.setattr("workflow.report.live.show", evicted)
    assert "error: /lustre/file: Cannot send after transport endpoint shutdown" in run("status", "runs/gfm", code=2).stderr


def test_the_module_runs_as_the_command() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "workflow", "--version"], capture_output=True, text=True, env=environment, timeout=60, check=True
    )
    assert done.stdout.startswith("campaign, version 0.")


def test_logs_pass_over_a_link_that_had_nothing_to_do(home: Path) -> None:
    half(home / "runs" / "gfm")
    links = home / "runs" / "gfm" / "stages" / "painn"
    (links / "link-1" / "attempt-1" / "run" / "tasks" / "trial-3").mkdir(parents=True)
    (links / "link-9" / "attempt-1").mkdir(parents=True)
    assert "trial-3" in run("logs", "painn").output
    assert "link-1/attempt-1/run/tasks/trial-3" in run("logs", "painn", "--task", "trial-3").output
