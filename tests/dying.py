"""Deaths at named points, and disks that fail: one mechanism for drivers and agents, of which nothing is in what is tested.

A point is what a driver passes (`after intent`), or the moment around a line of a chained record (`within line settled`) or
around the renaming of a file into its place (`before rename receipt.json`).

`python -m dying CAMPAIGN POINT NTH SIGNAL [run|resume|cancel] [AGENT]` drives until it sends itself the signal.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from workflow import chained
from workflow.chained import ChainedFile

NEVER = "never"
_HALF = b'{"seq":1,"epo'


class Fate:
    """What is to happen to a process: a signal, when it passes a point for the nth time.

    Args:
        point: The point; `*` stands for any words in it.
        nth: Which passing counts.
        number: The signal.
        last_words: Called with the point just before.
    """

    def __init__(
        self,
        point: str,
        nth: int = 1,
        number: signal.Signals = signal.SIGKILL,
        last_words: Callable[[str], Any] = lambda _: None,
    ) -> None:
        self._point, self._left, self._number, self._last_words = point, nth, number, last_words

    def passing(self, point: str) -> None:
        """Pass a point, and come back from it unless fate strikes here (or after the process is sent on)."""
        if self.is_here(point):
            self.strike(point)

    def is_here(self, point: str) -> bool:
        """Count this passing, and say whether it is the one."""
        self._left -= fnmatch.fnmatchcase(point, self._point)
        if self._left:
            return False
        self._left = -1
        return True

    def strike(self, point: str) -> None:
        """Send the signal."""
        self._last_words(point)
        os.kill(os.getpid(), self._number)


@contextlib.contextmanager
def fated(fate: Fate) -> Iterator[None]:
    """Let a fate look at every line of a record and every renaming of a file."""
    append, replace = ChainedFile.append, Path.replace

    def appended(record: ChainedFile, event: str, /, **fact: Any) -> dict[str, Any]:
        fate.passing(f"before line {event}")
        if fate.is_here(f"within line {event}"):
            os.write(record._handle, _HALF)
            fate.strike(f"within line {event}")
        line = append(record, event, **fact)
        fate.passing(f"after line {event}")
        return line

    def replaced(path: Path, target: Any) -> Path:
        fate.passing(f"before rename {Path(target).name}")
        there = replace(path, target)
        fate.passing(f"after rename {Path(target).name}")
        return there

    with mock.patch.object(ChainedFile, "append", appended), mock.patch.object(Path, "replace", replaced):
        yield


@contextlib.contextmanager
def failing_write(text: bytes = b"", *, whole: bool) -> Iterator[None]:
    """Let the disk fail once, at the first line of a record that holds `text`.

    Args:
        text: What the line holds.
        whole: The line stands, and its fsync fails; else the disk is full amid it.
    """
    write, sync, handles = chained._write, os.fsync, []

    def written(handle: int, line: bytes) -> None:
        is_due = not handles and text in line
        write(handle, line if whole or not is_due else line[: len(line) // 2])
        if is_due:
            handles.append(handle)
            if not whole:
                raise OSError(errno.ENOSPC, "the disk is full")

    def synced(handle: int) -> None:
        if whole and handles == [handle]:
            handles.append(-1)
            raise OSError(errno.EIO, "the disk fails")
        sync(handle)

    with mock.patch.object(chained, "_write", written), mock.patch.object(os, "fsync", synced):
        yield


def main() -> None:
    from toy.world import AGENT, install

    from workflow.draft import load_campaign
    from workflow.driver import Driver
    from workflow.rundir import RunDir

    path, point, nth, name, *rest = sys.argv[1:]
    install(Path(rest[1]) if rest[1:] else AGENT)
    fate, campaign = Fate(point, int(nth), signal.Signals[name]), load_campaign(Path(path))
    driver = Driver(campaign, passing=fate.passing)
    with fated(fate):
        if rest[:1] != ["cancel"]:
            sys.exit(driver.run(resume=rest[:1] == ["resume"]))
        keys = [each.key for each in campaign.instances()]
        for key in keys:
            RunDir(campaign.folder).stage_cancel(key).touch()
        driver.wind_down(keys)


if __name__ == "__main__":
    main()
