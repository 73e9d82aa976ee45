"""Run one command of a batch system: its exit code and output, or no answer."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from workflow.errors import SchedulerError

_LAST = 500


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
