"""Jobs as `qstat` and nodes as `pbsnodes` tell them: keys, their order and their forms as a real server's records have them."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from typing import Any

from pbs.execution import Run
from pbs.settings import LOGIN, NCPUS, NODES, ROUTE, SERVER, USER, VERSION
from workflow.batch.scheduler import JobState
from workflow.simulation.job import Job
from workflow.simulation.model import Model

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_DEEP_TEXT = re.compile(r'^(\t{4}"[^"]+":\t)("(?:[^"\\]|\\.)*")', re.MULTILINE)
_TERMINATED = 256 + 15
_WALLTIME = -29


@dataclass
class Record:
    """What the server knows of a job beside the model.

    Attributes:
        rank: Its place in the queue, in microseconds.
        changed: When it changed last, Unix seconds.
        run: Its script at work, or having been.
        obit: When its script was over.
        code: How its script ended.
        barred: What it depends on can never be.
        lost_at: When the routing queue forgets it, which has found no destination for it.
    """

    rank: int
    changed: float
    run: Run | None = None
    obit: float | None = None
    code: int | None = None
    barred: bool = False
    lost_at: float | None = None

    def status(self, job: Job) -> int | None:
        """Return `Exit_status`."""
        told = {JobState.TIMEOUT: _WALLTIME, JobState.CANCELLED: _TERMINATED}
        return None if self.code is None else told.get(job.ending or job.state, self.code)


def letter(job: Job, record: Record, model: Model) -> tuple[str, int]:
    """Return state and substate."""
    if job.state.is_final:
        well = 92 if record.barred or job.exit == 0 else 93
        return "F", 91 if job.state is JobState.CANCELLED and not record.barred else well
    if job.is_running:
        return ("E", 53) if record.obit else ("R", 42 if is_known(job, record, model) else 41)
    if job.state is JobState.HELD:
        return "H", 20
    return ("H", 22) if waits_for_another(job, model) else ("Q", 10)


def waits_for_another(job: Job, model: Model) -> bool:
    """Say whether a job waits for the end of another."""
    return any(each in model.jobs and not model.jobs[each].state.is_final for each in job.ask.after)


def is_known(job: Job, record: Record, model: Model) -> bool:
    """Say whether the session of a started job has become known."""
    return job.started is not None and (record.obit or model.now) - job.started >= job.ask.facts["session_s"]


def describe(job: Job, record: Record, model: Model) -> dict[str, Any]:
    """Return a job's attributes, in the order of a real server's."""
    facts = job.ask.facts
    state, substate = letter(job, record, model)
    has_run, has_ended = job.started is not None, state == "F"
    known = has_run and is_known(job, record, model)
    comment, status = _comment(job, record, state), record.status(job)
    outside = state == "H" or (job.ask.queue == ROUTE and not has_run)
    rows: list[tuple[bool, str, Any]] = [
        (True, "Job_Name", job.ask.name),
        (True, "Job_Owner", f"{USER}@{SERVER}"),
        (known or (has_run and has_ended), "resources_used", _used(job, record, model)),
        (True, "job_state", state),
        (True, "queue", job.ask.queue),
        (True, "server", SERVER),
        (True, "Account_Name", facts["account"]),
        (True, "Checkpoint", "u"),
        (True, "ctime", time.ctime(job.submitted)),
        (bool(facts["depend"]), "depend", facts["depend"]),
        (True, "Error_Path", f"{LOGIN}:{facts['error']}"),
        (has_run, "exec_host", "+".join(f"{node}/0*{NCPUS}" for node in job.nodes)),
        (has_run, "exec_vnode", _vnodes(job)),
        (True, "Hold_Types", "s" if substate == 22 else facts["hold"]),
        (True, "Join_Path", facts["join"]),
        (True, "Keep_Files", facts["keep"]),
        (True, "Mail_Points", "a"),
        (True, "mtime", time.ctime(record.changed)),
        (True, "Output_Path", f"{LOGIN}:{facts['output']}"),
        (True, "Priority", 0),
        (True, "qtime", time.ctime(job.submitted)),
        (True, "Rerunable", facts["rerunable"]),
        (True, "Resource_List", facts["resources"]),
        (True, "schedselect", facts["schedselect"]),
        (has_run, "stime", time.ctime(job.started or 0)),
        (has_run and has_ended, "obittime", time.ctime(record.obit or 0)),
        (known and record.run is not None, "session_id", record.run.session if record.run else 0),
        (known or (has_run and has_ended), "jobdir", facts["variables"]["PBS_O_HOME"]),
        (True, "substate", substate),
        (True, "Variable_List", {name: _guessed(value) for name, value in facts["variables"].items()}),
        (True, "euser", USER),
        (True, "egroup", USER),
        (has_run, "hashname", job.id),
        (True, "queue_rank", record.rank),
        (True, "queue_type", "R" if job.ask.queue == ROUTE else "E"),
        (bool(comment), "comment", comment),
        (has_run or not (outside or has_ended), "etime", time.ctime(job.eligible or job.submitted)),
        (has_run, "run_count", job.runs),
        (has_run and has_ended, "Stageout_status", 1),
        (status is not None, "Exit_status", status),
        (True, "Submit_arguments", facts["arguments"]),
        (has_ended, "history_timestamp", int(job.ended or 0)),
        (True, "project", "_pbs_project_default"),
        (has_run, "run_version", job.runs),
        (True, "Submit_Host", SERVER),
    ]
    return {name: value for holds, name, value in rows if holds}


def _used(job: Job, record: Record, model: Model) -> dict[str, Any]:
    spent = int((record.obit or model.now) - (job.started or 0))
    used = f"{spent // 3600:02d}:{spent // 60 % 60:02d}:{spent % 60:02d}"
    return {"cpupercent": 0, "cput": "00:00:00", "mem": "0kb", "ncpus": NCPUS * len(job.nodes), "vmem": "0kb", "walltime": used}


def _vnodes(job: Job) -> str:
    return "+".join(f"({node}:ncpus={NCPUS})" for node in job.nodes)


def _comment(job: Job, record: Record, state: str) -> str:
    if job.started is None:
        if state in "HF" or job.ask.queue == ROUTE:
            return ""
        reason = job.ask.facts["impossible"]
        return f"Can Never Run: {reason}" if reason else "Not Running: Not enough free nodes available"
    began = time.strftime("%a %b %d at %H:%M", time.localtime(job.started))
    endings = {JobState.CANCELLED: f" and terminated by {USER}@{SERVER}",
               JobState.TIMEOUT: " and exceeded resource walltime",
               JobState.COMPLETED: " and finished", JobState.FAILED: " and failed"}  # fmt: skip
    return f"Job run at {began} on {_vnodes(job)}{endings[job.state] if state == 'F' else ''}"


def _guessed(value: str) -> Any:
    """Return a number for a text that looks like one, as the server's JSON does with variables."""
    if not _NUMBER.fullmatch(value):
        return value
    number = float(value)
    return int(number) if number.is_integer() and abs(number) < 1e15 else number


