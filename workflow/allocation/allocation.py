"""What a stage sees of the agent: tasks on nodes, node-local copies, the record, the time that is left."""

from __future__ import annotations

import getpass
import json
import re
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.config import Task, dump
from model.specs import Owner
from workflow.allocation.deadline import Deadline
from workflow.allocation.executor import Kernel
from workflow.allocation.launch import Setting
from workflow.allocation.nodes import NodePool
from workflow.allocation.staging import Staging
from workflow.allocation.task import TaskLaunch
from workflow.allocation.watch import PROGRESS_FILE, STOP_FILE, read_progress
from workflow.batch.scheduler import for_site
from workflow.errors import StageError
from workflow.receipt import Output, vouch
from workflow.request import Request
from workflow.rundir import AttemptDir
from workflow.site import Site
from workflow.stages.base import Record, TaskResult

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_ENDED_SHOWN = 20


class RevokedError(StageError):
    """The attempt has lost its right to have effect: it ends, and leaves no receipt."""


def require_right(attempt: AttemptDir) -> None:
    """End the stage if the attempt has been revoked.

    Raises:
        RevokedError: It has.
    """
    if attempt.revoked.exists():
        raise RevokedError("the attempt was revoked", str(attempt.revoked), "Another attempt at this link has taken over.")


@dataclass(frozen=True)
class Machinery:
    """The parts of the agent that an allocation stands on."""

    site: Site
    setting: Setting
    pool: NodePool
    deadline: Deadline
    kernel: Kernel
    staging: Staging
    record: Record


