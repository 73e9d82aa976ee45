"""The fence of an attempt as files: who made the run folder, and whether the attempt may still have effect."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from model.outcome import read_json, write_json
from workflow.batch.attempt import Observation
from workflow.batch.scheduler import JobRow
from workflow.errors import CampaignError
from workflow.receipt import Receipt, read_receipt
from workflow.rundir import AttemptDir


def take(attempt: AttemptDir) -> bool:
    """Make the run folder before the job does, and say whether that succeeded.

    True means that the attempt can never start. Either way it has lost the right to have effect. An attempt's folder that
    was deleted, or purged by its file system, is made again for that.
    """
    try:
        attempt.run.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        if not attempt.revoked.exists():
            write_json(attempt.revoked, {"barred": False})
        return is_barred(attempt)
    write_json(attempt.revoked, {"barred": True})
    return True


def revoke_earlier(campaign: Path, previous: Iterable[str]) -> list[AttemptDir]:
    """Take the right to have effect from earlier attempts that left no receipt; for the agent of a later link.

    A job may outlive its end in the batch system's books, on a node that the controller does not reach, while the
    next link of its chain starts and no driver is awake to revoke it.

    Args:
        campaign: The campaign's folder.
        previous: Folders of the earlier attempts, relative to it.

    Returns:
        Those that had started, and were not revoked before: they may still be at work until they look.
    """
    folders = [AttemptDir(campaign / folder) for folder in previous]
    left = [each for each in folders if not each.receipt.exists() and not each.revoked.exists()]
    return [each for each in left if not take(each)]


def ask_to_stop(attempt: AttemptDir) -> None:
    """Ask the agent to end in order, in a folder that is made again where it was deleted or purged."""
    attempt.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    attempt.stop.touch()


def is_barred(attempt: AttemptDir) -> bool:
    """Say whether a driver made the run folder."""
    return bool(read_facts(attempt.revoked).get("barred"))


def has_results(attempt: AttemptDir) -> bool:
    """Say whether the attempt has started, and so may have left checkpoints and a record."""
    return attempt.run.is_dir() and not is_barred(attempt)


def observe(attempt: AttemptDir, rows: tuple[JobRow, ...] | None) -> Observation:
    """Look at an attempt's files; `rows` is None where the scheduler did not answer."""
    if not attempt.run.is_dir():  # what is in it cannot stand either
        return Observation(rows is not None, rows or ())
    start_job = read_facts(attempt.start).get("job_id")
    return Observation(
        answered=rows is not None,
        rows=rows or (),
        receipt=_receipt(attempt),
        fenced=True,
        barred=is_barred(attempt),
        start_job=None if start_job is None else str(start_job),
        beat=read_facts(attempt.heartbeat).get("count"),
    )


def _receipt(attempt: AttemptDir) -> Receipt | None:
    try:
        return read_receipt(attempt.receipt)
    except (CampaignError, TypeError, KeyError, ValueError):  # not ours, or half visible: the accounting decides
        return None


def read_facts(path: Path) -> dict[str, Any]:
    """Return a file of facts; empty where none can be read."""
    try:
        value = read_json(path)
    except (CampaignError, OSError):
        return {}
    return value if isinstance(value, dict) else {}