def as_json(fields: dict[str, Any], name: str = "", value: dict[str, Any] | None = None, *, raw: bool = False) -> str:
    """Return an answer in JSON, laid out as the server's."""
    answer = {"timestamp": int(time.time()), "pbs_version": VERSION, "pbs_server": SERVER, **fields}
    if value:
        answer[name] = value
    text = json.dumps(answer, indent="\t", separators=(",", ":\t"), ensure_ascii=False) + "\n"
    return _DEEP_TEXT.sub(_bare, text) if raw else text


def _bare(found: re.Match[str]) -> str:
    return f'{found[1]}"{json.loads(found[2])}"'


def table(jobs: list[tuple[Job, str]]) -> str:
    """Return the short listing, in which long names are cut."""
    if not jobs:
        return ""
    lines = [
        f"{'Job id':<16}  {'Name':<16} {'User':<16}  Time Use S Queue",
        f"{'-' * 16}  {'-' * 16} {'-' * 16}  -------- - -----",
    ]
    for job, state in jobs:
        name = job.ask.name if len(job.ask.name) <= 16 else f"{job.ask.name[:15]}*"
        lines.append(f"{job.id[:16]:<16}  {name:<16} {USER:<16}  00:00:00 {state} {job.ask.queue}")
    return "\n".join(lines) + "\n"


def nodes(model: Model) -> dict[str, Any]:
    """Return all nodes."""
    free = set(model.free())
    states = {name: "down" if name in model.down else "free" if name in free else "job-exclusive" for name in NODES}
    has = {"arch": "linux", "ncpus": NCPUS, "system": "aurora"}
    fixed = {"Port": 15002, "ntype": "PBS", "pcpus": NCPUS}
    return {
        name: {"Mom": name, "state": state, **fixed, "resources_available": {**has, "host": name, "vnode": name}}
        for name, state in states.items()
    }
