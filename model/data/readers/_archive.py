"""Tar archives of trajectories, read from front to back without unpacking, and folders of the same."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from model.data.readers.base import find
from model.outcome import CampaignError

TARS = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
_OPEN: dict[str, Any] = {".gz": gzip.open, ".tgz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}


def loose_or_packed(paths: Sequence[Path], suffixes: tuple[str, ...]) -> list[Path]:
    """Return trajectories with one of the suffixes, or archives of them.

    Raises:
        CampaignError: Nothing there; or both, which would be the same frames twice.
    """
    found = find(paths, (*suffixes, *TARS))
    packed = [path for path in found if path.name.endswith(TARS)]
    if packed and len(packed) != len(found):
        raise CampaignError("archives beside unpacked files: the same frames twice?", str(packed[0]), "Give one of the two.")
    return found


def members(path: Path, suffixes: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of an archive's files with one of the suffixes, in their order, one in memory at a time.

    Raises:
        ValueError: It ends before its end mark.
        tarfile.TarError, EOFError, OSError: It is no archive, or damaged.
    """
    check_end(path)
    packed = path.suffix in _OPEN
    opened = _OPEN.get(path.suffix, open)
    # Some are several archives in a row. To look behind an end mark is safe where a checksum tells of damage.
    with opened(path, "rb") as stream, tarfile.open(fileobj=stream, mode="r|", ignore_zeros=packed) as archive:
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # it would keep the headers of all
            if member.isfile() and member.name.endswith(suffixes):
                content = archive.extractfile(member)
                assert content is not None  # of a regular file
                yield member.name, content.read()
        while stream.read(1 << 20):  # up to the checksum: to `tarfile`, an archive cut within a header has ended
            pass


def check_end(path: Path) -> None:
    """Compare an uncompressed archive's end with the format's: whole blocks of 512 bytes, the last two of zeros.

    `tarfile` takes an archive that was cut between two members for a whole one. Of a compressed one the checksum tells.

    Raises:
        ValueError: It was cut short.
    """
    if not path.name.endswith(".tar"):
        return
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(size - 1024, 0))
        if size % 512 or file.read() != bytes(1024):
            raise ValueError("ends before its end mark")
