"""`campaign sites test` on a real Slurm: accounts, ranks, cores, signals and return codes as the cluster has them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from login import Login

pytestmark = [pytest.mark.xdist_group("slurm"), pytest.mark.timeout(400)]


@pytest.mark.parametrize("frontier", [{"periods": {"stop_margin_s": 95}}], indirect=True)  # signals come in its last minute
def test_two_nodes_of_slurm_are_as_the_site_file_says(frontier: Login, tmp_path: Path) -> None:
    done = frontier("sites", "test", "frontier", "--into", tmp_path / "t", timeout=380, check=False)
    kept = json.loads((tmp_path / "config" / "campaign" / "sites" / "frontier.tested.json").read_text())
    checks = {check["name"]: check for check in kept["checks"]}
    assert [name for name, check in checks.items() if not check["ok"]] == [], done.stdout
    assert "4 ranks in a world of 4 on 2 nodes" in checks["ranks"]["seen"]
    assert "cause launcher" in checks["return code (exit)"]["seen"]
    # srun ends the other ranks with TERM, whose code is higher than that of the killed one.
    assert checks["return code (killed)"]["seen"].endswith("failed, cause launcher; not told from one that exits")
    assert "stopped in order" in checks["timer"]["seen"]
    assert re.fullmatch(r"it came \d+ s after the timer", checks["signal"]["seen"])
    assert done.returncode == 0
