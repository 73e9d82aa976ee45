"""`campaign sites test` on a real Slurm: everything that the profile says of the site holds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Command
from slurm.cluster import Cluster
from slurm.world import environment

pytestmark = [pytest.mark.xdist_group("slurm"), pytest.mark.timeout(500)]


def test_the_profile_holds_on_the_cluster(slurm: Cluster, tmp_path: Path) -> None:
    command = Command(tmp_path, environment(slurm, tmp_path, periods={"stop_margin_s": 80}))
    done = command("sites", "test", "frontier", timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    kept = json.loads((tmp_path / "config" / "campaign" / "sites" / "frontier.tested.json").read_text())
    checks = {check["name"]: check["ok"] for check in kept["checks"]}
    assert len(checks) >= 10 and all(checks.values()), checks
