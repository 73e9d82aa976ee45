"""Names of source files for ids: the same wherever the data stand, packed or not."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

PARTS = ("train", "val", "train_*", "val_*")
"""Folders that tell the part of a set a file belongs to."""
_FORMATS = (".extxyz", ".xyz", ".traj", ".aselmdb")


def place(path: Path, folders: tuple[str, ...] = PARTS) -> str:
    """Return a file's name without what tells its format, from the innermost folder on whose name fits one of the patterns."""
    name = path.name
    for suffix in _FORMATS:
        name = name.split(suffix)[0]
    above = path.parts[:-1]
    starts = [number for number, part in enumerate(above) if any(fnmatchcase(part, folder) for folder in folders)]
    return "/".join((*above[starts[-1] :], name) if starts else (name,))
