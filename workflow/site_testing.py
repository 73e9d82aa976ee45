"""Test a site: a campaign of one stage on two nodes, through the site's own batch system and launcher."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from workflow.batch.scheduler import JobSpec, directives
from workflow.check import check_campaign
from workflow.draft import load_campaign
from workflow.driver import run_campaign
from workflow.errors import ConfigError, StageError
from workflow.queues import queue_for
from workflow.receipt import read_receipt
from workflow.rundir import RunDir
from workflow.site import Site, load_site
from workflow.site_facts import keep_test
from workflow.stages.base import walltime_text
from workflow.targets import folder_in

FILE = "site-test.yaml"
_STAGE = "test"
_NODES = 2
_WORK_S = 240.0


@dataclass(frozen=True)
class SiteTest:
    """What a test has found.

    Attributes:
        site: Name of the site.
        checks: Each with `name`, `ok`, `seen` and `verifies`.
        kept: Where it is written down for `campaign sites show`.
    """

    site: str
    checks: list[dict[str, Any]]
    kept: Path

    @property
    def holds(self) -> bool:
        """Say whether all was as the site file says."""
        return all(check["ok"] for check in self.checks)


def test_site(name: str, folder: Path, queue: str | None = None, *, tell: Any = None) -> SiteTest:
    """Run the test to its end.

    Args:
        name: The site.
        folder: Where the campaign of the test goes; on a facility, where compute nodes can write.
        queue: Queue of the site; none: the first that takes the job.
        tell: Called with each event of the journal.

    Raises:
        SiteError: The site file or the overlay lacks something, or its commands are not here.
        StageError: The test did not come to its end.
    """
    site = load_site(name)
    walltime_s = _walltime_s(site)
    taken = queue_for(site, _NODES, walltime_s, queue)
    file = _written(site, folder, walltime_s, queue)
    directives(site, JobSpec("test", folder, file, file, _NODES, walltime_s, taken.name))  # what is missing is told at once
    if problems := check_campaign(file, models=False).problems:
        raise problems[0]
    campaign = load_campaign(file)
    run_campaign(campaign, once=False, resume=False, on_event=tell or (lambda _: None))
    receipt = read_receipt(RunDir(campaign.folder).stage_receipt(_STAGE))
    if receipt is None or "checks" not in receipt.result:
        remedy = f"See `campaign status {file}` and `campaign logs {_STAGE} -c {file}`."
        raise StageError("the test did not come to its end", str(campaign.folder), remedy)
    result = receipt.result
    return SiteTest(name, result["checks"], keep_test(name, result))


def _walltime_s(site: Site) -> float:
    """Return a walltime that leaves some minutes for the probes before tasks are asked to checkpoint, in whole minutes."""
    margin = site.periods.stop_margin_s
    shortest = min((queue.min_walltime_h for queue in site.queues), default=0.0) * 3600
    work = min(_WORK_S, max(45.0, 2 * site.periods.kill_after_s))
    return 60.0 * math.ceil(max(margin + work, shortest) / 60)


def _written(site: Site, folder: Path, walltime_s: float, queue: str | None) -> Path:
    file = folder / FILE
    if folder.is_dir() and any(folder.iterdir()) and not file.exists():
        raise ConfigError("something else lies there", str(folder), "Give another folder with --into.")
    folder_in(folder)
    stage: dict[str, Any] = {"kind": "site_test", "nodes": _NODES, "walltime": walltime_text(walltime_s), "attempts": 1}
    number = 1 + max((int(path.name.rpartition("-")[2]) for path in folder.glob("run-*")), default=0)
    fields = {
        "name": f"test-{site.name}",
        "site": site.name,
        "folder": f"run-{number}",
        "stages": {_STAGE: {**stage, **({"queue": queue} if queue else {})}},
    }
    file.write_text(yaml.safe_dump(fields, sort_keys=False))
    return file
