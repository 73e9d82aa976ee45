"""The promises that a campaign's own files show to be kept or broken, whoever or whatever carried it out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from model.outcome import Status
from workflow import budget, chain
from workflow.campaign import Campaign
from workflow.errors import StageError
from workflow.ledger import Ledger
from workflow.receipt import Receipt, read_receipt, verify
from workflow.rundir import RunDir


def outputs_stand(folder: Path, events: list[dict[str, Any]]) -> Iterator[str]:
    """R5: what a receipt of a stage that is done lists stands as it says."""
    for key, entry in Ledger(events).stages.items():
        if entry.state == "done":
            receipt = read_receipt(RunDir(folder).stage_receipt(key))
            if receipt is None:
                yield f"R5 {key} is done without a receipt"
            else:
                yield from _faults_of(folder, key, receipt)


def decisions_follow(campaign: Campaign, events: list[dict[str, Any]]) -> Iterator[str]:
    """R7: the same records give the same decisions, for each attempt follows from the record before it."""
    specs = {instance.key: instance.spec for instance in campaign.instances()}
    ledger = Ledger([])
    for line in events:
        if line["event"] == "intent":
            entry, spec = ledger.stage(line["stage"]), specs[line["stage"]]
            step, ahead = chain.next_step(entry, spec), chain.link_ahead(entry, spec)
            lawful = [(step.link, step.attempt)] if step.do == "launch" else []
            lawful += [(ahead[0], chain.next_number(entry, ahead[0]))] if ahead else []
            if (line["link"], line["attempt"]) not in lawful:
                yield f"R7 {line['stage']} {line['link']}.{line['attempt']} does not follow from the record, which says {lawful}"
        ledger.apply(line)


def is_approved(campaign: Campaign, events: list[dict[str, Any]]) -> Iterator[str]:
    """R9: cost never exceeds what is approved without asking; no intent beyond it, by a fold of the journal up to there."""
    limit, ledger = campaign.header.budget, Ledger([])
    for line in events if limit is not None else ():
        ledger.apply(line)
        if line["event"] == "intent":
            approved, spent = budget.approved(limit, ledger) or 0.0, _reserved(ledger)
            if spent > approved + 1e-6:
                yield f"R9 {spent:.2f} node-hours used or reserved of {approved:.2f} at the intent of {line['stage']}"


def ends_are_told(events: list[dict[str, Any]]) -> Iterator[str]:
    """R10: every end has a cause class and the evidence for it."""
    for line in events:
        if line["event"] == "stage" and line["state"] == "failed" and not line.get("cause"):
            yield f"R10 {line['stage']} failed without a cause"
        if line["event"] != "settled":
            continue
        if not line["evidence"].get("by") or not line["evidence"].get("row"):
            yield f"R10 {line['token']} ended without evidence"
        wanted = line["cause"] is not None or line["status"] != Status.FAILED.value or line["message"].startswith("cancelled")
        if not wanted:
            yield f"R10 {line['token']} failed without a cause: {line['message']}"


def _faults_of(folder: Path, key: str, receipt: Receipt) -> Iterator[str]:
    try:
        verify(folder, receipt.outputs)
    except StageError as error:
        yield f"R5 {key} is done, but {error.what}"


def _reserved(ledger: Ledger) -> float:
    """Return what all jobs may have cost: those whose end is not proven at full walltime."""
    jobs = [(e.reserved, used) for e in ledger.by_token.values() for used in (e.used, *_beside(e))]
    return sum(reserved if used is None else used for reserved, used in jobs)


def _beside(entry: Any) -> list[float | None]:
    return [used for job_id, used in entry.beside.items() if job_id != entry.job_id]
