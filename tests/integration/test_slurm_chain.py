"""A chain of two-minute jobs on a real Slurm, its driver dead from the first minute, equals one long job bit for bit."""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import training_runs as runs
from login import Login, System, wait
from slurm.cluster import Cluster

from model.outcome import read_outcome
from workflow.receipt import Receipt, read_receipt

pytestmark = [pytest.mark.xdist_group("slurm"), pytest.mark.slow, pytest.mark.timeout(2400)]
LINKS = 9
TRAIN: dict[str, Any] = {
    "kind": "train",
    "needs": ["data"],
    "nodes": 2,
    "backbone": {"name": "egnn", "hidden": 8, "layers": 1},
    "training": {"batch": 16, "layout": "branch", "checkpoint_every_s": 10},
}


def trained(command: Login) -> tuple[Receipt, Path]:
    """Return the stage's receipt and the folder of the task that ended the training."""
    receipt = command.receipt("train")
    tasks = [attempt.tasks / "train" for attempt in command.rundir.attempts("train")]
    for outcome in filter(None, map(read_outcome, tasks)):
        assert (outcome.world_size, len(set(outcome.hosts))) == (4, 2)
    return receipt, [task for task in tasks if (task / "checkpoints" / "last" / "meta.json").exists()][-1]


def in_one_job(folder: Path, system: System, epochs: int) -> tuple[Path, float]:
    """Train in one long job; return the task's folder and seconds an epoch."""
    folder.mkdir()
    with system.login(folder) as command:
        stages = {"train": {**TRAIN, "epochs": epochs, "walltime": "00:30:00"}}
        command("run", command.write(stages), "--plain", timeout=1200)
        _, task = trained(command)
    lines = [json.loads(line) for line in (task / "metrics.jsonl").read_text().splitlines()]
    return task, (lines[-1]["t"] - lines[0]["t"]) / (epochs - 1)


def test_a_chain_without_a_driver_equals_one_long_job(slurm: Cluster, slurm_system: System, tmp_path: Path) -> None:
    _, epoch_s = in_one_job(tmp_path / "measured", slurm_system, 20)
    epochs = math.ceil(130 / epoch_s)
    long, _ = in_one_job(tmp_path / "long", slurm_system, epochs)

    folder = tmp_path / "chain"
    folder.mkdir()
    with slurm_system.login(folder, periods={"stop_margin_s": 70}) as command:  # less than a minute's work a link
        receipt, task = chained(command, epochs)
    assert receipt.link >= 3, "a chain of at least three links did the work"

    mine, theirs = runs.tensors(task), runs.tensors(long)
    assert mine.keys() == theirs.keys()
    assert [name for name in mine if not torch.equal(mine[name], theirs[name])] == []
    assert runs.standing(task) == runs.standing(long)


def chained(command: Login, epochs: int) -> tuple[Receipt, Path]:
    """Train in a chain of short jobs whose driver dies when all are submitted; return what `trained` does."""
    file = command.write({"train": {**TRAIN, "epochs": epochs, "walltime": "00:02:00", "links": LINKS}})
    driver, rundir = command.start("run", file, "--plain"), command.rundir
    wait(lambda: len(command.events("submitted")) == 1 + LINKS, 240)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    wait(lambda: all(rundir.attempt("train", link, 1).receipt.exists() for link in range(1, LINKS + 1)), 1500, every=2)
    command("run", file, "--plain", timeout=300)

    receipt, task = trained(command)
    for link in range(1, receipt.link):
        stopped = read_receipt(rundir.attempt("train", link, 1).receipt)
        assert stopped is not None
        assert stopped.status == "partial", stopped
    states = [job.state for job in command.accounts(rundir.stage("train"))]
    assert states == ["done"] * LINKS, "each was stopped by the agent's timer, and none by the end of its walltime"
    return receipt, task
