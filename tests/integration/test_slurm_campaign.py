"""Whole campaigns on a real Slurm, as Frontier: the driver on the login node, agents in the jobs, ranks on the nodes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import Command
from slurm.cluster import Cluster
from slurm.world import environment, frames

from model.outcome import read_outcome
from workflow.receipt import read_receipt
from workflow.rundir import RunDir

pytestmark = [pytest.mark.xdist_group("slurm"), pytest.mark.timeout(500)]


@pytest.fixture
def frontier(slurm: Cluster, tmp_path: Path) -> Iterator[Command]:
    """Give the command as a user of Frontier has it."""
    command = Command(tmp_path, environment(slurm, tmp_path))
    yield command
    for process in command.started:
        if process.poll() is None:
            process.kill()
        process.wait()


def write(folder: Path, stages: dict[str, dict[str, object]]) -> Path:
    for name in ("a", "b"):
        (folder / f"{name}.xyz").write_text(frames(48))
    branches = {name: {"reader": "extxyz", "path": f"{name}.xyz", "options": {"identity": "molecule"}} for name in ("a", "b")}
    data = {"kind": "convert", "nodes": 1, "walltime": "00:10:00"}
    file = folder / "pair.yaml"
    fields = {"name": "pair", "site": "frontier", "branches": branches, "stages": {"data": data, **stages}}
    file.write_text(yaml.safe_dump(fields, sort_keys=False))
    return file


TRAIN = {
    "kind": "train",
    "needs": ["data"],
    "nodes": 2,
    "walltime": "00:10:00",
    "epochs": 3,
    "backbone": {"name": "egnn", "hidden": 8, "layers": 1},
    "training": {"batch": 16, "layout": "branch"},
}


def test_a_training_on_two_nodes_with_two_ranks_each(frontier: Command) -> None:
    frontier("run", write(frontier.folder, {"train": TRAIN}), "--plain", timeout=400)
    folder = RunDir(frontier.folder / "runs" / "pair")
    receipt = read_receipt(folder.stage_receipt("train"))
    assert receipt is not None
    assert receipt.status == "done", receipt.message
    (task,) = [path for path in folder.attempt("train", 1, 1).tasks.iterdir() if path.name.startswith("train")]
    outcome = read_outcome(task)
    assert outcome is not None
    assert outcome.world_size == 4
    assert len(set(outcome.hosts)) == 2
    assert set(outcome.hosts) <= {f"n{number}" for number in range(1, 9)}
