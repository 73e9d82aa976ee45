"""What one attempt is doing, or did: its heartbeat, its tasks, its receipt."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from workflow.report.record import read_json_or_remark
from workflow.rundir import AttemptDir


@dataclass(frozen=True)
class Task:
    """One task of an allocation.

    Attributes:
        name: Its name.
        status: running, done, failed, …
        nodes: Names of its nodes.
        phase: What it does.
        done: How much of it.
        total: Of how much.
        unit: Of what.
        epoch: Epoch at work.
        epochs: Epochs in all.
        objective: Best so far.
        rate: Structures per second.
    """

    name: str
    status: str = ""
    nodes: tuple[str, ...] = ()
    phase: str = ""
    done: float | None = None
    total: float | None = None
    unit: str = ""
    epoch: float | None = None
    epochs: float | None = None
    objective: float | None = None
    rate: float | None = None


@dataclass(frozen=True)
class Trials:
    """A search's trials.

    Attributes:
        planned: Evaluations asked for.
        done: Trials with an objective.
        running: Trials at work.
        failed: Trials that failed through their own fault, by cause.
        interrupted: Trials that were interrupted and went on, or wait to do so.
        stopped: Trials that fell behind and were stopped early.
        best: Best objective.
        best_id: Its trial.
    """

    planned: int | None = None
    done: int = 0
    running: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    interrupted: int = 0
    stopped: int = 0
    best: float | None = None
    best_id: int | None = None

    @property
    def ended(self) -> int:
        """Trials that have ended, one way or another."""
        return self.done + self.stopped + sum(self.failed.values())


@dataclass(frozen=True)
class Work:
    """One attempt.

    Attributes:
        has_started: Whether its fence is taken by an agent.
        has_receipt: Whether it has ended.
        beat: Count of its heartbeat; a reader that sees it stand still knows that the agent is silent.
        phase: What the agent does.
        time_left_s: Seconds until it asks tasks to checkpoint, when last heard of.
        nodes: Nodes by use: free, busy, quarantined, spare, allocated.
        facts: What the stage itself publishes.
        tasks: Its tasks; running ones first.
        trials: A search's trials.
        objective: Best objective.
    """

    has_started: bool = False
    has_receipt: bool = False
    beat: int | None = None
    phase: str = ""
    time_left_s: float | None = None
    nodes: dict[str, int] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    tasks: tuple[Task, ...] = ()
    trials: Trials | None = None
    objective: float | None = None

    @property
    def running(self) -> tuple[Task, ...]:
        """Tasks at work."""
        return tuple(task for task in self.tasks if task.status == "running")

    @property
    def rate(self) -> float | None:
        """Structures per second of all ranks at work together; None where none tells."""
        rates = [task.rate for task in self.running if task.rate]
        return sum(rates) if rates else None

    @property
    def stage_in(self) -> dict[str, float]:
        """Bytes copied to all nodes and to be copied, nodes, whether it is a broadcast; empty when all are there."""
        told = self.facts.get("stage_in")
        if not isinstance(told, dict):
            return {}
        done, each, nodes = (_number(told.get(name)) or 0.0 for name in ("done_bytes", "bytes", "nodes"))
        sent = float(bool(told.get("is_broadcast")))
        return {"done": done, "total": each * nodes, "nodes": nodes, "is_broadcast": sent} if done < each * nodes else {}

    @property
    def sources(self) -> tuple[int, int] | None:
        """Data sets converted, of how many; None for other stages."""
        told = self.facts.get("sources")
        return (int(told.get("done") or 0), int(told.get("total") or 0)) if isinstance(told, dict) else None


def read_work(attempt: AttemptDir, remarks: list[str]) -> Work:
    """Read what an attempt is doing, from its heartbeat while it runs and from its receipt when it has ended."""
    beat = read_json_or_remark(attempt.heartbeat, remarks) or {}
    receipt = read_json_or_remark(attempt.receipt, remarks)
    result = (receipt or {}).get("result") or {}
    facts = dict(beat.get("progress") or {})
    tasks = tuple(sorted((_task(name, each) for name, each in (beat.get("tasks") or {}).items()), key=_running_first))
    trials = trials_of_result(result) or trials_of_facts(facts)
    return Work(
        has_started=bool(beat) or attempt.start.is_file(),
        has_receipt=receipt is not None,
        beat=beat.get("count"),
        phase=str(beat.get("phase") or ""),
        time_left_s=beat.get("time_left_s"),
        nodes={name: int(count) for name, count in (beat.get("nodes") or {}).items() if isinstance(count, int)},
        facts=facts,
        tasks=tasks,
        trials=trials,
        objective=_objective(result, trials, tasks),
    )


def trials_of_result(result: dict[str, Any]) -> Trials | None:
    """Count the trials that a search's receipt lists."""
    if "trials" not in result:
        return None
    rows = [row for row in result["trials"] if isinstance(row, dict)]
    done = [row for row in rows if row.get("objective") is not None and row.get("status") == "done"]
    failed: dict[str, int] = {}
    for row in rows:
        if row.get("status") == "failed":
            failed[str(row["cause"])] = failed.get(str(row["cause"]), 0) + 1
    best = min(done, key=lambda row: float(row["objective"])) if done else {}
    interrupted = sum(1 for row in rows if row.get("interrupted"))
    return Trials(
        done=len(done),
        failed=failed,
        interrupted=interrupted,
        stopped=sum(row.get("status") == "stopped" for row in rows),
        best=_number(best.get("objective")),
        best_id=best.get("id"),
    )


def trials_of_facts(facts: dict[str, Any]) -> Trials | None:
    """Return the trials that a running search publishes."""
    told = facts.get("trials")
    if not isinstance(told, dict):
        return None
    failed = {str(cause): int(count) for cause, count in (told.get("failed") or {}).items()}
    best = facts.get("best") or {}
    return Trials(
        planned=told.get("total"),
        done=int(told.get("done") or 0),
        running=int(told.get("running") or 0),
        failed=failed,
        interrupted=int(told.get("interrupted") or 0),
        stopped=int(told.get("stopped") or 0),
        best=_number(best.get("objective")),
        best_id=best.get("trial"),
    )


def _task(name: str, fields: dict[str, Any]) -> Task:
    progress = fields.get("progress") or {}
    return Task(
        name=name,
        status=str(fields.get("status") or ""),
        nodes=tuple(fields.get("nodes") or ()),
        phase=str(progress.get("phase") or ""),
        done=_number(progress.get("done")),
        total=_number(progress.get("total")),
        unit=str(progress.get("unit") or ""),
        epoch=_number(progress.get("epoch")),
        epochs=_number(progress.get("epochs")),
        objective=_number(progress.get("objective")),
        rate=_number(progress.get("rate")),
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _running_first(task: Task) -> tuple[bool, str]:
    return task.status != "running", task.name


def _objective(result: dict[str, Any], trials: Trials | None, tasks: tuple[Task, ...]) -> float | None:
    if trials is not None:
        return trials.best  # objectives of trials that are still at work do not count
    told = [_number(result.get("objective")), *(task.objective for task in tasks)]
    return min((value for value in told if value is not None), default=None)
