"""What tests on the cluster share: the site, jobs of a line or two, patience."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml

from slurm.cluster import Cluster
from workflow.batch.scheduler import JobRow, JobSpec, Scheduler, directives
from workflow.site import Site, merge

OVERLAY = Path(__file__).with_name("frontier.yaml")


def home_of(folder: Path, **changes: dict[str, object]) -> Path:
    """Write the overlay as a user would, with further `changes` by section; give the folder for `XDG_CONFIG_HOME`."""
    sites = folder / "config" / "campaign" / "sites"
    sites.mkdir(parents=True)
    (sites / "frontier.yaml").write_text(yaml.safe_dump(merge(yaml.safe_load(OVERLAY.read_text()), changes)))
    return folder / "config"


def environment(cluster: Cluster, folder: Path, **changes: dict[str, object]) -> dict[str, str]:
    """Return the environment in which the `campaign` command meets the cluster as Frontier."""
    root = Path(__file__).parents[2]
    own = {"XDG_CONFIG_HOME": str(home_of(folder, **changes)), "PYTHONPATH": f"{root}:{root / 'tests'}", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **cluster.environment, **own}


def job(
    site: Site,
    folder: Path,
    text: str,
    *,
    nodes: int = 1,
    minutes: float = 2,
    queue: str = "bin5",
    after: tuple[str, ...] = (),
) -> JobSpec:
    """Write a batch script with its directives and return what to submit."""
    folder.mkdir(exist_ok=True)
    script = folder / "script.sh"
    spec = JobSpec(f"c{folder.name}", folder, script, folder / "job.log", nodes, 60 * minutes, queue, after)
    script.write_text("\n".join(["#!/bin/sh", *directives(site, spec), text]) + "\n")
    return spec


def row(batch: Scheduler, job_id: str) -> JobRow:
    """Return the job's row; it is there."""
    return next(each for each in batch.snapshot().rows if each.job_id == job_id)


def wait(condition: Callable[[], bool], seconds: float = 60.0, every: float = 0.3) -> None:
    """Wait for something to come to pass."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(every)


def ended(batch: Scheduler, job_id: str, seconds: float = 60.0) -> JobRow:
    """Wait for the end of a job."""
    wait(lambda: row(batch, job_id).state.is_final, seconds)
    return row(batch, job_id)


def with_scheduler(site: Site, **fields: object) -> Site:
    """Return a site whose scheduler differs."""
    return site.model_copy(update={"scheduler": site.scheduler.model_copy(update=fields)})


def with_queue(site: Site, options: Mapping[str, str]) -> Site:
    """Return a site whose first queue is called otherwise by the batch system."""
    queue = site.queues[0].model_copy(update={"name": "bin5", "options": dict(options), "min_nodes": 1, "max_nodes": 9999})
    return site.model_copy(update={"queues": (queue,)})


def write_campaign(
    folder: Path, stages: dict[str, dict[str, object]], site: str = "frontier", names: tuple[str, ...] = ("a", "b")
) -> Path:
    """Write a campaign of small branches, their conversion and `stages`; give its file."""
    for name in names:
        (folder / f"{name}.xyz").write_text(frames(48))
    branches = {name: {"reader": "extxyz", "path": f"{name}.xyz", "options": {"identity": "molecule"}} for name in names}
    data = {"kind": "convert", "nodes": 1, "walltime": "00:10:00"}
    file = folder / "pair.yaml"
    fields = {"name": "pair", "site": site, "branches": branches, "stages": {"data": data, **stages}}
    file.write_text(yaml.safe_dump(fields, sort_keys=False))
    return file


def frames(count: int) -> str:
    """Return hydrogen molecules of different lengths, each a molecule of its own for the splits."""
    header = 'Lattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3:forces:R:3 energy={} pbc="F F F" molecule=m{}'
    lines = []
    for number in range(count):
        length = 0.6 + 0.4 * number / count
        pull = 3.0 * (length - 0.75)
        lines += [
            "2",
            header.format(-1 + 1.5 * (length - 0.75) ** 2, number),
            f"H 0 0 0 0 0 {pull}",
            f"H 0 0 {length} 0 0 {-pull}",
        ]
    return "\n".join(lines) + "\n"
