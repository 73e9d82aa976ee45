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
from workflow.report.timings import StageIn, TaskFacts, read_stage_ins, read_tasks
from workflow.report.trials import fold_trials, joined
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
        message: What that receipt adds in a sentence.
        outputs: Files that the receipt vouches for.
        trials: A search's trials, from the receipt or, before it stands, from the record.
        curves: Validation lines of its trainings, by task.
        tasks: Its tasks that told how they ended.
        stage_ins: What was copied to its nodes.
        parity: Samples of predictions beside labels that the receipt vouches for, by role: `parity`, `parity:<strategy>`.
        attempt: Name of its newest attempt's folder below the campaign.
    """

    status: StageStatus
    spec: dict[str, Any] = field(default_factory=dict)
    history: History = field(default_factory=History)
    result: dict[str, Any] = field(default_factory=dict)
    message: str = ""
    outputs: tuple[Line, ...] = ()
    trials: tuple[Line, ...] = ()
    curves: dict[str, list[Line]] = field(default_factory=dict)
    tasks: tuple[TaskFacts, ...] = ()
    stage_ins: tuple[StageIn, ...] = ()
    parity: dict[str, Line] = field(default_factory=dict)
    attempt: str = ""

    @property
    def outcome(self) -> dict[str, Any]:
        """Return what its newest task that names its versions reported."""
        return next((each.outcome for each in reversed(self.tasks) if each.outcome.get("versions")), {})

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


def _stage(rundir: RunDir, status: StageStatus, planned: Planned, history: History) -> StageFacts:
    attempts = rundir.attempts(status.key)
    receipt = read_json_or_remark(rundir.stage_receipt(status.key), []) or _newest_receipt(attempts) or {}
    result, outputs = dict(receipt.get("result") or {}), tuple(receipt.get("outputs") or ())
    recorded = _recorded(attempts) if status.kind == "hpo" else []
    if "top" in result:
        result["top"] = _ranking(rundir, outputs) or result["top"]
    return StageFacts(
        status=status,
        spec=planned.stages.get(status.key, {}).get("spec", {}),
        history=history,
        result=result,
        message=str(receipt.get("message") or ""),
        outputs=outputs,
        trials=joined(result.get("trials") or (), recorded),
        curves=_curves(attempts) if status.kind in ("train", "finetune") else {},
        tasks=read_tasks(attempts),
        stage_ins=read_stage_ins(attempts),
        parity=_parity(rundir, outputs),
        attempt=str(attempts[-1].root.relative_to(rundir.root)) if attempts else "",
    )


def _newest_receipt(attempts: list[AttemptDir]) -> dict[str, Any] | None:
    found = (read_json_or_remark(attempt.receipt, []) for attempt in reversed(attempts))
    return next((receipt for receipt in found if receipt), None)


def _recorded(attempts: list[AttemptDir]) -> list[Line]:
    return fold_trials(line for attempt in attempts if not attempt.revoked.exists() for line in read_lines(attempt.record))


def _ranking(rundir: RunDir, outputs: Iterable[Line]) -> list[Line]:
    """Return all candidates that a screening kept: its receipt holds the first of them only."""
    paths = [rundir.root / str(each["path"]) for each in outputs if each.get("role") == "top"]
    found = read_json_or_remark(paths[0], []) if paths else None
    return list((found or {}).get("top") or ())


def _parity(rundir: RunDir, outputs: Iterable[Line]) -> dict[str, Line]:
    found = {
        str(each["role"]): read_json_or_remark(rundir.root / str(each["path"]), [])
        for each in outputs
        if str(each.get("role")).partition(":")[0] == "parity"
    }
    return {role: sample for role, sample in found.items() if sample and sample.get("branches")}


def _curves(attempts: list[AttemptDir]) -> dict[str, list[Line]]:
    """Return each task's validation lines; a resumed training repeats the earlier ones, so the longest file tells all."""
    found: dict[str, list[Line]] = {}
    for attempt in attempts:
        for path in sorted(attempt.tasks.glob("*/metrics.jsonl")):
            lines, name = read_lines(path), path.parent.name.partition(".")[0]
            if len(lines) >= len(found.get(name, [])):
                found[name] = lines
    return found
