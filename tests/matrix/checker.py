"""The promises R1 to R11 held against what a case left: the campaign's files, and the batch system's own books."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from login import Account
from promises import decisions_follow, ends_are_told, is_approved, outputs_stand

from matrix.play import BUDGET, Play
from model.outcome import read_json
from workflow.batch.fence import is_barred
from workflow.ledger import AttemptEntry, Ledger
from workflow.receipt import read_receipt
from workflow.rundir import AttemptDir

IDLE_S = 300.0
_BOOKS_S = 60.0
_BY_FILE = ("receipt",)


def broken(play: Play) -> list[str]:
    """Return the promises that a case broke, each with what shows it."""
    events = play.login.events()
    ledger = Ledger(events)
    accounts = _accounts(play, ledger)
    found = [*_r1(play, ledger), *_r2(play, ledger, accounts), *_r3(play, ledger, accounts), *_r4(play, ledger, accounts)]
    found += [*outputs_stand(play.run, events), *_r6(events), *decisions_follow(play.campaign, events), *_r8(play, ledger)]
    found += [*is_approved(play.campaign, events), *_r9(accounts), *ends_are_told(events), *_r10(play, events, accounts)]
    return [*found, *_ends(play, ledger)]


def _accounts(play: Play, ledger: Ledger) -> list[Account]:
    """Return the books as soon as the end of every job that the journal knows is in them, or after a minute as they stand.

    A controller writes them some time after it has shown the end in its queue.
    """
    known = {entry.job_id for entry in ledger.by_token.values() if entry.job_id is not None} - play.forgotten
    end = time.monotonic() + _BOOKS_S
    while True:
        accounts = play.login.accounts()
        if known <= {job.job_id for job in accounts if job.state != "open"} or time.monotonic() > end:
            return accounts
        time.sleep(0.5)


def _folder(play: Play, entry: AttemptEntry) -> AttemptDir:
    return play.login.rundir.attempt(entry.stage, entry.link, entry.number)


def _r1(play: Play, ledger: Ledger) -> Iterator[str]:
    """At most one agent begins an attempt, and at most one attempt of a link has effect."""
    for token, times in Counter(line.split()[3] for line in play.executions()).items():
        if times > 1:
            yield f"R1 {times} agents began the attempt {token}"
    for (stage, link), times in Counter((e.stage, e.link) for e in ledger.by_token.values() if _has_effect(play, e)).items():
        if times > 1:
            yield f"R1 {times} executions of {stage} {link} had effect"


def _has_effect(play: Play, entry: AttemptEntry) -> bool:
    receipt = read_receipt(_folder(play, entry).receipt)
    return entry.status in ("done", "partial") and receipt is not None and not receipt.message.startswith("done by link")


def _r2(play: Play, ledger: Ledger, accounts: list[Account]) -> Iterator[str]:
    """No accepted job is lost: each has ended, and is the one that the journal knows, or did nothing."""
    for job in accounts:
        entry = ledger.by_token.get(job.token)
        if job.state == "open":
            yield f"R2 job {job.job_id} has not ended"
        if entry is None:
            yield f"R2 of job {job.job_id} the journal knows nothing"
        elif entry.job_id != job.job_id and (read_json(_folder(play, entry).start) or {}).get("job_id") == job.job_id:
            yield f"R2 job {job.job_id} ran as {entry.stage}, but the journal has {entry.job_id}"
    told = {job.job_id for job in accounts} | play.forgotten
    for entry in ledger.by_token.values():
        if entry.job_id is not None and entry.job_id not in told:
            yield f"R2 the journal has a job {entry.job_id}, of which the batch system knows nothing"


def _r3(play: Play, ledger: Ledger, accounts: list[Account]) -> Iterator[str]:
    """A death costs no place in the queue and no finished work: one job a token, one beginning a link, but where that is told."""
    for token, jobs in Counter(job.token for job in accounts).items():
        if jobs > 1 + (token in play.twins):
            yield f"R3 {jobs} jobs of {token} were submitted"
    begun = Counter((line.split()[0], int(line.split()[1])) for line in play.executions())
    for key, times in begun.items():
        if times != play.runs.get(key, 1):
            yield f"R3 {key} was begun {times} times, and was to be {play.runs.get(key, 1)} times"


def _r4(play: Play, ledger: Ledger, accounts: list[Account]) -> Iterator[str]:
    """An allocation with nothing to do ends within five minutes."""
    for job in accounts:
        entry = ledger.by_token.get(job.token)
        receipt = read_receipt(_folder(play, entry).receipt) if entry is not None else None
        if receipt is not None and job.ended is not None and job.ended - receipt.ended > IDLE_S:
            yield f"R4 job {job.job_id} held its nodes for {job.ended - receipt.ended:.0f} s after its receipt"


def _r6(events: list[dict[str, Any]]) -> Iterator[str]:
    """While the batch system does not answer, nothing is settled but by a file."""
    silent = False
    for line in events:
        silent = line["event"] == "scheduler_silent" or (silent and line["event"] not in ("scheduler_answers", "lease"))
        if silent and line["event"] == "settled" and line["evidence"]["by"] not in _BY_FILE:
            yield f"R6 {line['token']} was settled by {line['evidence']['by']} though nobody answered"


def _r8(play: Play, ledger: Ledger) -> Iterator[str]:
    """The nodes that an agent counted at last are those that it was given."""
    for entry in ledger.by_token.values():
        folder = _folder(play, entry)
        start, beat = read_json(folder.start), read_json(folder.heartbeat)
        if not start or not beat:
            continue
        counts = dict(beat["nodes"])
        if not counts.pop("allocated") == sum(counts.values()) == len(start["nodes"]):
            yield f"R8 {entry.stage} {entry.link}.{entry.number} counted {beat['nodes']} of {start['nodes']}"


def _r9(accounts: list[Account]) -> Iterator[str]:
    """What all jobs have really used is approved."""
    used = sum(job.node_hours for job in accounts)
    if used > BUDGET:
        yield f"R9 {used:.2f} node-hours were used of {BUDGET}"


def _r10(play: Play, events: list[dict[str, Any]], accounts: list[Account]) -> Iterator[str]:
    """The evidence for an end is true: the books and the attempt's own files say the same."""
    states = {job.job_id: job.state for job in accounts}
    expected = {"completed": "done", "cancelled": "cancelled", "failed": "failed"}
    ledger = Ledger(events)
    for line in (each for each in events if each["event"] == "settled"):
        evidence, folder = line["evidence"], _folder(play, ledger.by_token[line["token"]])
        told = states.get(evidence.get("job_id"))
        if evidence["by"] == "accounting" and told is not None and expected.get(evidence["state"], told) != told:
            yield f"R10 {line['token']} ended as {evidence['state']} by the journal, as {told} by the books"
        if evidence["by"] == "receipt" and (read_receipt(folder.receipt) is None or is_barred(folder)):
            yield f"R10 {line['token']} ended by a receipt that is not there"


def _ends(play: Play, ledger: Ledger) -> Iterator[str]:
    """R11, and all others in the end: everything comes to the end that it was to come to."""
    states = {key: entry.state for key, entry in ledger.stages.items()}
    if states != play.stages:
        yield f"R11 the stages ended as {states}, and were to end as {play.stages}"
    for entry in ledger.by_token.values():
        if entry.is_open:
            yield f"R11 {entry.stage} {entry.link}.{entry.number} is open"