class AgentAllocation:
    """The agent's `Allocation` (see `workflow.stages.base`)."""

    def __init__(self, request: Request, folder: AttemptDir, machinery: Machinery, nodes: tuple[str, ...]) -> None:
        self.request, self.folder = request, folder
        self.record: Record = machinery.record
        self.campaign = Path(request.campaign)
        site = machinery.site
        self.num_nodes = machinery.pool.num_usable
        self.devices_per_node, self.device_memory_gb = site.node.devices, site.node.device_memory_gb
        self._of, self._nodes = machinery, nodes
        self._facts: dict[str, Any] = {}
        self._futures: dict[str, Future[TaskResult]] = {}
        self._lock = threading.Lock()

    def task(
        self,
        name: str,
        command: str,
        config: Task,
        *,
        nodes: int = 1,
        ranks_per_node: int | None = None,
        needs: Sequence[Future[Any]] = (),
        estimate_s: float = 0.0,
    ) -> Future[TaskResult]:
        """Start `python -m model <command>` on some nodes as soon as they are free and `needs` are done."""
        require_right(self.folder)
        folder, ranks = self._new_folder(name), ranks_per_node or self.devices_per_node
        threads = self._of.site.node.cores_of(ranks)
        self._write_configs(folder, config, threads)
        launch = TaskLaunch(
            name=name,
            folder=folder,
            argv=(sys.executable, "-m", "model", command, "config.yaml"),
            nodes=nodes,
            ranks_per_node=ranks,
            environment={"OMP_NUM_THREADS": str(threads)},
            estimate_s=estimate_s,
            by_hand=(sys.executable, "-m", "model", command, "by-hand.yaml"),
        )
        future = self._of.kernel.task(launch, needs)
        with self._lock:
            self._futures[name] = future
        return future

    def task_folder(self, name: str) -> Path:
        """Return the folder that the task of this name has or will have."""
        return self.folder.tasks / name

    def stop_task(self, name: str) -> None:
        """Ask one task to checkpoint and end in order; it then ends as partial."""
        (self.task_folder(name) / STOP_FILE).touch()

    def stage_in(self, outputs: Sequence[Output]) -> Future[Path]:
        """Copy outputs to the node-local folder of every node, verified by digest; gives that folder.

        What has no room there is read where it lies.
        """
        require_right(self.folder)
        room = self._of.site.node.local_gb
        if room is not None and sum(each.size for each in outputs) > room * 1e9:
            return self._of.kernel.stage(lambda: self.campaign)
        return self._of.kernel.stage(lambda: self._of.staging.stage(self._nodes, outputs))

    def time_left(self) -> float:
        """Return the seconds until tasks are asked to checkpoint."""
        return self._of.deadline.time_left()

    def local_folder(self) -> Path:
        """Return the node-local folder of this attempt; `{node}` in it stands for a node's name."""
        return Path(self._of.staging.folder)

    def why_stopping(self) -> str:
        """Return why the allocation stops: its own timer, a signal, a person."""
        return self._of.deadline.reason

    def warned(self) -> bool | None:
        """Say whether the signal that the scheduler was asked for has come; None where none is asked for."""
        is_asked = for_site(self._of.site).warning_s(self.request.walltime_s) > 0
        return self._of.deadline.is_warned if is_asked else None

    def is_stopping(self) -> bool:
        """Say whether the deadline has come, a cancel was asked for, or the attempt was revoked."""
        return self._of.deadline.is_due or self.folder.revoked.exists()

    def progress(self, **facts: Any) -> None:
        """Publish JSON facts for `status` through the heartbeat."""
        json.dumps(facts)  # a fault shows here, at the stage that made it
        with self._lock:
            self._facts.update(facts)

    def vouch(self, role: str, path: Path) -> tuple[Output, ...]:
        """List the files at `path` with size and digest, for the receipt."""
        return tuple(vouch(self.campaign, role, path))

    def facts(self) -> dict[str, Any]:
        """Return what the heartbeat shows of the stage and its tasks; of ended tasks the latest only."""
        staged = self._of.staging.progress()
        with self._lock:
            progress, futures = dict(self._facts), dict(self._futures)
        ended = [name for name, future in futures.items() if future.done()]
        shown = [name for name in futures if name not in ended[:-_ENDED_SHOWN]]
        tasks = {name: self._task_facts(name, futures[name]) for name in shown}
        return {"progress": {**progress, **({"stage_in": staged} if staged else {})}, "tasks": tasks}

    def _task_facts(self, name: str, future: Future[TaskResult]) -> dict[str, Any]:
        progress = read_progress(self.task_folder(name) / PROGRESS_FILE)
        if future.done():
            result = future.result()
            return {"status": result.status, "cause": result.cause, "nodes": list(result.nodes), "progress": progress}
        nodes = self._of.pool.nodes_of(name)
        return {"status": "running" if nodes else "waiting", "nodes": list(nodes), "progress": progress}

    def _new_folder(self, name: str) -> Path:
        folder = self.task_folder(name)
        if not _NAME.fullmatch(name):
            raise StageError(f"'{name}' is no name of a task", str(folder), "Use letters, digits, '.', '_' and '-'.")
        try:
            folder.mkdir(parents=True)
        except FileExistsError as error:
            raise StageError(f"task '{name}' was started before", str(folder), "Give each try a name of its own.") from error
        return folder

    def _write_configs(self, folder: Path, config: Task, threads: int) -> None:
        node, variable = self._of.site.node, self._of.setting.launcher.node_variable
        config = config.model_copy(update={"threads": threads, "node_variable": variable, "backend": node.backend})
        owner = Owner(heartbeat=self.folder.heartbeat, revoked=self.folder.revoked, ttl_s=self._of.site.periods.ttl_s)
        dump(config.model_copy(update={"owner": owner, "stop": folder / STOP_FILE}), folder / "config.yaml")
        dump(moved(config, self._of.staging.folder, str(self.campaign)), folder / "by-hand.yaml")


def moved(config: Task, old: str, new: str) -> Task:
    """Return a configuration whose paths below `old` lie below `new`: node-local copies do not outlive the attempt."""
    before, after = (json.dumps(path, ensure_ascii=False)[1:-1] for path in (old, new))
    return type(config).model_validate_json(config.model_dump_json().replace(f'"{before}/', f'"{after}/'))


def local_folder(template: str, job_id: str, token: str) -> str:
    """Return the node-local folder of one attempt: it belongs to it alone, so that it may be removed whole.

    Args:
        template: The site's `node.local`; `{user}` and `{job}` are filled in, `{node}` stays.
        job_id: The scheduler's id of the job.
        token: The attempt's token, added where the template does not name the job.
    """
    filled = template.replace("{user}", getpass.getuser()).replace("{job}", job_id)
    return filled if "{job}" in template else f"{filled.rstrip('/')}/{token}"
