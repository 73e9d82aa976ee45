"""A driver on a login node of a real Slurm is left without an answer, for seconds or for minutes, and lives on."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from login import Login, wait
from slurm.cluster import Cluster

from model.outcome import read_outcome

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


def hanging_sbatch(slurm: Cluster, command: Login) -> Login:
    """Give a login whose first submission finds a controller that stands still."""
    shim = command.folder / "bin" / "sbatch"
    shim.parent.mkdir()
    sbatch = slurm.run("sh", "-c", "command -v sbatch").strip()
    shim.write_text(HANGS.format(folder=command.folder, controller=slurm.pid("slurmctld"), sbatch=sbatch))
    shim.chmod(0o700)
    path = f"{shim.parent}:{command.environment['PATH']}"
    return replace(command, environment={**command.environment, "PATH": path})


def test_a_submission_without_an_answer_is_one_job_for_the_driver_that_waits(frontier: Login, slurm: Cluster) -> None:
    driver = hanging_sbatch(slurm, frontier).start("run", frontier.write({}), "--plain")
    try:
        wait(lambda: bool(frontier.events("submit_unknown")), 120)
        assert not frontier.events("submitted")
    finally:
        slurm.thaw("slurmctld")
    assert driver.wait(200) == 0, frontier.said
    frontier.require_one_job()
    assert [line.get("adopted") for line in frontier.events("submitted")] == [True], "it was found, not asked for again"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_runs_goes_on_without_controller_and_accounting(frontier: Login, slurm: Cluster) -> None:
    """Both are away for minutes, in which the training ends and its test is to begin: nobody is at fault."""
    driver = frontier.start("run", frontier.write({"train": TRAIN}), "--plain")
    attempt = frontier.rundir.attempt("train", 1, 1)
    wait((attempt.tasks / "train" / "metrics.jsonl").exists, 200)
    before = [job.job_id for job in frontier.accounts()]
    for daemon in ("slurmctld", "slurmdbd"):
        slurm.kill(daemon)
    back_at = time.monotonic() + OUTAGE_S
    known = frontier.events(*NEWS)
    wait(lambda: bool(frontier.events("scheduler_silent")), 120)
    wait((attempt.run / "staging" / "2").is_dir, 200)  # what the test needs is to be brought to the nodes
    wait(lambda: time.monotonic() > back_at, OUTAGE_S + 10)
    assert driver.poll() is None
    assert frontier.events(*NEWS) == known, "no news is no news"
    assert not (attempt.tasks / "test").exists()
    for daemon in ("slurmdbd", "slurmctld"):
        slurm.revive(daemon)
    assert driver.wait(300) == 0, frontier.said
    assert [job.job_id for job in frontier.accounts()] == before, "nothing was asked for twice"
    receipt = frontier.receipt("train")
    assert (receipt.link, receipt.attempt) == (1, 1)
    assert "quarantined" not in receipt.evidence
    assert frontier.events("scheduler_answers")
    for task in ("train", "test"):
        outcome = read_outcome(attempt.tasks / task)
        assert outcome is not None
        assert (outcome.world_size, len(set(outcome.hosts))) == (4, 2), task
