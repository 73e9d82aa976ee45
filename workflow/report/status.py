"""Where a campaign stands, read from its files alone: no lease, no scheduler, tolerant of whatever is missing."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workflow.approval import read_approval, waiting
from workflow.budget import NodeHours, approved, fits
from workflow.errors import CampaignError, ConfigError
from workflow.journal import is_driven, read_events
from workflow.ledger import Ledger, StageEntry
from workflow.report.history import History, Try, histories
from workflow.report.progress import Trials, Work, read_work, trials_of_result
from workflow.report.record import Planned, read_json_or_remark, read_planned
from workflow.rundir import RunDir

OVER = ("done", "failed", "cancelled")
"""States that a stage leaves only by `campaign resume`."""
_DRIVERS = {True: "at work", False: "ended", None: "unknown"}
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
        job_id: The batch system's id of that attempt's job.
        since: Unix time at which that attempt was asked for, or began to run, by its driver's clock.
        behind: Jobs that wait for that one.
        nodes: Nodes of one job; 0 on the login node.
        job_node_hours: Cost of one job at full walltime.
        node_hours: Used by ended attempts.
        reserved_node_hours: Reserved by attempts whose end is not known.
        planned_node_hours: At most, without repeats.
        cause: Why it failed or is held.
        message: The same in a sentence.
        approved: It is held, and what was approved since lets it go on as soon as a driver takes that in.
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
    job_id: str = ""
    since: float | None = None
    behind: int = 0
    nodes: int = 0
    job_node_hours: float = 0.0
    node_hours: float = 0.0
    reserved_node_hours: float = 0.0
    planned_node_hours: float = 0.0
    cause: str = ""
    message: str = ""
    approved: bool = False
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
        file: The YAML file it came from; empty where nothing tells.
        driver: at work, ended, or unknown (one may be at work on another host: files alone cannot tell at a glance).
        stages: In the order in which they can run.
        node_hours: Used by ended attempts.
        reserved_node_hours: Reserved by attempts whose end is not known.
        planned_node_hours: At most, without repeats.
        budget: Upper limit in node-hours, as the file says.
        approved: Upper limit with what was approved since.
        to_take_in: The same with approvals that no driver has taken in yet; None where none waits.
        events: Lines of the journal.
        remarks: What could not be read.
    """

    folder: Path
    name: str = ""
    site: str = ""
    file: str = ""
    state: str = "empty"
    driver: str = "ended"
    stages: tuple[StageStatus, ...] = ()
    node_hours: float = 0.0
    reserved_node_hours: float = 0.0
    planned_node_hours: float = 0.0
    budget: float | None = None
    approved: float | None = None
    to_take_in: float | None = None
    events: int = 0
    remarks: tuple[str, ...] = ()


def read_status(folder: Path, file: Path | None = None) -> CampaignStatus:
    """Read where a campaign stands. Never raises for missing or damaged files; `remarks` tells of them.

    Args:
        folder: The campaign's folder.
        file: Its YAML file, where known: for a campaign that has not begun.
    """
    rundir, remarks = RunDir(folder), list[str]()
    has_begun = rundir.campaign.exists() or rundir.journal.exists()
    planned = read_planned(rundir, remarks) if has_begun else Planned(file=str(file or ""))
    try:
        events, driven = read_events(rundir), is_driven(rundir)
        ledger = Ledger(events)
    except (CampaignError, OSError) as error:
        remarks.append(str(error).splitlines()[0])
        events, driven, ledger = [], None, Ledger(())
    limit = NodeHours(planned.budget) if planned.budget else None
    total, later = approved(limit, ledger), _with_waiting(rundir, events, ledger, remarks)
    stages = _stages(rundir, planned, (histories(events), ledger), remarks)
    stages = tuple(_approved(each, limit, later) if each.state == "held" and later else each for each in stages)
    return CampaignStatus(
        folder=folder,
        name=planned.name or folder.name,
        site=planned.site,
        file=planned.file,
        state=_overall(stages),
        driver=_DRIVERS[driven],
        stages=stages,
        node_hours=sum(stage.node_hours for stage in stages),
        reserved_node_hours=sum(stage.reserved_node_hours for stage in stages),
        planned_node_hours=sum(stage.planned_node_hours for stage in stages),
        budget=planned.budget,
        approved=total,
        to_take_in=approved(limit, later) if later else None,
        events=len(events),
        remarks=tuple(remarks),
    )


