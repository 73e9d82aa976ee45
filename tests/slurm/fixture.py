"""One cluster for all tests of a session, and its record for whoever asks whether they really ran."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from login import Login, System

from slurm.cluster import Cluster, missing
from slurm.world import system_of

EVIDENCE = Path(__file__).parents[2] / "build" / "slurm-evidence.json"


@pytest.fixture(scope="session")
def slurm_cluster() -> Iterator[Cluster]:
    """Start the cluster, or skip; tests that use it carry `xdist_group("slurm")`, so that one worker has it."""
    if lacking := missing():
        pytest.skip(f"no Slurm here, for want of {', '.join(lacking)}; see tests/system_packages.sh")
    cluster = Cluster()
    cluster.start()
    try:
        yield cluster
        cluster.heal()
        EVIDENCE.parent.mkdir(exist_ok=True)
        EVIDENCE.write_text(json.dumps({**cluster.evidence(), "start_s": round(cluster.start_s, 1)}, indent=1) + "\n")
    finally:
        cluster.stop()


@pytest.fixture
def slurm(slurm_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Give the cluster, idle and whole, with its commands ready to be called from this process."""
    slurm_cluster.heal()
    for name, value in slurm_cluster.environment.items():
        monkeypatch.setenv(name, value)
    return slurm_cluster


@pytest.fixture(scope="session")
def slurm_system(slurm_cluster: Cluster) -> System:
    """Give it as the batch system of a facility, for tests that run on any."""
    return system_of(slurm_cluster)


@pytest.fixture
def frontier(slurm: Cluster, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Login]:
    """Give the command as a user of Frontier has it, with other keys of the site where a test gives them."""
    with system_of(slurm).login(tmp_path, **getattr(request, "param", {})) as login:
        yield login
