"""Run one command of a batch system: its exit code and output, or no answer."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from workflow.errors import SchedulerError

T = TypeVar("T")
_LAST = 500
_TRIES, _PAUSE_S = 12, 10.0


@dataclass(frozen=True)
class Answer:
    """What a command said.

    Attributes:
        code: Exit code.
        out: Standard output.
        err: Standard error, its end.
    """

    code: int
    out: str
    err: str

    @property
    def words(self) -> str:
        """Return what it said to people, on one line."""
        return " ".join((self.err or self.out).split())[-_LAST:]


def ask(
    argv: Sequence[str],
    timeout_s: float,
    folder: Path | None = None,
    *,
    changes: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Answer:
    """Run a command to its end.

    Args:
        argv: The command; no shell sees it.
        timeout_s: Seconds after which it counts as unanswered.
        folder: Where to run it.
        changes: Whether it changes something, so that no answer leaves open whether it was carried out.
        environment: Its whole environment; None: this process's.

    Raises:
        SchedulerError: It is not there, or did not answer in time.
    """
    try:
        done = subprocess.run(
            list(argv),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            env={**(os.environ if environment is None else environment), "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired as error:
        said = error.stdout.decode(errors="replace").strip() if isinstance(error.stdout, bytes) else (error.stdout or "").strip()
        what = f"no answer from {argv[0]} within {timeout_s:g} s" + (f"; it had said: {said[-_LAST:]}" if said else "")
        raise SchedulerError(what, argv[0], "It is asked again.", unknown=changes) from error
    except OSError as error:
        raise SchedulerError(f"{argv[0]} cannot be run: {error}", argv[0], "Run on a login node of the site.") from error
    return Answer(done.returncode, done.stdout, done.stderr)


def patiently(asked: Callable[[], T | None], what: str, where: str) -> T:
    """Ask until there is an answer, for two minutes and what the answers take: a server may restart just when a job starts.

    Args:
        asked: Asks once; None, or an error of the batch system, where that tells nothing.
        what: What is asked, for people.
        where: Whom.

    Raises:
        SchedulerError: There was no answer.
    """
    for left in reversed(range(_TRIES)):
        with contextlib.suppress(SchedulerError):
            if (answer := asked()) is not None:
                return answer
        time.sleep(_PAUSE_S if left else 0)
    raise SchedulerError(f"no answer: {what}", where, "Look at its server; the work is tried again in another attempt.")
