"""Whose a campaign's folder is: it is closed to all other users, and what they have left in it is not taken."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workflow.errors import ConfigError
from workflow.rundir import RunDir

_OTHERS = 0o077


@contextmanager
def private() -> Iterator[None]:
    """Keep what is made from all other users, whatever the umask of the shell; the jobs' scripts do the same."""
    before = os.umask(_OTHERS)
    try:
        yield
    finally:
        os.umask(before)


def close(rundir: RunDir) -> None:
    """Make a campaign's folder, or close one that stood before to all other users.

    Raises:
        ConfigError: It cannot be closed, or its record is another user's.
    """
    root = rundir.root
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    for path in (root, rundir.campaign, rundir.journal, *rundir.journal.glob("*")):
        if (uid := _owner(path)) not in (None, os.geteuid()):
            remedy = "Take it away, or give the file another `folder:`: what others may write decides nothing here."
            raise ConfigError(f"it belongs to another user (uid {uid})", str(path), remedy)
    mode = stat.S_IMODE(root.stat().st_mode)
    if mode & _OTHERS:
        try:
            root.chmod(mode & ~_OTHERS | stat.S_IRWXU)  # the bit that hands the project's group on stays
        except OSError as error:
            remedy = f"Close it (chmod 700 {root}), or give the file another `folder:`."
            what = f"other users can enter it, and it cannot be closed: {error.strerror}"
            raise ConfigError(what, str(root), remedy) from error


def is_ours(path: Path) -> bool:
    """Say whether a file stands there that this very user has left: what decides something is taken from nobody else."""
    try:
        facts = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(facts.st_mode) and facts.st_uid == os.geteuid()


def _owner(path: Path) -> int | None:
    try:
        return path.stat().st_uid
    except OSError:  # it is not there; or a link to nothing, of which the journal tells
        return None
