"""Long campaigns made without running them: journals, records and receipts by the writers that a real one uses."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from model.outcome import Status, write_json
from workflow.allocation.heartbeat import replace_json
from workflow.allocation.record import StageRecord
from workflow.batch.job import Job
from workflow.batch.scheduler import JobSpec
from workflow.chain import token
from workflow.draft import load_campaign
from workflow.journal import Journal
from workflow.ledger import Ledger
from workflow.receipt import Receipt, write_receipt
from workflow.report.trials import fold_trials
from workflow.resolved import write_resolved
from workflow.rundir import AttemptDir, RunDir
from workflow.search.trials import DONE, FAILED, INTERRUPTED
from workflow.site import Periods

IDENTITY = "0123456789abcdef0123456789abcdef"
STAGES = 50
CAMPAIGN: dict[str, Any] = {
    "name": "long",
    "site": "local",
    "folder": "run",
    "branches": {"b": {"reader": "extxyz", "path": "data.xyz"}},
    "stages": {
        "data": {"kind": "convert", "walltime": "00:10:00"},
        "search": {"kind": "hpo", "needs": ["data"], "backbone": "painn", "walltime": "06:00:00", "trial": {"epochs": 20}},
    },
}


def write_journal(rundir: RunDir, lines: int, periods: Periods) -> None:
    """Write a journal of `lines` lines: attempts of many stages, each intended, submitted, started and settled."""
    with _unsynced():
        rundir.root.mkdir(parents=True)
        journal = Journal.take(rundir, periods)
        journal.commit("created", campaign_id=IDENTITY, name="long")
        for number in range((lines - len(journal.events)) // 4):
            stage, link = f"stage/{number % STAGES}", number // STAGES + 1
            _commit_attempt(journal, stage, link, "partial")
        while len(journal.events) < lines - 1:
            journal.commit("notice")
        journal.close()
    assert len(Ledger(journal.events).stages) == min(STAGES, (lines - 2) // 4)


def write_search(folder: Path, trials: int, periods: Periods, *, ended: bool) -> RunDir:
    """Write a campaign whose search has made `trials` trials, and is at work still or has ended; return its folder."""
    folder.mkdir(parents=True)
    (folder / "data.xyz").touch()
    path = folder / "long.yaml"
    path.write_text(yaml.safe_dump(CAMPAIGN | {"stages": _with_evaluations(trials)}, sort_keys=False))
    rundir = RunDir(folder / "run")
    rundir.root.mkdir()
    with _unsynced():
        journal = Journal.take(rundir, periods)
        journal.commit("created", **write_resolved(rundir, load_campaign(path), IDENTITY))
        for stage in ("data", "search"):
            _commit_attempt(journal, stage, 1, "done" if ended or stage == "data" else None)
        _commit_stage(rundir, journal, "data", {})
        attempt = rundir.attempt("search", 1, 1)
        result: dict[str, Any] = {"backbone": "painn", "trials": _record(rundir, attempt, trials), "best": 1, "note": ""}
        if ended:
            write_receipt(attempt.receipt, _receipt("search", result))
            _commit_stage(rundir, journal, "search", result)
        else:
            done = sum(row["status"] == DONE for row in result["trials"])
            told = {"total": trials, "done": done, "running": 1, "failed": {"oom": trials - done}, "interrupted": 0, "stopped": 0}
            replace_json(attempt.heartbeat, {"count": 7, "phase": "work", "progress": {"trials": told}})
        journal.close()
    return rundir


def shell_job(folder: Path, number: int) -> Job:
    """Return an attempt whose job takes the fence and leaves a receipt, in a shell: no interpreter to start."""
    stage = f"s{number}"
    attempt = RunDir(folder).attempt(stage, 1, 1)
    attempt.root.mkdir(parents=True)
    spec = JobSpec(token(IDENTITY, stage, 1, 1), attempt.root, attempt.script, attempt.log, 1, 600.0, "local")
    receipt = json.dumps(asdict(_receipt(stage, {}, spec.token)))
    text = (
        f"#!/bin/sh\nmkdir -m 700 run || exit 0\ncat > run/.receipt <<'END'\n{receipt}\nEND\nmv run/.receipt run/receipt.json\n"
    )
    attempt.script.write_text(text)
    return Job(stage, spec, attempt, stage, 1, 1)


def intent_of(job: Job) -> dict[str, Any]:
    """Return the facts of an attempt's intent, as the driver commits them before it hands the job over."""
    return _intent(job.stage, job.link, job.spec.token)


