"""Tell an error on the terminal as what, where, remedy; the traceback goes to a file."""

from __future__ import annotations

import os
import traceback
from datetime import UTC, datetime
from pathlib import Path

import click

from workflow.errors import CampaignError, plain


def tell(error: Exception, folder: Path | None, *, debug: bool = False) -> None:
    """Print an error on stderr; of one that may be the program's fault, keep the traceback.

    Args:
        error: What was raised.
        folder: The campaign's folder, where known; else the traceback goes to the user's state folder.
        debug: Print the traceback too.
    """
    if debug:
        click.echo(_text(error), err=True, nl=False)
    if isinstance(error, CampaignError):
        tell_problem(error)
        return
    kept = _keep(error, folder)
    if isinstance(error, OSError) and error.errno:
        tell_problem(_of_the_machine(error, folder))
        return
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    click.secho(f"error: {what}", fg="red", bold=True, err=True)
    click.echo("  This is a fault of the program, not of your file.", err=True)
    click.echo(f"  The traceback is in {kept}; please send it with the campaign file." if kept else _text(error), err=True)


def tell_problem(error: CampaignError) -> None:
    """Print what, where and remedy on stderr, without keeping anything."""
    click.secho("error: ", fg="red", bold=True, nl=False, err=True)
    head = f"{error.where}: {error.what}" if error.where else error.what
    click.echo(plain(head, None), err=True)
    for line in error.remedy.splitlines():
        click.echo(f"  {plain(line.strip(), None)}", err=True)


def _of_the_machine(error: OSError, folder: Path | None) -> CampaignError:
    """Say what a file system or the system refused: no fault of the file, and mostly none of the program."""
    paths = " -> ".join(str(each) for each in (error.filename, error.filename2) if each is not None)
    remedy = "See to space, quota and rights there, then give the same command again; it goes on from what stands."
    return CampaignError(error.strerror or type(error).__name__, paths or str(folder or ""), remedy)


def _keep(error: Exception, folder: Path | None) -> Path | None:
    state = Path(os.environ.get("XDG_STATE_HOME", Path.home() / ".local" / "state")) / "campaign"
    path = (folder if folder is not None and folder.is_dir() else state) / "traceback.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "a") as file:
            file.write(f"--- {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} pid {os.getpid()}\n{_text(error)}\n")
    except OSError:
        return None  # a full or foreign disk must not hide the error itself
    return path


def _text(error: Exception) -> str:
    return "".join(traceback.format_exception(error))
