"""An append-only file of JSON lines, each bound to the one before by SHA-256."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.outcome import sync
from workflow.errors import JournalError, plain

GENESIS = "0" * 64
_TAIL = len(',"hash":""}') + 64


@dataclass(frozen=True)
class Chain:
    """The accepted part of a chained file.

    Attributes:
        events: Its lines as dictionaries, without the hash.
        length: Bytes of whole lines.
        hash: Hash of the last whole line, or the one the file starts from.
        torn: Bytes behind the last whole line: a write that did not end.
    """

    events: list[dict[str, Any]]
    length: int
    hash: str
    torn: int


class ChainedFile:
    """One writer's append-only record; every append is fsynced before it returns.

    A line is the JSON object of the event with `seq`, `epoch`, `t`, and at its end `hash`: SHA-256 of the
    hash before and of the line up to there. So no line can be changed, dropped or put elsewhere unseen.

    A write that fails may leave half a line, a whole one, or none. Nothing is appended behind it: the next writer cuts
    off a torn line and takes a whole one in. To cut it off here might take away what that one has accepted meanwhile.

    Args:
        path: The file; made where absent. A torn last line of an earlier writer is cut off.
        epoch: Number of the writer, stored in every line.
        start: Hash that the first line is bound to.
        seq: Number of the first line.
    """

    def __init__(self, path: Path, *, epoch: int = 0, start: str = GENESIS, seq: int = 0) -> None:
        self.path, self.epoch = path, epoch
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        sync(path.parent)
        chain = read_chain(path, start)
        if chain.torn:
            os.ftruncate(self._handle, chain.length)
        self.torn, self._hash = chain.torn, chain.hash
        self._seq = seq + len(chain.events)
        self._events = chain.events
        self._fault: BaseException | None = None
        self._lock = threading.Lock()

    @property
    def events(self) -> list[dict[str, Any]]:
        """All lines, those of earlier writers of this file included."""
        with self._lock:
            return list(self._events)

    @property
    def is_broken(self) -> bool:
        """Whether a write has failed, so that nothing more is appended."""
        return self._fault is not None

    def append(self, event: str, **fact: Any) -> dict[str, Any]:
        """Write one line, fsync it, and return it.

        Raises:
            OSError: It cannot be written, or a line before it could not.
        """
        with self._lock:
            if self._fault is not None:
                raise _behind(self._fault, self.path)
            fields = {"seq": self._seq, "epoch": self.epoch, "t": round(time.time(), 3), "event": event, **fact}
            line, digest = _seal(fields, self._hash)
            try:
                _write(self._handle, line)
                os.fsync(self._handle)
            except BaseException as error:
                self._fault = error
                raise
            self._hash, self._seq = digest, self._seq + 1
            self._events.append(fields)
            return fields

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)


def read_chain(path: Path, start: str = GENESIS, length: int | None = None) -> Chain:
    """Read a chained file, tolerant of a torn last line only.

    Args:
        path: The file.
        start: Hash that its first line is bound to.
        length: Read so many bytes only, which must be whole lines.

    Raises:
        JournalError: A line is damaged, missing, or not where it was written.
    """
    data = path.read_bytes()
    if length is not None and len(data) < length:
        raise _damaged(path, 0, f"{len(data)} bytes stand where {length} were accepted")
    return _opened(path, data if length is None else data[:length], Chain([], 0, start, 0))


def read_on(path: Path, before: Chain) -> Chain:
    """Read a chained file again from where an earlier reading ended: it only ever grows.

    Args:
        path: The file.
        before: What was read then.

    Raises:
        JournalError: A line is damaged or missing.
    """
    with open(path, "rb") as file:
        if file.seek(0, os.SEEK_END) < before.length:
            raise _damaged(path, len(before.events), f"it is shorter than the {before.length} bytes that were read before")
        file.seek(before.length)
        return _opened(path, file.read(), before)


def _opened(path: Path, data: bytes, before: Chain) -> Chain:
    """Return what was read before and the whole lines of `data` behind it."""
    whole, newline, torn = data.rpartition(b"\n")
    events, digest = list(before.events), before.hash
    for line in whole.split(b"\n") if newline else []:
        fields, digest = _open(path, len(events), line, digest)
        events.append(fields)
    return Chain(events, before.length + len(data) - len(torn), digest, len(torn))


def _seal(fields: dict[str, Any], before: str) -> tuple[bytes, str]:
    body = json.dumps(fields, separators=(",", ":"), allow_nan=False).encode()[:-1]
    digest = hashlib.sha256(before.encode() + body).hexdigest()
    return body + f',"hash":"{digest}"}}\n'.encode(), digest


def _open(path: Path, number: int, line: bytes, before: str) -> tuple[dict[str, Any], str]:
    digest = hashlib.sha256(before.encode() + line[:-_TAIL]).hexdigest()
    if line[-_TAIL:] != f',"hash":"{digest}"}}'.encode():
        raise _damaged(path, number, "its hash does not follow from the line before")
    try:
        fields: dict[str, Any] = json.loads(line[:-_TAIL].decode() + "}")
    except (ValueError, RecursionError) as error:
        raise _damaged(path, number, f"no valid JSON ({plain(error)})") from error
    return fields, digest


def _write(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _behind(fault: BaseException, path: Path) -> OSError:
    number = fault.errno if isinstance(fault, OSError) else None
    return OSError(number or errno.EIO, f"nothing is appended behind a line that could not be written ({fault})", str(path))


def _damaged(path: Path, number: int, why: str) -> JournalError:
    return JournalError(
        f"the record is damaged: {why}",
        f"{path}: line {number + 1}",
        "Restore the file from a copy (a snapshot of the file system); nothing was changed or submitted.",
    )
