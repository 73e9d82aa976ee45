"""The driver on a login node of a real Slurm dies, or is left without an answer: each job is found, and there is one of it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Command
from slurm.cluster import Cluster
from slurm.world import environment, wait, write_campaign

from model.outcome import read_outcome
from workflow.journal import read_events
from workflow.receipt import read_receipt, verify
from workflow.rundir import RunDir

pytestmark = [pytest.mark.xdist_group("slurm"), pytest.mark.timeout(400)]
TRAIN = {
    "kind": "train",
    "needs": ["data"],
    "nodes": 2,
    "walltime": "00:20:00",
    "epochs": 3,
    "backbone": {"name": "egnn", "hidden": 8, "layers": 1},
    "training": {"batch": 16},
}
OUTAGE_S = 120.0
NEWS = ("intent", "submitted", "started", "settled", "stage")
HANGS = """#!/bin/sh
# sbatch, but for the first call: the controller stops before it, and whoever calls waits in vain for an answer
mkdir {folder}/hung 2>/dev/null && kill -STOP {controller}
exec {sbatch} "$@"
"""


@pytest.fixture
def frontier(slurm: Cluster, tmp_path: Path) -> Iterator[Command]:
    command = Command(tmp_path, environment(slurm, tmp_path))
    yield command
    for process in command.started:
        if process.poll() is None:
            process.kill()
        process.wait()


def folder_of(command: Command) -> RunDir:
    return RunDir(command.folder / "runs" / "pair")


def events(command: Command, *names: str) -> list[dict[str, Any]]:
    folder = folder_of(command)
    return [line for line in read_events(folder) if line["event"] in names] if folder.journal.is_dir() else []


def jobs(slurm: Cluster, command: Command) -> dict[str, str]:
    """Return the states of all jobs that this campaign ever had, by id."""
    lines = slurm.run("sacct", "-XPn", "-S", "now-1days", "-o", "JobID,State,WorkDir").splitlines()
    rows = [line.split("|") for line in lines if str(command.folder) in line]
    return {job_id: state for job_id, state, _ in rows}


def require_one_job(slurm: Cluster, command: Command) -> str:
    """Check from files and accounting alone that the conversion was done once, by one job that the journal knows."""
    (intent,) = events(command, "intent")
    (settled,) = events(command, "settled")
    assert settled["token"] == intent["token"] and settled["status"] == "done", settled
    (job_id,) = [line["job_id"] for line in events(command, "submitted")]
    wait(lambda: jobs(slurm, command) == {job_id: "COMPLETED"})
    receipt = read_receipt(folder_of(command).stage_receipt("data"))
    assert receipt is not None
    assert (receipt.link, receipt.attempt) == (1, 1)
    verify(folder_of(command).root, receipt.outputs)
    return str(job_id)


def die_at(command: Command, file: Path, point: str, nth: int = 1) -> None:
    """Drive in a process that kills itself (-9) the nth time it passes a point."""
    argv = [sys.executable, "-m", "slurm.killed", str(file), point, str(nth)]
    done = subprocess.run(argv, env=command.environment, cwd=command.folder, capture_output=True, text=True, timeout=200)
    assert done.returncode == -9, f"the point was never passed\n{done.stdout}{done.stderr}"


def hanging_sbatch(slurm: Cluster, command: Command) -> Command:
    """Give a command whose first submission finds a controller that stands still."""
    shim = command.folder / "bin" / "sbatch"
    shim.parent.mkdir()
    sbatch = slurm.run("sh", "-c", "command -v sbatch").strip()
    shim.write_text(HANGS.format(folder=command.folder, controller=slurm.pid("slurmctld"), sbatch=sbatch))
    shim.chmod(0o700)
    path = f"{shim.parent}:{command.environment['PATH']}"
    return Command(command.folder, {**command.environment, "PATH": path}, command.started)


@pytest.mark.parametrize(
    ("point", "nth", "settles"),
    [
        ("after submit", 1, False),
        ("after id", 1, True),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ("after intent", 1, False),
                ("before submit", 1, False),
                ("after id", 1, False),
                ("before settle", 1, False),
                ("after submit", 1, True),
                ("before stage receipt", 1, False),
            )
        ),
    ],
)
def test_a_driver_that_is_killed_has_one_job_all_the_same(
    frontier: Command, slurm: Cluster, point: str, nth: int, settles: bool
) -> None:
    """`settles`: the job begins and ends, and Slurm's queue forgets it, before a driver lives again."""
    file = write_campaign(frontier.folder, {})
    die_at(frontier, file, point, nth)
    if settles:
        wait(folder_of(frontier).attempt("data", 1, 1).receipt.exists, 120)
        wait(lambda: not slurm.run("squeue", "-h", "-t", "all", "-o", "%i").split(), 120, every=1)
    frontier("run", file, "--plain", timeout=200)
    require_one_job(slurm, frontier)


