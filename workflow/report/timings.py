"""Where the time of a stage went: stage-in, phases of its tasks, checkpoints; out of what attempts left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from model.outcome import OUTCOME_FILE
from workflow.report.record import read_json_or_remark
from workflow.rundir import AttemptDir

PHASES = ("load", "data", "forward", "backward", "reduce", "validate", "checkpoint", "other")
MOST_TASKS = 2000
"""Tasks of a stage whose outcomes are read; of a longer search the newest."""
_LOADING = ("assemble", "restore", "load", "read")


@dataclass(frozen=True)
class TaskFacts:
    """One task that told how it ended.

    Attributes:
        name: Its name, without the number of its try.
        folder: Its folder.
        outcome: What it reported.
    """

    name: str
    folder: Path
    outcome: dict[str, Any]

    @property
    def result(self) -> dict[str, Any]:
        """Return what it found."""
        found: dict[str, Any] = self.outcome.get("result") or {}
        return found

    @property
    def config(self) -> dict[str, Any]:
        """Return what it was given; empty where that cannot be read any more."""
        try:
            found = yaml.safe_load((self.folder / "config.yaml").read_text())
        except (OSError, yaml.YAMLError):
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def trains(self) -> bool:
        """Say whether it was a training, and got as far as one."""
        return "assemble" in self.spent

    @property
    def spent(self) -> dict[str, float]:
        """Return its seconds by phase."""
        return {str(name): float(value) for name, value in (self.outcome.get("timings_s") or {}).items()}


@dataclass(frozen=True)
class StageIn:
    """One copying of files to the nodes of an allocation.

    Attributes:
        attempt: `link.attempt`.
        facts: files, bytes (of each node), nodes, skipped_files (that stood there), seconds (of the slowest node), elapsed_s.
    """

    attempt: str
    facts: dict[str, Any] = field(default_factory=dict)


def read_tasks(attempts: Sequence[AttemptDir]) -> tuple[TaskFacts, ...]:
    """Return the tasks of attempts that told how they ended, oldest first."""
    paths = [path for each in attempts for path in sorted(each.tasks.glob(f"*/{OUTCOME_FILE}"))][-MOST_TASKS:]
    found = ((path.parent, read_json_or_remark(path, [])) for path in paths)
    return tuple(TaskFacts(folder.name.partition(".")[0], folder, outcome) for folder, outcome in found if outcome)


def read_stage_ins(attempts: Iterable[AttemptDir]) -> tuple[StageIn, ...]:
    """Return what was copied to nodes, oldest first."""
    found = [
        StageIn(_name(attempt), facts)
        for attempt in attempts
        for path in sorted(attempt.run.glob("staging/*/staged.json"))
        if (facts := read_json_or_remark(path, [])) is not None
    ]
    return tuple(found)


def phases(tasks: Iterable[TaskFacts]) -> dict[str, float]:
    """Add up the seconds of tasks by the phases of a training; what has no name of its own there is `other`."""
    found = dict.fromkeys(PHASES, 0.0)
    for spent in (each.spent for each in tasks):
        named = 0.0
        for phase, seconds in spent.items():
            name = "load" if phase in _LOADING else phase
            if name in found and name != "other":
                found[name] += seconds
                named += seconds
        found["other"] += max(0.0, spent.get("command", named) - named)
    return found


def checkpoints(tasks: Iterable[TaskFacts]) -> dict[str, float]:
    """Add up the checkpoints that tasks wrote: count, seconds, longest_s, and the seconds of all else (`command`)."""
    found = {"count": 0.0, "seconds": 0.0, "longest_s": 0.0, "command": 0.0}
    for each in tasks:
        told: Mapping[str, Any] = each.result.get("checkpoints") or {}
        found["count"] += told.get("count") or 0
        found["seconds"] += told.get("seconds") or each.spent.get("checkpoint", 0.0)
        found["longest_s"] = max(found["longest_s"], told.get("longest_s") or 0.0)
        found["command"] += each.spent.get("command", 0.0)
    return found


def _name(attempt: AttemptDir) -> str:
    return f"{attempt.root.parent.name.removeprefix('link-')}.{attempt.root.name.removeprefix('attempt-')}"
