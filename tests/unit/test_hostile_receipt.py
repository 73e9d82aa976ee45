"""Receipts of wrong types and numbers: each counts as one that cannot be read, and its driver goes on."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from test_batch_executor import World, site, world

from model.outcome import Cause, Status
from workflow.batch.scheduler import JobState
from workflow.errors import StageError
from workflow.journal import read_events
from workflow.ledger import Ledger
from workflow.receipt import Output, Receipt, read_receipt, write_receipt
from workflow.rundir import RunDir

__all__ = ["site", "world"]

GOOD = Receipt("ca", "a", 1, 1, Status.DONE, None, "", {"exit": 0}, (Output("work", "a/work.txt", 3, "0" * 64),), {"loss": 1e999})
DEEP = '{"a":' * 200_000 + "1" + "}" * 200_000
BAD: list[dict[str, Any]] = [
    {"started": "x"},
    {"ended": 1e999},
    {"ended": float("nan")},
    {"ended": -1.0},
    {"nodes": True},
    {"nodes": 10**9},
    {"link": 1.5},
    {"evidence": []},
    {"evidence": {"loss": 1e999}},
    {"evidence": json.loads("[" * 150 + "]" * 150)},
    {"result": "all"},
    {"message": {}},
    {"message": "\ud800"},
    {"token": "a\0b"},
    {"status": []},
    {"cause": {"a": 1}},
    {"outputs": 7},
    {"outputs": [{"role": "work", "path": 7, "size": 3, "sha256": ""}]},
    {"outputs": [{"role": "work", "path": "a", "size": "3", "sha256": ""}]},
]


def with_fields(fields: dict[str, Any]) -> str:
    return json.dumps({**asdict(GOOD), **fields})


def test_a_receipt_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_receipt(tmp_path / "receipt.json", GOOD)
    assert read_receipt(tmp_path / "receipt.json") == GOOD


@pytest.mark.parametrize(
    "text", [*map(with_fields, BAD), DEEP, "7", "[]"], ids=lambda text: text[-60:] if len(text) < 999 else "deep"
)
def test_a_receipt_that_makes_no_sense_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "receipt.json"
    path.write_text(text)
    with pytest.raises(StageError, match="the receipt is damaged"):
        read_receipt(path)


def test_a_folder_is_no_receipt(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="the receipt is damaged"):
        read_receipt(tmp_path)


def test_an_attempt_with_such_a_receipt_ends_by_the_accounting_and_the_journal_stays_readable(world: World) -> None:
    texts = {"a": with_fields({"message": {}}), "b": DEEP, "c": with_fields({"started": "x"})}
    jobs = {name: world.job(name) for name in texts}
    futures = [world.app(job) for job in jobs.values()]
    world.wait(lambda: len(world.scheduler.rows) == len(jobs))
    of = {row.token: number for number, row in world.scheduler.rows.items()}
    for name, job in jobs.items():
        job.folder.run.mkdir()
        job.folder.receipt.write_text(texts[name])
        world.scheduler.put(of[job.spec.token], JobState.COMPLETED, 0)
    ends = [future.result(timeout=20) for future in futures]
    assert all(end.receipt is None and end.status is Status.FAILED and isinstance(end.cause, Cause) for end in ends)
    assert all(job.folder.revoked.exists() for job in jobs.values())
    Ledger(read_events(RunDir(world.folder)))
