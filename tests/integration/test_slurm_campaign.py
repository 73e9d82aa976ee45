"""Whole campaigns on a real Slurm, as Frontier: the driver on the login node, agents in the jobs, ranks on the nodes."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import yaml
from login import Login, wait
from slurm.cluster import Cluster

from model.outcome import Cause, read_outcome
from workflow.rundir import AttemptDir

pytestmark = [pytest.mark.xdist_group("slurm"), pytest.mark.timeout(500)]


TRAIN = {
    "kind": "train",
    "needs": ["data"],
    "nodes": 2,
    "walltime": "00:10:00",
    "epochs": 24,
    "backbone": {"name": "egnn", "hidden": 8, "layers": 1},
    "training": {"batch": 16, "layout": "branch", "checkpoint_every_s": 1},
}


def job_of(attempt: AttemptDir) -> str:
    return str(json.loads(attempt.start.read_text())["job_id"])


def state_of(slurm: Cluster, attempt: AttemptDir) -> str:
    return slurm.run("sacct", "-XPn", "-j", job_of(attempt), "-o", "State").strip()


@contextmanager
def standing_still(slurm: Cluster, attempt: AttemptDir) -> Iterator[None]:
    """Stop an attempt's agent again and again, for Slurm wakes what it ends; so nothing of it can end in order."""
    facts = json.loads(attempt.start.read_text())
    (agent,) = slurm.processes(facts["nodes"][0], "-m", "workflow.allocation.agent")
    over = threading.Event()

    def stop() -> None:
        with suppress(ProcessLookupError):
            while not over.wait(0.01):
                os.kill(agent, signal.SIGSTOP)

    thread = threading.Thread(target=stop)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.parametrize("in_order", [True, False])
def test_a_job_that_somebody_cancels_is_replaced_and_its_training_goes_on(
    frontier: Login, slurm: Cluster, in_order: bool
) -> None:
    """Its agent is given time to end in order, or none: either way no link is used up, and the only one is tried again."""
    slurm.configure(KillWait=120 if in_order else 5)
    nodes = 2 if in_order else 1
    driver = frontier.start("run", frontier.write({"train": {**TRAIN, "nodes": nodes}}), "--plain")
    first = frontier.rundir.attempt("train", 1, 1)
    last = first.tasks / "train" / "checkpoints" / "last"
    wait((last / "meta.json").exists, 200)
    if in_order:
        slurm.run("scancel", job_of(first))
    else:
        with standing_still(slurm, first):
            slurm.run("scancel", job_of(first))
            wait(lambda: state_of(slurm, first).startswith("CANCELLED"))
    assert driver.wait(300) == 0, frontier.said
    done = frontier.receipt("train")
    again = frontier.rundir.attempt("train", done.link, done.attempt)
    assert again != first
    assert done.result["epochs"] == 24
    assert yaml.safe_load((again.tasks / "train" / "config.yaml").read_text())["resume"] == str(last)
    settled = frontier.events("settled", stage="train")
    assert [event["cause"] for event in settled] == [Cause.PREEMPTED if in_order else Cause.SCHEDULER, None], settled
    assert (done.link, first.receipt.exists()) == (1, in_order)
    assert [job.state for job in frontier.accounts(frontier.rundir.stage("train"))] == ["cancelled", "done"]
    outcome = read_outcome(again.tasks / "train")
    assert outcome is not None
    assert (outcome.world_size, len(set(outcome.hosts))) == (2 * nodes, nodes)
    assert set(outcome.hosts) <= set(slurm.names)
