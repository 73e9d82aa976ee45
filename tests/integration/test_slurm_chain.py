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
from conftest import Command
from slurm.cluster import Cluster
from slurm.world import environment, wait, write_campaign

from model.outcome import read_outcome
from workflow.journal import read_events
from workflow.receipt import Receipt, read_receipt
from workflow.rundir import RunDir

pytestmark = [pytest.mark.xdist_group("slurm"), pytest.mark.slow, pytest.mark.timeout(2400)]
LINKS = 9
TRAIN: dict[str, Any] = {
    "kind": "train",
    "needs": ["data"],
    "nodes": 2,
    "backbone": {"name": "egnn", "hidden": 8, "layers": 1},
    "training": {"batch": 16, "layout": "branch", "checkpoint_every_s": 10},
}


def trained(folder: RunDir) -> tuple[Receipt, Path]:
    """Return the stage's receipt and the folder of the task that ended the training."""
    receipt = read_receipt(folder.stage_receipt("train"))
    assert receipt is not None
    assert receipt.status == "done", receipt.message
    tasks = [attempt.tasks / "train" for attempt in folder.attempts("train")]
    for outcome in filter(None, map(read_outcome, tasks)):
        assert (outcome.world_size, len(set(outcome.hosts))) == (4, 2)
    return receipt, [task for task in tasks if (task / "checkpoints" / "last" / "meta.json").exists()][-1]


def in_one_job(tmp_path: Path, slurm: Cluster, name: str, epochs: int) -> tuple[Path, float]:
    """Train in one long job; return the task's folder and seconds an epoch."""
    folder = tmp_path / name
    folder.mkdir()
    command = Command(folder, environment(slurm, folder))
    stages = {"train": {**TRAIN, "epochs": epochs, "walltime": "00:30:00"}}
    command("run", write_campaign(folder, stages), "--plain", timeout=1200)
    _, task = trained(RunDir(folder / "runs" / "pair"))
    lines = [json.loads(line) for line in (task / "metrics.jsonl").read_text().splitlines()]
    return task, (lines[-1]["t"] - lines[0]["t"]) / (epochs - 1)


def test_a_chain_without_a_driver_equals_one_long_job(slurm: Cluster, tmp_path: Path) -> None:
    _, epoch_s = in_one_job(tmp_path, slurm, "measured", 20)
    epochs = math.ceil(130 / epoch_s)
    long, _ = in_one_job(tmp_path, slurm, "long", epochs)

    folder = tmp_path / "chain"
    folder.mkdir()
    command = Command(folder, environment(slurm, folder, periods={"stop_margin_s": 70}))  # less than a minute's work a link
    file = write_campaign(folder, {"train": {**TRAIN, "epochs": epochs, "walltime": "00:02:00", "links": LINKS}})
    driver, rundir = command.start("run", file, "--plain"), RunDir(folder / "runs" / "pair")

    def submitted() -> int:
        events = read_events(rundir) if rundir.journal.is_dir() else []
        return len([event for event in events if event["event"] == "submitted"])

    wait(lambda: submitted() == 1 + LINKS, 240)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    wait(lambda: all(rundir.attempt("train", link, 1).receipt.exists() for link in range(1, LINKS + 1)), 1500, every=2)
    command("run", file, "--plain", timeout=300)

    receipt, task = trained(rundir)
    assert receipt.link >= 3, "a chain of at least three links did the work"
    for link in range(1, receipt.link):
        stopped = read_receipt(rundir.attempt("train", link, 1).receipt)
        assert stopped is not None
        assert stopped.status == "partial", stopped
    jobs = slurm.run("sacct", "-XPn", "-S", "now-1days", "-o", "State,WorkDir").splitlines()
    states = [line.split("|")[0] for line in jobs if str(rundir.stage("train")) in line]
    assert states == ["COMPLETED"] * LINKS, "each was stopped by the agent's timer, and none by the end of its walltime"

    mine, theirs = runs.tensors(task), runs.tensors(long)
    assert mine.keys() == theirs.keys()
    assert [name for name in mine if not torch.equal(mine[name], theirs[name])] == []
    assert runs.standing(task) == runs.standing(long)