def _intent(stage: str, link: int, name: str) -> dict[str, Any]:
    return {
        "stage": stage,
        "kind": "hpo",
        "link": link,
        "attempt": 1,
        "token": name,
        "nodes": 1,
        "walltime_s": 600.0,
        "node_hours": 1 / 6,
        "queue": "local",
        "after": None,
        "script_sha256": hashlib.sha256(name.encode()).hexdigest(),
    }


def _commit_attempt(journal: Journal, stage: str, link: int, status: str | None) -> None:
    name = token(IDENTITY, stage, link, 1)
    journal.commit("intent", **_intent(stage, link, name))
    journal.commit("submitted", token=name, job_id=str(journal.epoch))
    journal.commit("started", token=name)
    if status is not None:
        where = {"token": name, "stage": stage, "link": link, "attempt": 1}
        evidence = {"receipt": "run/receipt.json", "row": "completed, exit 0"}
        journal.commit("settled", **where, status=status, cause=None, message="", evidence=evidence, node_hours=0.1)


def _commit_stage(rundir: RunDir, journal: Journal, stage: str, result: dict[str, Any]) -> None:
    path = rundir.stage_receipt(stage)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_receipt(path, _receipt(stage, result))
    journal.commit("stage", stage=stage, state="done", message="", cause="")


def _record(rundir: RunDir, attempt: AttemptDir, trials: int) -> list[dict[str, Any]]:
    """Write the search's record, three lines a trial; return its rows as the receipt lists them."""
    attempt.run.mkdir(parents=True)
    write_json(attempt.start, {"job_id": "1"})
    record = StageRecord(attempt, rundir.root, [])
    for number in range(1, trials + 1):
        _record_trial(record, number, str((attempt.tasks / f"trial-{number}").relative_to(rundir.root)))
    rows = fold_trials(record.events())
    record.close()
    return rows


def _record_trial(record: StageRecord, number: int, folder: str) -> None:
    point = {"backbone.layers": 2 + number % 5, "backbone.hidden": 100 + number % 900, "optimizer.learning_rate": 1e-3 / number}
    record.append("ask", trials=[{"trial": number, "point": point}])
    record.append("task", trial=number, folder=folder, resume=None)
    status = FAILED if number % 4 == 0 else DONE
    record.append(
        "end",
        trial=number,
        status=status,
        cause="oom" if status == FAILED else None,
        message="",
        objective=1.0 / number if status == DONE else None,
        epochs=20,
        seconds=1234.567,
        best=f"{folder}/checkpoints/best" if status == DONE else None,
        result={},
        distrusts=status == INTERRUPTED,
    )


def _receipt(stage: str, result: dict[str, Any], name: str = "") -> Receipt:
    return Receipt(name or token(IDENTITY, stage, 1, 1), stage, 1, 1, Status.DONE, result=result, nodes=1)


def _with_evaluations(trials: int) -> dict[str, Any]:
    stages = {name: dict(spec) for name, spec in CAMPAIGN["stages"].items()}
    stages["search"]["evaluations"] = trials
    return stages


@contextmanager
def _unsynced() -> Iterator[None]:
    """Let the disk be while a campaign is made; nothing of that is timed."""
    with mock.patch("os.fsync"):
        yield
