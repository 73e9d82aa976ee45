"""The campaign's record: one segment for each driver, whose creation is the lease."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.outcome import read_json, sync, write_json
from model.silence import Silence
from workflow.chained import ChainedFile
from workflow.errors import CampaignError, LeaseHeld
from workflow.process import ProcessId
from workflow.rundir import RunDir
from workflow.segments import Record, accepted, epochs, read_further, segment_path

if TYPE_CHECKING:  # `campaign status` answers without pydantic
    from workflow.site import Periods

__all__ = ["ChainedFile", "Journal", "is_driven", "read_events"]

_LOOKS_PER_BEAT = 4
_GOODBYE_BYTES = 4096


class Journal:
    """The lease on a campaign and the right to write its record.

    A segment's first line names the earlier segment, and up to which length and hash it is accepted. What a
    frozen and thawed driver adds to its own segment later is so without effect; it learns of it at its next commit.
    """

    def __init__(self, file: ChainedFile, earlier: list[dict[str, Any]], period_s: float) -> None:
        self._file, self._earlier = file, earlier
        self._next = segment_path(file.path.parent, file.epoch + 1)
        self._lock = threading.Lock()
        self.listener: Callable[[dict[str, Any]], None] | None = None
        """Called with every line as soon as it is committed, in the order of the lines."""
        self._beat = _Beat(_beat_path(file.path.parent, file.epoch), period_s)

    @staticmethod
    def take(rundir: RunDir, periods: Periods) -> Journal:
        """Take the lease, waiting up to one time to live for a silent former driver.

        Raises:
            LeaseHeld: Another driver lives, or was faster.
            JournalError: The record is damaged.
        """
        folder = rundir.journal
        folder.mkdir(parents=True, exist_ok=True)
        newest = max(epochs(folder), default=0)
        _await_silence(folder, newest, periods)
        before = accepted(folder, newest)  # a damaged record is found before anything is made
        path = segment_path(folder, newest + 1)
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError as error:
            raise _held(folder, newest + 1) from error
        sync(folder)
        return Journal._begin(folder, newest + 1, before, periods)

    @staticmethod
    def _begin(folder: Path, epoch: int, before: Record, periods: Periods) -> Journal:
        # The former segment is read to its end only after ours stands: a driver that finds no newer segment behind its
        # commit knows therefore that this commit is read here.
        record = read_further(folder, epoch - 1, before)
        earlier, last = record.events, record.last
        file = ChainedFile(segment_path(folder, epoch), epoch=epoch, start=last.hash, seq=len(earlier))
        journal = Journal(file, earlier, periods.heartbeat_s)
        accepts = {"before": record.epoch, "length": last.length, "accepted": last.hash, "torn": last.torn}
        try:
            journal._beat.start()
            journal.commit("lease", **accepts, process=ProcessId.own().fields())
        except BaseException:
            journal.drop()  # else its heartbeat would keep others out
            raise
        return journal

    @property
    def events(self) -> list[dict[str, Any]]:
        """All accepted lines of all epochs, in order."""
        return self._earlier + self._file.events

    @property
    def epoch(self) -> int:
        """Number of this driver among the campaign's."""
        return self._file.epoch

    def commit(self, event: str, **fact: Any) -> dict[str, Any]:
        """Write one line and fsync it.

        Raises:
            LeaseHeld: A newer driver has taken over; the line has no effect and the caller must stop.
            OSError: It, or a line before it, cannot be written; the caller must stop, and the next driver goes on.
        """
        with self._lock:
            self.check()
            line = self._file.append(event, **fact)
            self.check()
            if self.listener is not None:
                self.listener(line)
            return line

    def check(self) -> None:
        """Make sure that no newer driver has taken over; call it before every act on the world.

        Raises:
            LeaseHeld: One has.
        """
        if self._next.exists():
            what = "a newer driver has taken this campaign over"
            raise LeaseHeld(what, str(self._file.path), "This one stops; the other goes on.")

    def close(self) -> None:
        """Say that this driver has ended, so that the next one need not wait for silence; where it cannot be said, drop."""
        try:
            if not self._file.is_broken:
                self.commit("driver_ended")
        finally:
            self.drop()

    def drop(self) -> None:
        """Stop the heartbeat and close the file without a word."""
        self._beat.stop()
        self._file.close()


