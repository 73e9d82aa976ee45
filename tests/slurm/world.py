"""What tests on the cluster share: the site, its books, jobs of a line or two."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from login import Account, System, wait

from slurm.cluster import Cluster
from workflow.batch.scheduler import JobRow, JobSpec, Scheduler, directives
from workflow.site import Site

OVERLAY = Path(__file__).with_name("frontier.yaml")
_STATE, _COMPLETE, _CANCELLED = 0xFF, 3, 4  # slurm.h: enum job_states, and its mask


def system_of(cluster: Cluster) -> System:
    """Return the cluster as the Frontier of a user on its login node."""
    accounts, forget = partial(accounts_of, cluster), partial(forgotten, cluster)
    return System(OVERLAY, cluster.environment, "squeue", "sbatch", "scancel", accounts, forget)


def accounts_of(cluster: Cluster, folder: Path) -> list[Account]:
    """Return what accounting has of the jobs that were handed in below a folder, oldest first.

    Its books themselves are read: `sacct` does not show a job that was cancelled before it became eligible.
    """
    fields = "id_job, job_name, work_dir, state, nodes_alloc, time_start, time_end"
    rows = [_account(*row) for row in cluster.books(f"select {fields} from tests_job_table where deleted = 0 order by id_job")]
    return [row for row in rows if row.folder.is_relative_to(folder)]


def _account(job_id: str, name: str, workdir: str, state: str, nodes: str, began: str, ended: str) -> Account:
    over, given = int(ended) > 0, int(nodes) > 0
    how = {_COMPLETE: "done", _CANCELLED: "cancelled"}.get(int(state) & _STATE, "failed") if over else "open"
    times = (float(began) if int(began) and given else None, float(ended) if over else None)
    return Account(job_id, name, Path(workdir), how, int(nodes), *times)


def forgotten(cluster: Cluster, job_id: str) -> None:
    """Let the controller forget an ended job, as it does by itself in time, and take it out of accounting."""
    wait(lambda: job_id not in cluster.run("squeue", "-h", "-t", "all", "-o", "%i").split(), 120, every=1)
    cluster.books(f"delete from tests_job_table where id_job={int(job_id)}")


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


def ended(batch: Scheduler, job_id: str, seconds: float = 60.0) -> JobRow:
    """Wait for the end of a job; return the row that tells it: its nodes may be seen ending still after accounting has it."""
    seen: list[JobRow] = []

    def is_over() -> bool:
        seen.append(row(batch, job_id))
        return seen[-1].state.is_final

    wait(is_over, seconds)
    return seen[-1]


def with_scheduler(site: Site, **fields: object) -> Site:
    """Return a site whose scheduler differs."""
    return site.model_copy(update={"scheduler": site.scheduler.model_copy(update=fields)})


def with_queue(site: Site, options: Mapping[str, str]) -> Site:
    """Return a site whose first queue is called otherwise by the batch system."""
    queue = site.queues[0].model_copy(update={"name": "bin5", "options": dict(options), "min_nodes": 1, "max_nodes": 9999})
    return site.model_copy(update={"queues": (queue,)})
