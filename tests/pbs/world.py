"""What tests on the stand-in share: the site, its commands for a user, jobs of the campaigns at work."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from pbs.cluster import Pbs
from workflow.site import merge

OVERLAY = Path(__file__).with_name("aurora.yaml")


def home_of(folder: Path, **changes: dict[str, object]) -> Path:
    """Write the overlay as a user would, with further `changes` by section; give the folder for `XDG_CONFIG_HOME`."""
    sites = folder / "config" / "campaign" / "sites"
    sites.mkdir(parents=True)
    (sites / "aurora.yaml").write_text(yaml.safe_dump(merge(yaml.safe_load(OVERLAY.read_text()), changes)))
    return folder / "config"


def environment(pbs: Pbs, folder: Path, **changes: dict[str, object]) -> dict[str, str]:
    """Return the environment in which the `campaign` command meets the stand-in as Aurora."""
    root = Path(__file__).parents[2]
    own = {"XDG_CONFIG_HOME": str(home_of(folder, **changes)), "PYTHONPATH": f"{root}:{root / 'tests'}", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **pbs.environment, **own}


def jobs_below(pbs: Pbs, folder: Path) -> dict[str, dict[str, Any]]:
    """Return the jobs that were handed in from below a folder, oldest first."""
    jobs = {job_id: job for job_id, job in pbs.jobs().items() if job["Variable_List"]["PBS_O_WORKDIR"].startswith(f"{folder}/")}
    return dict(sorted(jobs.items(), key=lambda pair: int(pair[0].partition(".")[0])))