def read_events(rundir: RunDir) -> list[dict[str, Any]]:
    """Return the accepted events without taking the lease; a torn last line is left out.

    Raises:
        JournalError: The record is damaged.
    """
    folder = rundir.journal
    return accepted(folder, max(epochs(folder), default=0)).events if folder.is_dir() else []


def is_driven(rundir: RunDir) -> bool | None:
    """Say at one glance whether a driver holds the campaign; None where that is not known without waiting.

    Its end is known when it said goodbye. That it lives, or died without a word, is known on its own host only.
    """
    folder = rundir.journal
    newest = max(epochs(folder), default=0) if folder.is_dir() else 0
    if _is_ended(folder, newest):
        return False
    process = _process(folder, newest)
    return True if process is not None and process.is_proven_alive() else None


class _Beat:
    """Writes a growing count, so that others see that this process lives."""

    def __init__(self, path: Path, period_s: float) -> None:
        self._path, self._period_s = path, period_s
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="driver-heartbeat", daemon=True)

    def start(self) -> None:
        """Write the first count and go on writing in a thread."""
        self._write(0)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._end.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        count = 1
        while not self._end.wait(self._period_s):
            try:
                self._write(count)
            except OSError:  # a full or stuck file system: the count stands still, which is the truth
                continue
            count += 1

    def _write(self, count: int) -> None:
        write_json(self._path, {"count": count, "t": time.time(), **ProcessId.own().fields()})


def _await_silence(folder: Path, epoch: int, periods: Periods) -> None:
    """Return once the driver of this epoch is known to be dead; clocks of other hosts are never looked at."""
    if not epoch:
        return
    period_s, silence = min(periods.heartbeat_s, periods.ttl_s) / _LOOKS_PER_BEAT, Silence()
    while not _is_ended(folder, epoch) and silence.stood_s < periods.ttl_s:
        silence = silence.look(_count(folder, epoch), time.monotonic(), period_s, periods.ttl_s)
        if silence.has_moved:
            raise _held(folder, epoch)
        time.sleep(period_s)


def _is_ended(folder: Path, epoch: int) -> bool:
    """Say whether the driver of this epoch said goodbye, or is proven dead on this very host."""
    if not epoch:
        return True
    if b'"event":"driver_ended"' in _last_line(segment_path(folder, epoch)):
        return True
    process = _process(folder, epoch)
    return process is not None and process.is_proven_dead()


def _last_line(path: Path) -> bytes:
    """Return the last whole line of a file, or its end where the line is longer than any goodbye."""
    with open(path, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _GOODBYE_BYTES))
        return file.read().rpartition(b"\n")[0].rpartition(b"\n")[2]


def _process(folder: Path, epoch: int) -> ProcessId | None:
    fields = _beat_fields(folder, epoch)
    return ProcessId(**{k: fields[k] for k in ("host", "boot", "space", "pid", "start")}) if fields else None


def _held(folder: Path, epoch: int) -> LeaseHeld:
    by = _beat_fields(folder, epoch)
    who = f"the driver on {by['host']} with pid {by['pid']}" if by else f"driver {epoch}"
    remedy = "Watch it with `campaign status --watch`, or end that driver; its jobs go on."
    return LeaseHeld(f"{who} runs this campaign", str(segment_path(folder, epoch)), remedy)


def _count(folder: Path, epoch: int) -> int | None:
    return _beat_fields(folder, epoch).get("count")


def _beat_fields(folder: Path, epoch: int) -> dict[str, Any]:
    try:
        return read_json(_beat_path(folder, epoch)) or {}
    except CampaignError:  # damaged by a full disk: says nothing about its writer
        return {}


def _beat_path(folder: Path, epoch: int) -> Path:
    return folder / f"{epoch}.beat"
