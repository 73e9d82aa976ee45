"""Bring a packed Python environment to a node: copied, verified by digest, unpacked whole or not at all."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

from workflow.allocation.ground import make_own
from workflow.errors import StageError
from workflow.receipt import Output, is_right

_MARK = ".sha256"


def environment_folder(local: str) -> str:
    """Return where the environment lies on a node.

    Args:
        local: Node-local folder of the attempt; virtual nodes of one machine share one environment.
    """
    return f"{local.replace('{node}', 'all-nodes')}/env"


def unpack(archive: Output, folder: Path) -> bool:
    """Unpack an archive into `folder` unless it stands there; say whether it was unpacked.

    Args:
        archive: Absolute path, size and digest.
        folder: Where its content goes.

    Raises:
        StageError: The archive, or its copy on this node, is not the one that was built.
        OSError: No room, or no right to write there.
    """
    make_own(folder.parent)
    if _is_there(archive, folder):
        return False
    copy, part = (folder.with_name(f".{folder.name}.{os.getpid()}.{kind}") for kind in ("tar", "part"))
    try:
        _bring(archive, sent_archive(folder), copy)
        with tarfile.open(copy) as tar:
            tar.extractall(part, filter="data")
        (part / _MARK).write_text(archive.sha256)
        _put(part, folder, archive)
    except tarfile.TarError as error:
        raise StageError(f"the packed environment cannot be unpacked: {error}", archive.path, "Build it anew.") from error
    finally:
        copy.unlink(missing_ok=True)
        shutil.rmtree(part, ignore_errors=True)
    return True


def sent_archive(folder: Path) -> Path:
    """Return where a broadcast leaves the archive on a node."""
    return folder.with_name(f"{folder.name}.tar")


def _bring(archive: Output, sent: Path, copy: Path) -> None:
    """Take what a broadcast has left, if it is whole; else copy the archive."""
    try:
        sent.rename(copy)
    except FileNotFoundError:  # nothing was sent, or another virtual node of this machine has taken it
        copy.unlink(missing_ok=True)
    if is_right(copy, archive):
        return
    shutil.copyfile(archive.path, copy)
    if not is_right(copy, archive):
        raise StageError("the copy of the packed environment is not the one that was built", archive.path, "Build it anew.")


def _put(part: Path, folder: Path, archive: Output) -> None:
    """Give the unpacked environment its name; another virtual node of this machine may have been first."""
    try:
        part.rename(folder)
    except OSError:
        if not _is_there(archive, folder):
            shutil.rmtree(folder, ignore_errors=True)
            part.rename(folder)


def _is_there(archive: Output, folder: Path) -> bool:
    mark = folder / _MARK
    return mark.is_file() and mark.read_text() == archive.sha256
