"""Nodes of a real Slurm that live and do no good: one on which a rank stands still, one that fails whatever it is given."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from login import Login, wait
from slurm.cluster import Cluster

from model.outcome import Cause, read_outcome
from workflow.rundir import AttemptDir

pytestmark = [pytest.mark.xdist_group("slurm"), pytest.mark.timeout(580)]
SEARCH = {
    "kind": "hpo",
    "needs": ["data"],
    "nodes": 4,
    "spares": 1,
    "walltime": "00:20:00",
    "backbone": "egnn",
    "evaluations": 3,
    "trial": {"nodes": 1, "epochs": 24},
    "keep": 1,
    "training": {"batch": 16, "checkpoint_every_s": 1},
    "space": {"hidden": 8, "layers": 1, "learning_rate": {"low": 0.001, "high": 0.002}},
}
BLACK_HOLE = """#!/bin/bash
case " $* " in *" -m model train "*) exit 1 ;; esac
exec -a "$0" {python} "$@"
"""


@contextmanager
def black_hole(slurm: Cluster, node: str, folder: Path) -> Iterator[None]:
    """Let every training on a node fail at once, and all else go well there: in its own view of the files only."""
    python = Path(sys.executable).resolve()
    copy, fake = folder / "python", folder / "black-hole"
    copy.write_bytes(python.read_bytes())
    fake.write_text(BLACK_HOLE.format(python=copy))
    for each in (copy, fake):
        each.chmod(0o755)
    inside = ["nsenter", "--mount", "--pid", f"--target={slurm.inside(node)}"]
    subprocess.run([*inside, "mount", "--bind", fake, python], check=True, timeout=20)
    try:
        yield
    finally:
        subprocess.run([*inside, "umount", "--lazy", python], check=True, timeout=20)


def places(attempt: AttemptDir) -> dict[str, str]:
    """Return on which node each task of a trial was started."""
    return {path.parent.name: path.read_text().strip() for path in attempt.tasks.glob("trial-*/hosts.txt")}


def stand_still(slurm: Cluster, attempt: AttemptDir, task: str) -> None:
    """Stop the second rank of a task that has a checkpoint."""
    node = places(attempt)[task]
    ranks = slurm.processes(node, "-m", "model", "train")
    ranks = [pid for pid in ranks if b"SLURM_PROCID=1" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")]
    assert ranks, f"no rank 1 on {node}"
    for pid in ranks:
        os.kill(pid, signal.SIGSTOP)


def record(attempt: AttemptDir) -> list[dict[str, Any]]:
    return [json.loads(line) for line in attempt.record.read_text().splitlines()]


def test_a_search_outlives_a_black_hole_and_a_rank_that_stands_still(frontier: Login, slurm: Cluster, tmp_path: Path) -> None:
    with black_hole(slurm, "n2", tmp_path):
        driver = frontier.start("run", frontier.write({"search": SEARCH}), "--plain")
        attempt = frontier.rundir.attempt("search", 1, 1)
        stopped = attempt.tasks / "trial-1"
        wait((stopped / "checkpoints" / "last" / "meta.json").exists, 240, every=0.05)
        stand_still(slurm, attempt, "trial-1")
        assert driver.wait(420) == 0, frontier.said

    receipt = frontier.receipt("search")
    assert (receipt.link, receipt.attempt) == (1, 1), "the allocation lived on"
    assert receipt.evidence["quarantined"] == ["n2"], "by votes: it answers every probe"
    assert [trial["status"] for trial in receipt.result["trials"]] == ["done"] * 3
    ends = {line["trial"]: [] for line in record(attempt) if line["event"] == "task"}
    for line in record(attempt):
        if line["event"] == "end":
            ends[line["trial"]].append(line["cause"])
    where = places(attempt)
    on_black_hole = [task for task, node in where.items() if node == "n2"]
    assert len(on_black_hole) == 2, where
    assert ends[1] == [Cause.STALLED, None], ends
    assert sorted(cause for causes in ends.values() for cause in causes if cause)[:2] == [Cause.LAUNCHER] * 2, ends
    stacks = (stopped / "stacks.0.txt").read_text()
    assert "model" in stacks, "what the other rank waited in was saved"
    resumed = yaml.safe_load((attempt.tasks / "trial-1-2" / "config.yaml").read_text())["resume"]
    assert resumed == str(stopped / "checkpoints" / "last")
    for task in where:
        outcome = read_outcome(attempt.tasks / task)
        if task in on_black_hole or task == "trial-1":
            assert outcome is None, task
        else:
            assert outcome is not None, task
            assert (outcome.world_size, set(outcome.hosts)) == (2, {where[task]}), task
