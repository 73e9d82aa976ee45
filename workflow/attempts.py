"""Prepare the folder of an attempt, and rebuild from the journal what an earlier driver prepared."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from model.outcome import write_bytes
from workflow.batch import fence
from workflow.batch.attempt import Phase
from workflow.batch.job import Job
from workflow.batch.scheduler import JobSpec, directives
from workflow.batch.script import script_text
from workflow.campaign import Campaign, Instance
from workflow.errors import JournalError, StageError, plain
from workflow.ledger import AttemptEntry, StageEntry
from workflow.queues import queue_for
from workflow.receipt import Receipt, read_receipt, require_files
from workflow.request import Request, write_request
from workflow.rundir import RunDir


def prepared(campaign: Campaign, request: Request, after: tuple[str, ...]) -> tuple[Job, dict[str, Any]]:
    """Write request and script of a new attempt; return its job and the facts of its intent."""
    folder = RunDir(campaign.folder).attempt(request.stage, request.link, request.attempt)
    folder.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_request(folder.request, request)
    queue = queue_for(campaign.site, request.nodes, request.walltime_s, request.spec.get("queue"))
    intent: dict[str, Any] = {
        "stage": request.stage,
        "kind": request.kind,
        "link": request.link,
        "attempt": request.attempt,
        "token": request.token,
        "nodes": request.nodes,
        "walltime_s": request.walltime_s,
        "node_hours": request.nodes * request.walltime_s / 3600.0,
        "queue": queue.name,
        "after": list(after),
    }
    job = _job(RunDir(campaign.folder), intent, Phase.INTENT)
    text = script_text(campaign.site, folder, request.token, directives=directives(campaign.site, job.spec)).encode()
    write_bytes(folder.script, text)
    return job, {**intent, "script_sha256": hashlib.sha256(text).hexdigest()}


def restored(rundir: RunDir, entry: AttemptEntry) -> Job:
    """Rebuild the job of an attempt that an earlier driver wrote down.

    One without an id counts as an unknown submission: that driver may have died between submitting and writing.

    Raises:
        JournalError: Its intent does not say what its job was.
    """
    after = entry.intent.get("after")
    lacks = [key for key in ("nodes", "walltime_s", "queue") if entry.intent.get(key) is None]
    if lacks or not all(isinstance(each, str) for each in ([after] if isinstance(after, str) else after or [])):
        what = (
            f"the intent of {plain(entry.token, 20)} in the journal does not say {' and '.join(lacks) or 'what it comes after'}"
        )
        raise JournalError(what, "journal", "Use the version of campaign that wrote it.")
    phase = Phase.UNKNOWN if entry.job_id is None else Phase.SUBMITTED
    return _job(rundir, entry.intent, phase, entry.job_id, entry.started)


def request_of(campaign: Campaign, instance: Instance, stage: StageEntry, link: int, number: int) -> Request:
    """Return the request of an attempt, but for its identity and the chain's length.

    Raises:
        StageError: A stage that this one rests on has no receipt, or what it left for this one is gone.
    """
    spec = instance.spec
    rundir = RunDir(campaign.folder)
    inputs = inputs_of(campaign, instance.key)
    for need in instance.needs:
        require_files(campaign.folder, inputs[need].outputs)
    return Request(
        campaign_id="",
        campaign=str(campaign.folder),
        name=campaign.name,
        token="",
        stage=instance.key,
        instance=instance.number,
        kind=spec.kind,
        spec=spec.model_dump(mode="json"),
        link=link,
        links=spec.links,
        attempt=number,
        nodes=spec.nodes or 1,
        walltime_s=spec.walltime_s,
        site=campaign.site.model_dump(mode="json"),
        branches=_sources(campaign, list(campaign.header.branches)),
        sources=_sources(campaign, list(campaign.header.sources)),
        splits=campaign.header.splits.model_dump(mode="json"),
        inputs=inputs,
        previous=_previous(rundir, stage),
    )


def inputs_of(campaign: Campaign, key: str) -> dict[str, Receipt]:
    """Return the receipts of all stages that one rests on.

    Raises:
        StageError: One has no receipt: what it left is not to be read.
    """
    found: dict[str, Receipt] = {}
    for each in campaign.ancestors(key):
        path = RunDir(campaign.folder).stage_receipt(each)
        receipt = read_receipt(path)
        if receipt is None:
            raise StageError(
                f"stage '{each}' has no receipt", str(path), "Restore the file from a copy of the campaign's folder."
            )
        found[each] = receipt
    return found


def _job(rundir: RunDir, intent: dict[str, Any], phase: Phase, job_id: str | None = None, started: bool = False) -> Job:
    key, link, number = intent["stage"], intent["link"], intent["attempt"]
    folder = rundir.attempt(key, link, number)
    spec = JobSpec(
        intent["token"],
        folder.root,
        folder.script,
        folder.log,
        intent["nodes"],
        intent["walltime_s"],
        intent["queue"],
        _after(intent.get("after")),
    )
    return Job(f"{key} link {link} attempt {number}", spec, folder, key, link, number, phase, job_id, started)


def _after(told: str | list[str] | None) -> tuple[str, ...]:
    """Return the jobs that one comes after; older journals name one or none."""
    return tuple(told) if isinstance(told, list) else () if told is None else (told,)


def _sources(campaign: Campaign, names: list[str]) -> dict[str, Any]:
    known = {**campaign.header.sources, **campaign.header.branches}
    return {name: {**known[name].model_dump(mode="json"), "path": [str(p) for p in _absolute(campaign, name)]} for name in names}


def _absolute(campaign: Campaign, name: str) -> list[Path]:
    return [path.absolute() for path in campaign.files(name)]


def _previous(rundir: RunDir, stage: StageEntry) -> tuple[str, ...]:
    """List the folders of earlier attempts that may hold results: all that have started or may yet."""
    ordered = sorted(stage.attempts, key=lambda each: (each.link, each.number))
    folders = [(each, rundir.attempt(stage.key, each.link, each.number)) for each in ordered]
    return tuple(
        str(f.root.relative_to(rundir.root)) for e, f in folders if fence.has_results(f) or (e.is_open and not fence.is_barred(f))
    )
