"""Everything that a report tells of a campaign, gathered from receipts, records and metrics."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from workflow.errors import CampaignError
from workflow.journal import read_events
from workflow.report.history import History, histories
from workflow.report.record import Planned, read_json_or_remark, read_planned
from workflow.report.status import CampaignStatus, StageStatus, read_status
from workflow.rundir import AttemptDir, RunDir

Line = dict[str, Any]


@dataclass(frozen=True)
class StageFacts:
    """One stage instance.

    Attributes:
        status: Where it stands.
        spec: Its keys in the file, resolved for the site.
        history: Its attempts.
        result: What its receipt says, or the newest attempt's; empty before.
        outputs: Files that the receipt vouches for.
        trials: A search's trials, from the receipt or, before it stands, from the record.
        curves: Validation lines of its trainings, by task.
        outcome: What one of its tasks reported: versions, world size, timings.
    """

    status: StageStatus
    spec: dict[str, Any] = field(default_factory=dict)
    history: History = field(default_factory=History)
    result: dict[str, Any] = field(default_factory=dict)
    outputs: tuple[Line, ...] = ()
    trials: tuple[Line, ...] = ()
    curves: dict[str, list[Line]] = field(default_factory=dict)
    outcome: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Return the stage instance's key."""
        return self.status.key


@dataclass(frozen=True)
class Facts:
    """A campaign.

    Attributes:
        status: Where it stands.
        planned: What its first driver wrote down.
        stages: Its stages.
        created: The journal's line of its creation: identity, versions, digest of the file.
        begun: Time of the first line of the journal.
        written: Time of this gathering.
        drivers: How many drivers it has had.
    """

    status: CampaignStatus
    planned: Planned
    stages: tuple[StageFacts, ...]
    created: Line
    begun: datetime | None
    written: datetime
    drivers: int


def gather(folder: Path) -> Facts:
    """Gather what a report needs; what is missing or damaged is left out and remarked in the status."""
    rundir, remarks = RunDir(folder), list[str]()
    status, planned = read_status(folder), read_planned(rundir, remarks)
    try:
        events = read_events(rundir)
    except (CampaignError, OSError):
        events = []  # read_status has remarked it
    told = histories(events)
    stages = tuple(_stage(rundir, stage, planned, told.get(stage.key, History())) for stage in status.stages)
    created = next((event for event in events if event.get("event") == "created"), {})
    begun = datetime.fromtimestamp(events[0]["t"], UTC) if events else None
    drivers = len({event.get("epoch") for event in events})
    return Facts(status, planned, stages, created, begun, datetime.now(UTC), drivers)


def read_lines(path: Path) -> list[Line]:
    """Read JSON lines; a torn or damaged one ends the reading."""
    lines: list[Line] = []
    try:
        with open(path, "rb") as file:
            for line in file:
                lines.append(json.loads(line))
    except (OSError, ValueError):
        return lines
    return lines


def fold_trials(events: Iterable[Line]) -> list[Line]:
    """Return a search's trials as its record tells them, in the form of the receipt's."""
    trials: dict[int, Line] = {}
    for event in events:
        if event.get("event") == "ask":
            for each in event.get("trials", []):
                trials[each["trial"]] = {
                    "id": each["trial"],
                    "config": each.get("point", {}),
                    "status": "waiting",
                    "interrupted": 0,
                }
        elif event.get("trial") in trials:
            _follow(trials[event["trial"]], event)
    return list(trials.values())


def _follow(trial: Line, event: Line) -> None:
    name = event["event"]
    if name == "task":
        trial["status"] = "running"
    elif name == "refused":
        trial |= {"status": "failed", "cause": event.get("cause"), "message": event.get("message")}
    elif name == "end":
        seconds = trial.get("seconds", 0.0) + (event.get("seconds") or 0.0)
        trial |= {key: event.get(key) for key in ("status", "cause", "message", "objective", "epochs")} | {"seconds": seconds}
    elif name == "rung":
        trial |= {
            "is_out": not event.get("goes_on"),
            "rung": {"objective": event.get("objective"), "epochs": event.get("epochs")},
        }
    elif name == "lost" and trial.get("is_out"):
        trial |= {"status": "stopped", **trial["rung"]}
    elif name in ("lost", "again"):
        trial["status"] = "interrupted"
    trial["interrupted"] += trial["status"] == "interrupted" and name in ("end", "lost")


def _stage(rundir: RunDir, status: StageStatus, planned: Planned, history: History) -> StageFacts:
    attempts = rundir.attempts(status.key)
    receipt = read_json_or_remark(rundir.stage_receipt(status.key), []) or _newest_receipt(attempts) or {}
    result = receipt.get("result") or {}
    trials = result.get("trials") or (_recorded(attempts) if status.kind == "hpo" else [])
    return StageFacts(
        status=status,
        spec=planned.stages.get(status.key, {}).get("spec", {}),
        history=history,
        result=result,
        outputs=tuple(receipt.get("outputs") or ()),
        trials=tuple(trials),
        curves=_curves(attempts) if status.kind in ("train", "finetune") else {},
        outcome=_one_outcome(attempts),
    )


def _newest_receipt(attempts: list[AttemptDir]) -> dict[str, Any] | None:
    found = (read_json_or_remark(attempt.receipt, []) for attempt in reversed(attempts))
    return next((receipt for receipt in found if receipt), None)


def _recorded(attempts: list[AttemptDir]) -> list[Line]:
    return fold_trials(line for attempt in attempts if not attempt.revoked.exists() for line in read_lines(attempt.record))


def _curves(attempts: list[AttemptDir]) -> dict[str, list[Line]]:
    """Return each task's validation lines; a resumed training repeats the earlier ones, so the longest file tells all."""
    found: dict[str, list[Line]] = {}
    for attempt in attempts:
        for path in sorted(attempt.tasks.glob("*/metrics.jsonl")):
            lines, name = read_lines(path), _base(path.parent.name)
            if len(lines) >= len(found.get(name, [])):
                found[name] = lines
    return found


def _base(task: str) -> str:
    """Return a task's name without the number of its try."""
    return task.partition(".")[0]


def _one_outcome(attempts: list[AttemptDir]) -> dict[str, Any]:
    for attempt in reversed(attempts):
        for path in sorted(attempt.tasks.glob("*/outcome.json"))[:20]:
            outcome: dict[str, Any] | None = read_json_or_remark(path, [])
            if outcome and outcome.get("versions"):
                return outcome
    return {}
