"""An allocation without nodes: tasks are Python functions on threads, everything a stage sees is real files."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from model.config import EvaluateConfig, LeakageConfig, Task
from model.outcome import Cause, Outcome, Status, write_outcome
from workflow.receipt import Output, Receipt, verify, vouch
from workflow.request import Request
from workflow.rundir import AttemptDir, RunDir
from workflow.stages.base import StageResult, TaskResult

TESTED = Outcome(
    Status.DONE,
    result={"split": "test", "objective": 0.7, "metrics": {"gfn1": {"num_structures": 3}}},
    outputs={"parity": "parity.json"},
)
_NONE = {"train": 0, "validation": 0, "test": 0}
_BRANCHES = {"gfn1": {"identity": _NONE, "composition": _NONE}}
LEAKED = Outcome(Status.DONE, result={"divisions": [{"structures": _NONE, "branches": _BRANCHES}]})
SITE = {"node": {"devices": 1, "backend": "gloo"}}
Behaviour = Callable[[str, Any, Path], Outcome | Cause | None]
"""What a task does: given its name, configuration and folder, an outcome; a cause where it leaves none; None: bug."""


class MemoryRecord:
    """A record in memory that goes through JSON as the real one does."""

    def __init__(self, events: Sequence[dict[str, Any]] = ()) -> None:
        self.lines = list(events)

    def append(self, event: str, **fact: Any) -> None:
        self.lines.append(json.loads(json.dumps({"event": event, **fact}, allow_nan=False)))

    def events(self) -> list[dict[str, Any]]:
        return list(self.lines)


@dataclass
class FakeAllocation:
    request: Request
    campaign: Path
    behaviour: Behaviour
    num_nodes: int = 2
    devices_per_node: int = 1
    device_memory_gb: float = 1e6
    record: MemoryRecord = field(default_factory=MemoryRecord)
    stops_after: int = 1_000_000
    time_left_s: float = 1e9
    facts: dict[str, Any] = field(default_factory=dict)
    warnings: list[bool] = field(default_factory=list)
    configs: dict[str, Any] = field(default_factory=dict)
    leaked: Outcome | Cause = LEAKED
    compared: dict[str, LeakageConfig] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder = RunDir(self.campaign).attempt(self.request.stage, self.request.link, self.request.attempt)
        self.folder.tasks.mkdir(parents=True)
        self.running = self.most_running = 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(8)

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
        assert name not in self.configs, "a task's name is its folder: it must be its own"
        if isinstance(config, LeakageConfig):  # what tasks have in common with branches; no training either
            self.compared[name] = config
        else:
            self.configs[name] = config
        if estimate_s > self.time_left_s:
            refused: Future[TaskResult] = Future()
            refused.set_result(TaskResult(name, self.task_folder(name), Status.FAILED, Cause.WALLTIME, "too late", None, (), 0.0))
            return refused
        with self._lock:
            self.running += nodes
            self.most_running = max(self.most_running, self.running)
        return self._pool.submit(self._run, name, config, nodes)

    def _run(self, name: str, config: Task, nodes: int) -> TaskResult:
        folder = self.task_folder(name)
        folder.mkdir()
        is_test = isinstance(config, EvaluateConfig)  # what a training is measured by; no behaviour of the training's own
        apart = TESTED if is_test else self.leaked if isinstance(config, LeakageConfig) else None
        result = apart or self.behaviour(name, config, folder)
        if is_test:
            (folder / TESTED.outputs["parity"]).write_text("{}")
        with self._lock:
            self.running -= nodes
        if isinstance(result, Outcome):
            write_outcome(folder, result)
            return TaskResult(name, folder, result.status, result.cause, result.message, result, ("n1",), 1.0)
        return TaskResult(name, folder, Status.FAILED, result or Cause.BUG, f"it ended with {result}", None, ("n1",), 1.0)

    def task_folder(self, name: str) -> Path:
        return self.folder.tasks / name

    def stop_task(self, name: str) -> None:
        (self.task_folder(name) / "stop").touch()

    def stage_in(self, outputs: Sequence[Output]) -> Future[Path]:
        future: Future[Path] = Future()
        verify(self.campaign, tuple(outputs))
        future.set_result(self.campaign)
        return future

    def time_left(self) -> float:
        return self.time_left_s

    def why_stopping(self) -> str:
        return "the end of the walltime is near"

    def warned(self) -> bool | None:
        """Give the next of `warnings`, the last one again and again; without any, no signal is asked for."""
        return (self.warnings.pop(0) if len(self.warnings) > 1 else self.warnings[0]) if self.warnings else None

    def is_stopping(self) -> bool:
        return len(self.configs) >= self.stops_after

    def progress(self, **facts: Any) -> None:
        self.facts.update(facts)

    def vouch(self, role: str, path: Path) -> tuple[Output, ...]:
        return tuple(vouch(self.campaign, role, path))

    def receipt(self, result: StageResult) -> Receipt:
        r = self.request
        facts = json.loads(json.dumps(result.result, allow_nan=False))
        return Receipt(
            r.token, r.stage, r.link, r.attempt, result.status, result.cause, result.message, {}, result.outputs, facts
        )


def request(campaign: Path, stage: str, kind: str, spec: dict[str, Any], **other: Any) -> Request:
    base = Request(
        campaign_id="0" * 32,
        campaign=str(campaign),
        name="test",
        token="c0",
        stage=stage,
        instance=int(stage.partition("/")[2] or 0),
        kind=kind,
        spec={"kind": kind, "nodes": 2, **spec},
        link=1,
        links=1,
        attempt=1,
        nodes=2,
        walltime_s=600.0,
        site=SITE,
        branches={
            "gfn1": {"reader": "extxyz", "path": ["/data/a.xyz"]},
            "emt": {"reader": "extxyz", "path": ["/data/b.xyz"], "weight": 2.0},
        },
        sources={"task": {"reader": "extxyz", "path": ["/data/c.xyz"]}},
        splits={"seed": 3},
    )
    return replace(base, **other)


def following(allocation: FakeAllocation, **other: Any) -> Request:
    """Return the request of the link after this one."""
    earlier = str(allocation.folder.root.relative_to(allocation.campaign))
    previous = (*allocation.request.previous, earlier)
    return replace(allocation.request, **{"link": allocation.request.link + 1, "previous": previous, **other})


def data_receipt(campaign: Path, *names: str) -> Receipt:
    """Return the receipt of a conversion, with small files as stores."""
    outputs: list[Output] = []
    facts: dict[str, Any] = {}
    for name in names:
        store = campaign / "stages" / "data" / "stores" / name
        store.mkdir(parents=True)
        (store / "manifest.json").write_text(name)
        outputs += vouch(campaign, f"store:{name}", store)
        facts[name] = {"structures": 100, "atoms": 2000, "store": str(store.relative_to(campaign))}
    return Receipt("", "data", 1, 1, Status.DONE, outputs=tuple(outputs), result={"branches": facts})


def trained(folder: Path, config: Any, objective: float, epochs: int | None = None) -> Outcome:
    """Do what a training does: leave checkpoints and report."""
    for role in ("last", "best"):
        (folder / "checkpoints" / role).mkdir(parents=True, exist_ok=True)
        (folder / "checkpoints" / role / "meta.json").write_text(f"{objective}")
    reached = epochs or config.epochs
    training = config.model_dump(mode="json", exclude={"branches", "owner", "stop"})
    facts = {"objective": objective, "epochs": reached, "model": config.model.model_dump(mode="json"), "training": training}
    status = Status.DONE if reached >= config.epochs else Status.PARTIAL
    return Outcome(status, result=facts, outputs={"last": "checkpoints/last", "best": "checkpoints/best"})


def attempt_of(allocation: FakeAllocation) -> AttemptDir:
    return allocation.folder
