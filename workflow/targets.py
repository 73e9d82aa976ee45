"""Where commands write what a user asks for: into folders that stand, never into ones that a slip of the pen would make."""

from __future__ import annotations

from pathlib import Path

from workflow.errors import ConfigError


def file_in(path: Path, option: str = "--into") -> Path:
    """Return the whole path of a file that is to be written.

    Raises:
        ConfigError: A folder or a device has that name, or the folder that it should stand in does not.
    """
    if path.is_dir():
        raise ConfigError("that is a folder, and a file is to be written", str(path), f"Name a file in it with {option}.")
    if path.exists() and not path.is_file():  # the file would be renamed into the place of a device
        raise ConfigError("that is no plain file", str(path), f"Give another name with {option}.")
    _require_parent(path, option)
    return path.absolute()


def folder_in(path: Path, option: str = "--into") -> Path:
    """Return the whole path of a folder that is written into; it is made where its own folder stands.

    Raises:
        ConfigError: A file has that name, or the folder that it should stand in does not.
    """
    if path.exists() and not path.is_dir():
        raise ConfigError("that is a file, and a folder is to be written", str(path), f"Name a folder with {option}.")
    _require_parent(path, option)
    path.mkdir(exist_ok=True)
    return path.absolute()


def _require_parent(path: Path, option: str) -> None:
    if not path.absolute().parent.is_dir():
        raise ConfigError("no such folder", str(path.parent), f"Make it first, or give another name with {option}.")
