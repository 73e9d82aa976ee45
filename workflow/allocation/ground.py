"""Make node-local folders that no other user of the machine can have prepared or can reach into."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from workflow.errors import StageError

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def make_own(folder: Path) -> None:
    """Make a folder and those above it, closed to others; what stands already below a place where all may write must be ours.

    `/tmp` is such a place, and the names of our folders in it can be guessed.

    Raises:
        StageError: Somebody else has made one of them, others may write there, or it is a link.
    """
    above_is_open = False
    for each in [*reversed(folder.absolute().parents), folder.absolute()]:
        try:
            facts = each.lstat()
        except FileNotFoundError:
            break
        if above_is_open and not _is_such_a_place(facts):
            _require_ours(each, facts)
        above_is_open = bool(facts.st_mode & stat.S_IWOTH)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)


def _is_such_a_place(facts: os.stat_result) -> bool:
    """Say whether it is a folder of the system's own in which all may write, each his own."""
    return (
        stat.S_ISDIR(facts.st_mode) and facts.st_uid == 0 and bool(facts.st_mode & stat.S_ISVTX and facts.st_mode & stat.S_IWOTH)
    )


def _require_ours(folder: Path, facts: os.stat_result) -> None:
    if stat.S_ISLNK(facts.st_mode):
        found = "is a link"
    elif facts.st_uid != os.getuid():
        found = f"belongs to user {facts.st_uid}"
    elif facts.st_mode & _OTHERS_WRITE:
        found = "lets others write"
    else:
        return
    remedy = "Remove it, or name another folder under `node: {local: …}` in your overlay of the site."
    raise StageError(f"'{folder}' {found}: what is staged there could be another's", str(folder), remedy)
