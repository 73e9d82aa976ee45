"""How a task ends: status, cause class, outcome file, and the error that tells a user what to do."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

OUTCOME_FILE = "outcome.json"
_OF_STORAGE = frozenset({errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.ESTALE, errno.EROFS, errno.ESHUTDOWN, errno.EREMOTEIO})
"""A disk that is full or fails; a client that Lustre evicted finds its requests shut down, or failed on the server."""
_OF_STORAGE_OR_PEERS = frozenset({errno.ENOTCONN, errno.ETIMEDOUT})
"""Those that an evicted client sees too, and whoever loses a peer: the first name a file, a socket has none."""


class CampaignError(Exception):
    """Tell what was found, where, and what to do about it.

    Args:
        what: The fact, in the user's words.
        where: File and dotted key, path, or command it was found at.
        remedy: The next thing to do.
    """

    def __init__(self, what: str, where: str = "", remedy: str = "") -> None:
        super().__init__(what, where, remedy)
        self.what, self.where, self.remedy = what, where, remedy

    def __str__(self) -> str:
        head = f"{self.where}: {self.what}" if self.where else self.what
        return f"{head}\n  {self.remedy}" if self.remedy else head


def is_of_storage(error: BaseException) -> bool:
    """Say whether a disk failed or is full: the work is not to blame, and may succeed when tried again."""
    if not isinstance(error, OSError):
        return False
    return error.errno in _OF_STORAGE or (error.errno in _OF_STORAGE_OR_PEERS and error.filename is not None)


class Status(StrEnum):
    """What an ended task, attempt or stage has to show."""

    DONE = "done"
    """All work done; outputs are complete."""
    PARTIAL = "partial"
    """Stopped in order with a checkpoint; more of the same work remains."""
    FAILED = "failed"
    """Ended by a fault; `cause` says whose."""


class Cause(StrEnum):
    """Why something failed; the class decides who pays for it."""

    OOM = "oom"
    DIVERGED = "diverged"
    BAD_CONFIG = "bad_config"
    WALLTIME = "walltime"
    PREEMPTED = "preempted"
    NODE_FAILURE = "node_failure"
    STALLED = "stalled"
    LAUNCHER = "launcher"
    STORAGE = "storage"
    SCHEDULER = "scheduler"
    BUG = "bug"

    @property
    def is_trial_fault(self) -> bool:
        """Whether a search tells the optimizer that this configuration fails."""
        return self in (Cause.OOM, Cause.DIVERGED, Cause.BAD_CONFIG)

    @property
    def is_transient(self) -> bool:
        """Whether the same work may succeed when tried again."""
        return not self.is_trial_fault and self is not Cause.BUG


@dataclass(frozen=True)
class Outcome:
    """Record the end of one model command; rank 0 writes it beside and renames it.

    Attributes:
        status: See `Status`.
        cause: Set when `status` is failed.
        message: What happened, one sentence.
        remedy: What the user may do, or empty.
        result: Command-specific facts (JSON values only); training puts `objective`, `epochs`,
            `steps`, `metrics` (per branch, units in the key) and `checkpoints` here.
        outputs: Paths of produced files and folders relative to the task folder, by role
            (`last`, `best`, `store`, `shards`, …).
        world_size: Number of ranks that took part.
        hosts: Distinct host (node) names of the ranks.
        versions: Versions of python, torch, adios2, … that ran.
        timings_s: Seconds by phase.
    """

    status: Status
    cause: Cause | None = None
    message: str = ""
    remedy: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    world_size: int = 1
    hosts: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    timings_s: dict[str, float] = field(default_factory=dict)


def write_outcome(folder: Path, outcome: Outcome) -> None:
    """Write `outcome.json` into `folder` so that a reader sees all of it or none."""
    write_json(folder / OUTCOME_FILE, asdict(outcome))


def read_outcome(folder: Path) -> Outcome | None:
    """Return the outcome in `folder`, or None where no complete one stands."""
    fields = read_json(folder / OUTCOME_FILE)
    if fields is None:
        return None
    fields["status"] = Status(fields["status"])
    fields["cause"] = Cause(fields["cause"]) if fields.get("cause") else None
    fields["hosts"] = tuple(fields.get("hosts", ()))
    return Outcome(**fields)


def write_json(path: Path, value: Any) -> None:
    """Write JSON beside `path`, fsync, rename, fsync the folder: whole or not at all."""
    write_bytes(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())


def write_bytes(path: Path, data: bytes) -> None:
    """Write bytes beside `path`, fsync, rename, fsync the folder: whole or not at all."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with open(beside, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Fsync a file, or a folder so that a rename in it survives a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_json(path: Path) -> Any | None:
    """Return the JSON value in `path`, or None where the file is absent, or what should be its folder is a file.

    Raises:
        CampaignError: The file stands there but is no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError) as error:
        raise CampaignError(f"not valid JSON ({error})", str(path), "Move the file away; it is written anew.") from error
