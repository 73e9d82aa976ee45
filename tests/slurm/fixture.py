"""One cluster for all tests of a session, and its record for whoever asks whether they really ran."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm.cluster import Cluster, missing

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
