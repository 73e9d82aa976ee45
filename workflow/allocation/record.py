"""A stage's own record, carried over all its links and attempts, each attempt writing a file of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workflow.chained import ChainedFile, read_chain
from workflow.errors import JournalError
from workflow.rundir import AttemptDir

_ACCEPTS = "accepts"


class StageRecord:
    """Append to this attempt's file; read it behind those of the attempts before.

    The first line names how far each earlier file is accepted. Whatever a writer that was taken for dead adds to
    its file afterwards is never read, by this attempt or by any later one.

    Args:
        attempt: This attempt.
        campaign: The campaign's folder.
        previous: Folders of the earlier attempts, relative to the campaign, oldest first.
    """

    def __init__(self, attempt: AttemptDir, campaign: Path, previous: Sequence[str]) -> None:
        accepted = _accept(campaign, previous)
        self._before = [event for each in accepted for event in _read(campaign, each)]
        self._file = ChainedFile(attempt.record, epoch=len(previous))
        if not self._file.events:
            self._file.append(_ACCEPTS, attempts=accepted)

    def append(self, event: str, **fact: Any) -> None:
        """Write one line and fsync it."""
        self._file.append(event, **fact)

    def events(self) -> list[dict[str, Any]]:
        """Return all lines of all earlier attempts and of this one, in order."""
        return self._before + [event for event in self._file.events if event["event"] != _ACCEPTS]

    def close(self) -> None:
        """Close this attempt's file."""
        self._file.close()


def _accept(campaign: Path, previous: Sequence[str]) -> list[dict[str, Any]]:
    """Say how far each earlier file counts: as the last of them said of those before it, else as it stands now."""
    found = [folder for folder in previous if _path(campaign, folder).is_file()]
    known: dict[str, dict[str, Any]] = {}
    if found:
        first = read_chain(_path(campaign, found[-1])).events[:1]
        known = {each["attempt"]: each for event in first if event["event"] == _ACCEPTS for each in event["attempts"]}
    return [known.get(folder) or _measure(campaign, folder) for folder in found]


def _measure(campaign: Path, folder: str) -> dict[str, Any]:
    chain = read_chain(_path(campaign, folder))
    return {"attempt": folder, "length": chain.length, "hash": chain.hash}


def _read(campaign: Path, accepted: dict[str, Any]) -> list[dict[str, Any]]:
    path = _path(campaign, accepted["attempt"])
    chain = read_chain(path, length=accepted["length"])
    if chain.hash != accepted["hash"]:
        raise JournalError("it is not the record that a later attempt accepted", str(path), "Restore the file from a copy.")
    return [event for event in chain.events if event["event"] != _ACCEPTS]


def _path(campaign: Path, folder: str) -> Path:
    return AttemptDir(campaign / folder).record
