"""Where a campaign stands, read from its files alone: no lease, no scheduler, tolerant of whatever is missing."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workflow.errors import CampaignError
from workflow.journal import is_driven, read_events
from workflow.report.history import Try, histories
from workflow.report.progress import Trials, Work, read_work, trials_of_result
from workflow.report.record import Planned, read_json_or_remark, read_planned
from workflow.rundir import RunDir

OVER = ("done", "failed", "cancelled")
"""States that a stage leaves only by `campaign resume`."""
_COMPARED = ("hpo", "train")
"""Kinds whose objective means the same everywhere."""


@dataclass(frozen=True)
class StageStatus:
    """One stage instance.

    Attributes:
        key: `train`, or `train/2`.
        kind: Stage kind.
        needs: Keys of the instances that it waits for.
        state: waiting, ready, submitting, queued, running, ending, retrying, done, failed, held, cancelled.
        waits_for: Of its needs, those not done.
        link: Link at work or last ended; 0 before the first.
        links: Most links.
        attempt: Attempt at that link.
        attempts: Attempts at all links so far.
        nodes: Nodes of one job; 0 on the login node.
        node_hours: Used by ended attempts.
        planned_node_hours: At most, without repeats.
        cause: Why it failed or is held.
        message: The same in a sentence.
        work: What its newest attempt is doing, or did.
        trials: A search's trials; None for other kinds.
        objective: Best objective so far.
    """

    key: str
    kind: str = ""
    needs: tuple[str, ...] = ()
    state: str = "waiting"
    waits_for: tuple[str, ...] = ()
    link: int = 0
    links: int = 1
    attempt: int = 0
    attempts: int = 0
    nodes: int = 0
    node_hours: float = 0.0
    planned_node_hours: float = 0.0
    cause: str = ""
    message: str = ""
    work: Work = field(default_factory=Work)
    trials: Trials | None = None
    objective: float | None = None


@dataclass(frozen=True)
class CampaignStatus:
    """A campaign.

    Attributes:
        folder: Its folder.
        name: Its name.
        site: Site it runs on.
        state: empty, done, failed, held, cancelled, or unfinished.
        driver: ended, or unknown (one may be at work: files alone cannot tell at a glance).
        stages: In the order in which they can run.
        node_hours: Used by ended attempts.
        planned_node_hours: At most, without repeats.
        budget: Upper limit in node-hours.
        events: Lines of the journal.
        remarks: What could not be read.
    """

    folder: Path
    name: str = ""
    site: str = ""
    state: str = "empty"
    driver: str = "ended"
    stages: tuple[StageStatus, ...] = ()
    node_hours: float = 0.0
    planned_node_hours: float = 0.0
    budget: float | None = None
    events: int = 0
    remarks: tuple[str, ...] = ()


def read_status(folder: Path) -> CampaignStatus:
    """Read where a campaign stands. Never raises for missing or damaged files; `remarks` tells of them."""
    rundir, remarks = RunDir(folder), list[str]()
    planned = read_planned(rundir, remarks)
    try:
        events, driven = read_events(rundir), is_driven(rundir)
    except (CampaignError, OSError) as error:
        remarks.append(str(error).splitlines()[0])
        events, driven = [], None
    stages = _stages(rundir, planned, events, remarks)
    return CampaignStatus(
        folder=folder,
        name=planned.name or folder.name,
        site=planned.site,
        state=_overall(stages),
        driver="ended" if driven is False else "unknown",
        stages=stages,
        node_hours=sum(stage.node_hours for stage in stages),
        planned_node_hours=sum(stage.planned_node_hours for stage in stages),
        budget=planned.budget,
        events=len(events),
        remarks=tuple(remarks),
    )


def status_json(status: CampaignStatus) -> str:
    """Return a status as JSON."""
    return json.dumps(dataclasses.asdict(status), indent=1, default=str)


def _stages(rundir: RunDir, planned: Planned, events: list[dict[str, Any]], remarks: list[str]) -> tuple[StageStatus, ...]:
    told = histories(events)
    found: dict[str, StageStatus] = {}
    for key in dict.fromkeys([*planned.stages, *told]):
        plan = planned.stages.get(key, {})
        history = told.get(key)
        base = StageStatus(
            key=key,
            kind=str(plan.get("kind") or (history.kind if history else "")),
            needs=tuple(plan.get("needs", ())),
            links=int(plan.get("links") or 1),
            nodes=int(plan.get("nodes") or 0),
            planned_node_hours=float(plan.get("node_hours") or 0.0),
            waits_for=tuple(need for need in plan.get("needs", ()) if need in found and found[need].state != "done"),
        )
        found[key] = _with_history(base, rundir, history.tries if history else [], remarks)
        if history and history.state:
            found[key] = dataclasses.replace(found[key], state=history.state, cause=history.cause, message=history.message)
    return tuple(found.values())


def _with_history(stage: StageStatus, rundir: RunDir, tries: list[Try], remarks: list[str]) -> StageStatus:
    receipt = read_json_or_remark(rundir.stage_receipt(stage.key), remarks)
    newest = _at_work(tries)
    if newest is None:
        state = "done" if receipt and receipt.get("status") == "done" else "waiting" if stage.waits_for else "ready"
        return dataclasses.replace(
            stage, state=state, objective=_objective(receipt), trials=trials_of_result((receipt or {}).get("result") or {})
        )
    attempt = rundir.attempt(stage.key, newest.link, newest.attempt)
    work = read_work(attempt, remarks)
    return dataclasses.replace(
        stage,
        state=_state(newest, work),
        link=newest.link,
        attempt=newest.attempt,
        attempts=len(tries),
        nodes=newest.nodes or stage.nodes,
        node_hours=sum(each.node_hours for each in tries),
        cause=newest.cause,
        message=newest.message if newest.state in ("failed", "submitting") else "",
        work=work,
        trials=work.trials,
        objective=(work.objective if work.objective is not None else _objective(receipt)) if stage.kind in _COMPARED else None,
    )


def _at_work(tries: list[Try]) -> Try | None:
    """Return the attempt that matters: the one that finished, the running one, the next to run, the newest that was needed."""
    done = [each for each in tries if each.state == "done"]  # a link behind it may end later, having done nothing
    running = [each for each in tries if each.state == "running"]
    coming = [each for each in tries if each.state in ("submitting", "queued")]
    needed = [each for each in tries if each.state not in ("unneeded", "revoked")]
    candidates = done[:1] or running or coming[:1] or needed or tries
    return candidates[-1] if candidates else None


def _state(newest: Try, work: Work) -> str:
    if newest.state in ("submitting", "queued", "running"):
        return "ending" if work.has_receipt else "running" if work.has_started else newest.state
    return "retrying" if newest.state == "failed" else "ready"


def _objective(receipt: dict[str, Any] | None) -> float | None:
    value = (receipt or {}).get("result", {}).get("objective")
    return float(value) if isinstance(value, int | float) else None


def _overall(stages: tuple[StageStatus, ...]) -> str:
    states = [stage.state for stage in stages]
    if not states:
        return "empty"
    if all(state == "done" for state in states):
        return "done"
    moving = [stage for stage in stages if stage.state not in (*OVER, "held") and not _is_blocked(stage, stages)]
    if moving:
        return "unfinished"
    return next((state for state in ("failed", "cancelled", "held") if state in states), "unfinished")


def _is_blocked(stage: StageStatus, stages: tuple[StageStatus, ...]) -> bool:
    """Say whether a stage waits, directly or not, for one that will not be done."""
    states = {each.key: each for each in stages}
    queue, seen = list(stage.waits_for), set[str]()
    while queue:
        need = queue.pop()
        if states[need].state in ("failed", "cancelled", "held"):
            return True
        if need not in seen:
            seen.add(need)
            queue.extend(states[need].waits_for)
    return False
