"""Print the logs of the newest attempt at a stage that has something to tell, and go on as they grow."""

from __future__ import annotations

import re
import time
from pathlib import Path

import click

from workflow.errors import StageError
from workflow.report.record import read_planned
from workflow.rundir import AttemptDir, RunDir

_POLL_S = 0.5
_TAIL_BYTES = 4 << 20
_TRIAL = re.compile(r"trial-[0-9]+")
"""A trial by its number; run again, its task is called `trial-3-2`, `trial-3-3` …"""


def print_logs(folder: Path, stage: str, task: str | None, *, lines: int, follow: bool) -> None:
    """Print the logs of the newest attempt of a stage.

    Args:
        folder: The campaign's folder.
        stage: Stage instance.
        task: A task; None prints the batch job's log.
        lines: Lines from the end of each; 0 for all.
        follow: Go on printing what is added, until the attempt has a receipt or the user leaves.

    Raises:
        StageError: No such stage, attempt or task.
    """
    attempt = _telling(RunDir(folder), stage, task)
    files = [attempt.log] if task is None else _task_files(attempt, stage, task)
    places = {file: _print_tail(file, lines) for file in files}
    if task is None:
        _offer_tasks(attempt)
    try:
        while follow and not attempt.receipt.is_file():
            time.sleep(_POLL_S)
            places = {file: _print_from(file, place) for file, place in places.items()}
    except KeyboardInterrupt:
        return
    for file, place in places.items():
        _print_from(file, place)


def _telling(rundir: RunDir, stage: str, task: str | None) -> AttemptDir:
    """Return the newest attempt with that task, or with any; a link that waits in the queue or had nothing to do has none."""
    attempts = rundir.attempts(stage)
    if not attempts:
        known = [key for key in read_planned(rundir, []).stages if rundir.attempts(key)]
        remedy = f"Stages that had jobs: {', '.join(known) or 'none yet'}."
        raise StageError(f"no job of stage '{stage}'", str(rundir.root), remedy)
    telling = (
        each for each in reversed(attempts) if (any(each.tasks.glob("*")) if task is None else _newest(each, task).is_dir())
    )
    return next(telling, attempts[-1])


def _newest(attempt: AttemptDir, task: str) -> Path:
    """Return the folder of a task; of a trial that ran several times in the attempt, that of its newest run."""
    if not _TRIAL.fullmatch(task):
        return attempt.tasks / task
    again = [path for path in attempt.tasks.glob(f"{task}-*") if path.name[len(task) + 1 :].isdigit()]
    return max(again, key=lambda path: int(path.name[len(task) + 1 :]), default=attempt.tasks / task)


def _task_files(attempt: AttemptDir, stage: str, task: str) -> list[Path]:
    folder = _newest(attempt, task)
    if not folder.is_dir() or folder.parent != attempt.tasks:
        raise StageError(f"no task '{task}' in any attempt at '{stage}'", str(attempt.tasks), f"Tasks: {_names(attempt)}.")
    return [folder / "stdout.log", folder / "stderr.log"]


def _names(attempt: AttemptDir) -> str:
    names = sorted(path.name for path in attempt.tasks.glob("*") if path.is_dir()) if attempt.tasks.is_dir() else []
    more = f", … ({len(names)} in all)" if len(names) > 20 else ""
    return (", ".join(names[-20:]) or "none") + more


def _offer_tasks(attempt: AttemptDir) -> None:
    click.secho(f"--- tasks (--task NAME): {_names(attempt)}", dim=True)


def _print_tail(file: Path, lines: int) -> int:
    click.secho(f"--- {file}", dim=True)
    if not file.is_file():
        click.secho("not written yet", dim=True)
        return 0
    size = file.stat().st_size
    if not size:
        click.secho("empty: it had nothing to say", dim=True)
    with open(file, "rb") as handle:
        handle.seek(max(0, size - _TAIL_BYTES) if lines > 0 else 0)
        data = handle.read(size - handle.tell())
    shown = data if lines <= 0 else b"".join(data.splitlines(keepends=True)[-lines:])
    click.echo(shown.decode(errors="replace"), nl=bool(shown) and not shown.endswith(b"\n"))
    return size


def _print_from(file: Path, place: int) -> int:
    if not file.is_file():
        return place
    with open(file, "rb") as handle:
        handle.seek(place)
        data = handle.read()
    if data:
        click.echo(data.decode(errors="replace"), nl=False)
    return place + len(data)
