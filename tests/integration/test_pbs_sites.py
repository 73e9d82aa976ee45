"""`campaign sites test` on the stand-in for PBS: accounts, ranks, cores, signals and return codes as Aurora's file says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from login import Login

pytestmark = [pytest.mark.xdist_group("pbs"), pytest.mark.slow, pytest.mark.timeout(500)]


def test_two_nodes_of_aurora_are_as_the_site_file_says(aurora: Login, tmp_path: Path) -> None:
    done = aurora("sites", "test", "aurora", "--into", tmp_path / "t", timeout=400, check=False)
    kept = json.loads((tmp_path / "config" / "campaign" / "sites" / "aurora.tested.json").read_text())
    checks = {check["name"]: check for check in kept["checks"]}
    assert [name for name, check in checks.items() if not check["ok"]] == [], done.stdout
    assert "4 ranks in a world of 4 on 2 nodes" in checks["ranks"]["seen"]
    assert "cause launcher" in checks["return code (exit)"]["seen"]
    assert "stopped in order" in checks["timer"]["seen"] and "signal" not in checks
    assert done.returncode == 0
