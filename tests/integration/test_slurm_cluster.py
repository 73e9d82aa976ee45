"""The test cluster itself: nothing of it outlives its session, however that ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from login import wait
from slurm import cluster as clusters
from slurm.cluster import Cluster, end_stale

from workflow.process import start_time

pytestmark = [pytest.mark.xdist_group("slurm"), pytest.mark.timeout(200)]
ROOT = Path(__file__).parents[2]
CHILD = "from slurm.cluster import Cluster; c = Cluster(2); c.start(); print(c.root, flush=True); import time; time.sleep(300)"


def test_what_a_killed_session_leaves_is_ended(slurm_cluster: Cluster) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    session = subprocess.Popen([sys.executable, "-c", CHILD], env=environment, stdout=subprocess.PIPE, text=True)
    assert session.stdout is not None
    with session.stdout as said:
        root = Path(said.readline().strip())
    facts = json.loads((root / "owner.json").read_text())
    pids = [int(pid) for pid in facts["children"]]
    assert len(pids) == 6 and all(start_time(pid) for pid in pids)
    survivor = subprocess.Popen(["sleep", "300"])
    facts["children"][str(survivor.pid)] = start_time(survivor.pid)
    facts["children"][str(os.getpid())] = 1  # a pid that another process has by now
    (root / "owner.json").write_text(json.dumps(facts))

    session.send_signal(signal.SIGKILL)
    session.wait()
    wait(lambda: not any(start_time(pid) for pid in pids), 30)
    end_stale()
    assert survivor.wait(20) == -signal.SIGKILL
    assert not root.exists()
    assert slurm_cluster.root.exists() and slurm_cluster.run("sinfo", "-h"), "a living session's cluster is left alone"


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "PROGRAMS", ("sbatch-of-tomorrow", *clusters.PROGRAMS))
    assert "sbatch-of-tomorrow" in clusters.missing()


def test_a_dead_node_is_seen_and_comes_back(slurm: Cluster) -> None:
    slurm.kill("n8")
    wait(lambda: slurm.run("sinfo", "-h", "-n", "n8", "-p", "batch", "-o", "%T").strip() == "down*", 60, every=1)
    slurm.heal()
    assert slurm.state("n8") == "idle"
