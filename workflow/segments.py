"""The segments of a campaign's record: which lines of which drivers are accepted."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workflow.chained import GENESIS, Chain, read_chain, read_on
from workflow.errors import JournalError, plain


@dataclass(frozen=True)
class Record:
    """The accepted record.

    Attributes:
        epoch: Its last segment with a first line; 0 where there is none.
        earlier: Lines of the segments before that one.
        last: That segment.
    """

    epoch: int
    earlier: list[dict[str, Any]]
    last: Chain

    @property
    def events(self) -> list[dict[str, Any]]:
        """All its lines, in order."""
        return self.earlier + self.last.events


def accepted(folder: Path, newest: int) -> Record:
    """Read what is accepted of the epochs up to `newest`, walking back from the last with a first line."""
    while newest and _first_line(folder, newest) is None:
        newest -= 1  # its driver died between making the segment and its first line: without effect
    parts: list[Chain] = []
    epoch, length, hash_then = newest, None, None
    while newest:
        chain, first = _read_segment(folder, newest, length)
        if hash_then not in (None, chain.hash):
            raise _missing(folder, newest, "ends otherwise than the next driver accepted it")
        parts.append(chain)
        newest, length, hash_then = first["before"], first["length"], first["accepted"]
    last = parts[0] if parts else Chain([], 0, GENESIS, 0)
    return Record(epoch, [line for part in reversed(parts[1:]) for line in part.events], last)


def read_further(folder: Path, newest: int, before: Record) -> Record:
    """Add what a thawed driver has written since a record was read; segments only ever grow."""
    if any(_first_line(folder, epoch) is not None for epoch in range(before.epoch + 1, newest + 1)):
        return accepted(folder, newest)  # a driver that was taken for dead before its first line
    if not before.epoch:
        return before
    return Record(before.epoch, before.earlier, read_on(segment_path(folder, before.epoch), before.last))


def _read_segment(folder: Path, epoch: int, length: int | None) -> tuple[Chain, dict[str, Any]]:
    first = _first_line(folder, epoch)
    if first is None:
        raise _missing(folder, epoch, "is missing or empty")
    return read_chain(segment_path(folder, epoch), str(first.get("accepted")), length), first


def _first_line(folder: Path, epoch: int) -> dict[str, Any] | None:
    path = segment_path(folder, epoch)
    if not path.exists():
        return None
    with open(path, "rb") as file:
        line = file.readline()
    if not line.endswith(b"\n"):
        return None
    try:
        fields: dict[str, Any] = json.loads(line)
        return {"before": int(fields["before"]), "length": int(fields["length"]), "accepted": str(fields["accepted"])}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _missing(folder, epoch, f"has a damaged first line ({plain(repr(error))})") from error


def _missing(folder: Path, epoch: int, why: str) -> JournalError:
    return JournalError(
        f"segment {epoch} of the journal {why}",
        str(segment_path(folder, epoch)),
        "Restore the file from a copy (a snapshot of the file system); nothing was changed or submitted.",
    )


def epochs(folder: Path) -> list[int]:
    """Return the numbers of all segments.

    Raises:
        JournalError: One is no file: to pass it over would drop what a driver has done.
    """
    found = sorted((int(path.stem), path) for path in folder.glob("*.jsonl") if path.stem.isdigit())
    for epoch, path in found:
        if not path.is_file():
            why = f"is a link that leads nowhere ({path.readlink()})" if path.is_symlink() else "is no file"
            raise _missing(folder, epoch, why)
    return [epoch for epoch, _ in found]


def segment_path(folder: Path, epoch: int) -> Path:
    """Return where a segment lies."""
    return folder / f"{epoch}.jsonl"