def test_a_submission_without_an_answer_is_one_job_for_the_driver_that_waits(frontier: Command, slurm: Cluster) -> None:
    driver = hanging_sbatch(slurm, frontier).start("run", write_campaign(frontier.folder, {}), "--plain")
    try:
        wait(lambda: bool(events(frontier, "submit_unknown")), 120)
        assert not events(frontier, "submitted")
    finally:
        slurm.thaw("slurmctld")
    assert driver.wait(200) == 0, (frontier.folder / "driver.log").read_text()[-3000:]
    require_one_job(slurm, frontier)
    assert [line.get("adopted") for line in events(frontier, "submitted")] == [True], "it was found, not asked for again"


def test_a_driver_that_is_killed_while_it_submits_has_one_job_all_the_same(frontier: Command, slurm: Cluster) -> None:
    file = write_campaign(frontier.folder, {})
    driver = hanging_sbatch(slurm, frontier).start("run", file, "--plain")
    try:
        wait((frontier.folder / "hung").is_dir, 120)
        wait(lambda: slurm.is_frozen("slurmctld"), every=0.05)
        driver.kill()
        driver.wait()
    finally:
        slurm.thaw("slurmctld")
    frontier("run", file, "--plain", timeout=200)
    require_one_job(slurm, frontier)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_runs_goes_on_without_controller_and_accounting(frontier: Command, slurm: Cluster) -> None:
    """Both are away for minutes, in which the training ends and its test is to begin: nobody is at fault."""
    driver = frontier.start("run", write_campaign(frontier.folder, {"train": TRAIN}), "--plain")
    attempt = folder_of(frontier).attempt("train", 1, 1)
    wait((attempt.tasks / "train" / "metrics.jsonl").exists, 200)
    before = jobs(slurm, frontier)
    for daemon in ("slurmctld", "slurmdbd"):
        slurm.kill(daemon)
    back_at = time.monotonic() + OUTAGE_S
    known = events(frontier, *NEWS)
    wait(lambda: bool(events(frontier, "scheduler_silent")), 120)
    wait((attempt.run / "staging" / "2").is_dir, 200)  # what the test needs is to be brought to the nodes
    wait(lambda: time.monotonic() > back_at, OUTAGE_S + 10)
    assert driver.poll() is None
    assert events(frontier, *NEWS) == known, "no news is no news"
    assert not (attempt.tasks / "test").exists()
    for daemon in ("slurmdbd", "slurmctld"):
        slurm.revive(daemon)
    assert driver.wait(300) == 0, (frontier.folder / "driver.log").read_text()[-3000:]
    assert jobs(slurm, frontier).keys() == before.keys(), "nothing was asked for twice"
    receipt = read_receipt(folder_of(frontier).stage_receipt("train"))
    assert receipt is not None
    assert (receipt.status, receipt.link, receipt.attempt) == ("done", 1, 1)
    assert "quarantined" not in receipt.evidence
    assert events(frontier, "scheduler_answers")
    for task in ("train", "test"):
        outcome = read_outcome(attempt.tasks / task)
        assert outcome is not None
        assert (outcome.world_size, len(set(outcome.hosts))) == (4, 2), task