def _with_waiting(rundir: RunDir, events: list[dict[str, Any]], ledger: Ledger, remarks: list[str]) -> Ledger | None:
    """Return the books as they will be when the approvals that wait are taken in; None where none waits."""
    found = []
    for path in waiting(rundir, ledger.approvals):
        try:
            found.append(read_approval(path))
        except ConfigError as error:
            remarks.append(f"{error.where}: {error.what}; {error.remedy}")
    if not found:
        return None
    later = Ledger(events)
    for each in found:
        later.apply({"event": "approved", **dataclasses.asdict(each)})
    return later


def _approved(stage: StageStatus, limit: NodeHours | None, later: Ledger) -> StageStatus:
    return dataclasses.replace(stage, approved=fits(limit, later, stage.key, stage.job_node_hours))


def status_json(status: CampaignStatus) -> str:
    """Return a status as JSON."""
    return json.dumps(dataclasses.asdict(status), indent=1, default=str)


def _stages(
    rundir: RunDir, planned: Planned, told: tuple[dict[str, History], Ledger], remarks: list[str]
) -> tuple[StageStatus, ...]:
    histories_of, ledger = told
    found: dict[str, StageStatus] = {}
    for key in dict.fromkeys([*planned.stages, *histories_of]):
        history = histories_of.get(key, History())
        base = _planned(key, planned.stages.get(key, {"kind": history.kind}), found)
        found[key] = _with_history(base, rundir, history.tries, ledger.stage(key), remarks)
        if history.state:
            found[key] = dataclasses.replace(found[key], state=history.state, cause=history.cause, message=history.message)
    return tuple(found.values())


def _planned(key: str, plan: dict[str, Any], earlier: dict[str, StageStatus]) -> StageStatus:
    needs, nodes = tuple(plan.get("needs", ())), int(plan.get("nodes") or 0)
    return StageStatus(
        key=key,
        kind=str(plan.get("kind") or ""),
        needs=needs,
        links=int(plan.get("links") or 1),
        nodes=nodes,
        job_node_hours=nodes * float(plan.get("walltime_s") or 0.0) / 3600,
        planned_node_hours=float(plan.get("node_hours") or 0.0),
        waits_for=tuple(need for need in needs if need in earlier and earlier[need].state != "done"),
    )


def _with_history(stage: StageStatus, rundir: RunDir, tries: list[Try], entry: StageEntry, remarks: list[str]) -> StageStatus:
    receipt = read_json_or_remark(rundir.stage_receipt(stage.key), remarks)
    newest = _at_work(tries)
    if newest is None:
        state = "done" if receipt and receipt.get("status") == "done" else "waiting" if stage.waits_for else "ready"
        return dataclasses.replace(
            stage, state=state, objective=_objective(receipt), trials=trials_of_result((receipt or {}).get("result") or {})
        )
    attempt = rundir.attempt(stage.key, newest.link, newest.attempt)
    work = read_work(attempt, remarks)
    used = sum(each.proven for each in entry.attempts)
    so_far = _so_far(stage, rundir, tries, work) if stage.kind in _COMPARED else Work()
    return dataclasses.replace(
        stage,
        state=_state(newest, work),
        link=newest.link,
        links=max(stage.links, *(each.link for each in tries)),
        attempt=newest.attempt,
        attempts=len(tries),
        job_id=newest.job_id,
        since=newest.started or newest.asked,
        behind=sum(each.link > newest.link for each in entry.open),
        nodes=newest.nodes or stage.nodes,
        node_hours=used,
        reserved_node_hours=sum(each.node_hours for each in entry.attempts) - used,
        cause=newest.cause,
        message=newest.message if newest.state in ("failed", "submitting") else "",
        work=work,
        trials=so_far.trials,
        objective=so_far.objective if so_far.objective is not None or stage.kind not in _COMPARED else _objective(receipt),
    )


def _so_far(stage: StageStatus, rundir: RunDir, tries: list[Try], work: Work) -> Work:
    """Return what tells trials and objective: the work at hand, or between two jobs that of the last one."""
    if work.trials is not None or work.objective is not None:
        return work
    ended = [each for each in tries if each.state == "partial"]
    return read_work(rundir.attempt(stage.key, ended[-1].link, ended[-1].attempt), []) if ended else work


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
