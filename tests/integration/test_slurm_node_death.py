"""Nodes of a real Slurm die: a trial's, and the first one of an allocation, where its agent lives."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from login import Login, wait
from slurm.cluster import Cluster

from model.outcome import Cause, read_outcome
from workflow.rundir import AttemptDir

pytestmark = [pytest.mark.xdist_group("slurm"), pytest.mark.timeout(580)]


def start_of(attempt: AttemptDir) -> dict[str, Any]:
    return json.loads(attempt.start.read_text())


def has_checkpoint(task: Path) -> bool:
    return (task / "checkpoints" / "last" / "meta.json").exists()


def tasks(attempt: AttemptDir) -> list[Path]:
    return sorted(attempt.tasks.glob("*")) if attempt.tasks.is_dir() else []


SEARCH = {
    "kind": "hpo",
    "needs": ["data"],
    "nodes": 3,
    "spares": 1,
    "walltime": "00:20:00",
    "backbone": "egnn",
    "evaluations": 2,
    "trial": {"nodes": 1, "epochs": 30},
    "keep": 1,
    "training": {"batch": 16, "checkpoint_every_s": 1},
    "space": {"hidden": 8, "layers": 1, "learning_rate": {"low": 0.001, "high": 0.002}},
}

TRAIN = {
    "kind": "train",
    "needs": ["data"],
    "nodes": 2,
    "walltime": "00:20:00",
    "epochs": 20,
    "backbone": {"name": "egnn", "hidden": 8, "layers": 1},
    "training": {"batch": 16, "checkpoint_every_s": 1},
}


def test_a_trials_node_dies_a_spare_steps_in_and_the_trial_goes_on(frontier: Login, slurm: Cluster) -> None:
    driver = frontier.start("run", frontier.write({"search": SEARCH}), "--plain")
    folder = frontier.rundir
    attempt = folder.attempt("search", 1, 1)
    wait(lambda: len(tasks(attempt)) >= 2 and all(has_checkpoint(task) for task in tasks(attempt)[:2]), 240)
    first = start_of(attempt)["nodes"][0]
    places = {task: (task / "hosts.txt").read_text().split() for task in tasks(attempt)[:2]}
    assert not set(places[tasks(attempt)[0]]) & set(places[tasks(attempt)[1]]), "side by side on nodes of their own"
    victim, (node,) = next((task, nodes) for task, nodes in places.items() if first not in nodes)
    slurm.kill(node)
    assert driver.wait(420) == 0, frontier.said

    receipt = frontier.receipt("search")
    assert (receipt.link, receipt.attempt) == (1, 1), "the allocation lived on"
    assert list(receipt.evidence["quarantined"]) == [node]
    trials = {trial["id"]: trial for trial in receipt.result["trials"]}
    assert [trial["status"] for trial in trials.values()] == ["done", "done"]
    (resumed,) = [trial for trial in trials.values() if trial["interrupted"]]
    old, new = (attempt.tasks / Path(name).name for name in resumed["tasks"])
    assert old == victim
    outcome = read_outcome(new)
    assert outcome is not None
    assert outcome.world_size == 2
    assert len(set(outcome.hosts)) == 1 and node not in outcome.hosts
    assert yaml.safe_load((new / "config.yaml").read_text())["resume"] == str(old / "checkpoints" / "last")


def test_the_first_node_dies_and_another_job_goes_on(frontier: Login, slurm: Cluster) -> None:
    driver = frontier.start("run", frontier.write({"train": TRAIN}), "--plain")
    folder = frontier.rundir
    attempt = folder.attempt("train", 1, 1)
    wait(lambda: any(has_checkpoint(task) for task in tasks(attempt)), 240)
    began = start_of(attempt)
    slurm.kill(began["nodes"][0])
    died = time.monotonic()
    wait(lambda: folder.attempt("train", 1, 2).start.exists(), 240)
    print(f"another agent started {time.monotonic() - died:.0f} s after the death of the first")
    assert driver.wait(300) == 0, frontier.said

    assert frontier.receipt("train").attempt == 2
    lost, _ = frontier.events("settled", stage="train")
    assert lost["cause"] == Cause.NODE_FAILURE, lost
    state = slurm.run("sacct", "-XPn", "-j", str(began["job_id"]), "-o", "State").strip()
    assert state.startswith(("CANCELLED", "NODE_FAIL")), state
    again = folder.attempt("train", 1, 2)
    resume = yaml.safe_load((again.tasks / "train" / "config.yaml").read_text())["resume"]
    assert resume == str(attempt.tasks / "train" / "checkpoints" / "last")
    outcome = read_outcome(again.tasks / "train")
    assert outcome is not None
    assert (outcome.world_size, len(set(outcome.hosts))) == (4, 2)
    assert began["nodes"][0] not in outcome.hosts
