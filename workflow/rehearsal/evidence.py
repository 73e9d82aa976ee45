"""What a rehearsal has shown, read from the campaign's files alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from model.outcome import read_json
from workflow.journal import read_events
from workflow.ledger import AttemptEntry, Ledger
from workflow.receipt import read_receipt
from workflow.rundir import RunDir


@dataclass(frozen=True)
class Proof:
    """One thing that a rehearsal must show.

    Attributes:
        what: In a few words.
        holds: Whether it was seen.
        seen: What was seen.
    """

    what: str
    holds: bool
    seen: str


@dataclass(frozen=True)
class Row:
    """One stage instance as it went.

    Attributes:
        key: The instance.
        kind: Its kind.
        state: How it ended; empty where it never did.
        jobs: Batch jobs that it took.
        seconds: Wall time of its jobs together.
        note: Trials, runs or the reason of a failure.
    """

    key: str
    kind: str
    state: str
    jobs: int
    seconds: float
    note: str


def rows(folder: Path) -> list[Row]:
    """Return every stage instance, in the order in which they can run."""
    rundir, ledger = RunDir(folder), _ledger(folder)
    resolved = read_json(rundir.campaign) or {}
    return [_row(rundir, ledger, each["key"], each["kind"]) for each in resolved.get("instances", [])]


def proofs(folder: Path, killed: str | None) -> list[Proof]:
    """Say what the rehearsal has shown.

    Args:
        folder: The campaign's folder.
        killed: Stage instance whose job was killed, or None where none could be.
    """
    found, ledger = rows(folder), _ledger(folder)
    unfinished = [row.key for row in found if row.state != "done"]
    proof = [Proof("every stage done", bool(found) and not unfinished, ", ".join(unfinished) or f"{len(found)} stages")]
    kinds = {row.kind for row in found}
    if "hpo" in kinds:
        proof.append(_trials(folder, [row.key for row in found if row.kind == "hpo"]))
    if "train" in kinds:
        proof += [_ranks(folder, found), _links(ledger)]
    return [*proof, _kill(folder, ledger, killed)]


def _row(rundir: RunDir, ledger: Ledger, key: str, kind: str) -> Row:
    entry = ledger.stage(key)
    receipts = [receipt for each in rundir.attempts(key) if (receipt := read_receipt(each.receipt)) is not None]
    seconds = sum(max(0.0, each.ended - each.started) for each in receipts)
    receipt = read_receipt(rundir.stage_receipt(key))
    note = entry.message if entry.state != "done" else _note(receipt.result if receipt else {})
    return Row(key, kind, entry.state, sum(each.started for each in entry.attempts), seconds, note)


def _note(result: dict[str, Any]) -> str:
    trials, table = result.get("trials"), result.get("table")
    if isinstance(trials, list):
        return f"{len(trials)} trials"
    if isinstance(table, list):
        failed = sum("failed" in row for row in table)
        return f"{len(table)} fine-tunings" + (f", {failed} failed" if failed else "")
    if isinstance(result.get("branches"), dict):
        return f"{len(result['branches'])} stores"
    return ""


def _trials(folder: Path, keys: list[str]) -> Proof:
    counts = {}
    for key in keys:
        receipt = read_receipt(RunDir(folder).stage_receipt(key))
        counts[key] = len(receipt.result.get("trials", [])) if receipt else 0
    least = min(counts.values(), default=0)
    return Proof("two trials of each search", least >= 2, f"{sum(counts.values())} trials, at least {least} each")


def _ranks(folder: Path, found: list[Row]) -> Proof:
    trained = [row.key for row in found if row.kind == "train"]
    hosts = [file for key in trained for each in RunDir(folder).attempts(key) for file in each.tasks.glob("train*/hosts.txt")]
    most = max((len(file.read_text().split()) for file in hosts), default=0)
    return Proof("two ranks on two nodes", most >= 2, f"trained on {most} nodes at once")


def _links(ledger: Ledger) -> Proof:
    chains = {key: max((each.link for each in entry.attempts if each.started), default=0) for key, entry in ledger.stages.items()}
    key = max(chains, key=lambda name: chains[name], default="")
    return Proof("two links of a chain", bool(key) and chains[key] >= 2, f"{key}: {chains.get(key, 0)} links")


def _kill(folder: Path, ledger: Ledger, killed: str | None) -> Proof:
    what = "a killed job resumed from its checkpoint"
    if killed is None:
        return Proof(what, False, "no job was killed")
    if not any(True for each in RunDir(folder).attempts(killed) for _ in each.tasks.glob("*/checkpoints")):
        return _done_again(ledger, killed)
    attempts = sorted((each for each in ledger.stage(killed).attempts if each.started), key=lambda a: (a.link, a.number))
    resumed = next((each for each in attempts[1:] if _resumes(folder, killed, each)), None)
    if resumed is None:
        return Proof(what, False, f"{killed}: no later job went on from a checkpoint")
    return Proof(what, True, f"{killed}: job 1 was killed, link {resumed.link}, attempt {resumed.number} went on")


def _done_again(ledger: Ledger, killed: str) -> Proof:
    """Return that another job took up the work of one without checkpoints, whose finished shards count."""
    later = [each for each in ledger.stage(killed).attempts if each.started][1:]
    seen = f"{killed}: job 1 was killed, {len(later)} more took up its work"
    return Proof("a killed job's work was taken up", bool(later) and ledger.stage(killed).state == "done", seen)


def _resumes(folder: Path, key: str, attempt: AttemptEntry) -> bool:
    """Say whether a task of an attempt was told to go on from a checkpoint or from an earlier run's shards."""
    configs = RunDir(folder).attempt(key, attempt.link, attempt.number).tasks.glob("*/config.yaml")
    return any((yaml.safe_load(file.read_text()) or {}).get("resume") for file in configs)


def _ledger(folder: Path) -> Ledger:
    return Ledger(read_events(RunDir(folder)))
