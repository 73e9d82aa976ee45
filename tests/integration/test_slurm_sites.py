"""Minutes of a real Slurm, spent beside each other: `campaign sites test`, a walltime that is over, a job that is forgotten."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from login import Login, home_of, wait
from slurm.cluster import Cluster
from slurm.world import OVERLAY, ended, job, row, system_of

from workflow.batch import scheduler
from workflow.batch.scheduler import JobState
from workflow.site import load_site

pytestmark = [pytest.mark.xdist_group("slurm"), pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def tested(slurm_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Login, subprocess.Popen[str]]]:
    """Begin the test of the site; of its minutes it works for seconds and waits for the rest."""
    slurm_cluster.heal()
    periods = {"stop_margin_s": 95}  # signals come in the last minute of a walltime
    with system_of(slurm_cluster).login(tmp_path_factory.mktemp("sites"), periods=periods) as login:
        yield login, login.start("sites", "test", "frontier", "--into", login.folder / "t")


@pytest.mark.usefixtures("tested")
def test_the_walltime_ends_a_job_and_meanwhile_the_queue_forgets_another(
    slurm_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**slurm_cluster.environment, "XDG_CONFIG_HOME": str(home_of(OVERLAY, tmp_path))}.items():
        monkeypatch.setenv(name, value)
    site = load_site("frontier")
    batch = scheduler.for_site(site)
    job_id = batch.submit(job(site, tmp_path / "a", "trap 'echo TERM' TERM; while :; do sleep 0.1; done", minutes=0.1))
    brief = batch.submit(job(site, tmp_path / "b", "exit 4"))
    done = ended(batch, job_id, 150)
    assert done.state is JobState.TIMEOUT
    assert (done.ended or 0) - (done.started or 0) >= 60  # rounded up to whole minutes
    assert "TERM" in (tmp_path / "a" / "job.log").read_text()
    wait(lambda: brief not in slurm_cluster.run("squeue", "-h", "-t", "all", "-o", "%i").split(), 90, every=1)
    assert (row(batch, brief).state, row(batch, brief).exit) == (JobState.FAILED, 4)


def test_two_nodes_of_slurm_are_as_the_site_file_says(tested: tuple[Login, subprocess.Popen[str]]) -> None:
    login, command = tested
    assert command.wait(380) == 0, login.said
    kept = json.loads((login.folder / "config" / "campaign" / "sites" / "frontier.tested.json").read_text())
    checks = {check["name"]: check for check in kept["checks"]}
    assert [name for name, check in checks.items() if not check["ok"]] == [], login.said
    assert "4 ranks in a world of 4 on 2 nodes" in checks["ranks"]["seen"]
    assert "cause launcher" in checks["return code (exit)"]["seen"]
    # srun ends the other ranks with TERM, whose code is higher than that of the killed one.
    assert checks["return code (killed)"]["seen"].endswith("failed, cause launcher; not told from one that exits")
    assert "stopped in order" in checks["timer"]["seen"]
    assert re.fullmatch(r"it came \d+ s after the timer", checks["signal"]["seen"])
