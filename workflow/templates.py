"""The campaign files that ship, to start from."""

from __future__ import annotations

import re
from pathlib import Path

from model.outcome import write_bytes
from model.registry import require
from workflow.errors import ConfigError
from workflow.site import packaged

_BESIDE_FOLDER = re.compile(r"(\b(?:path|folder):\s*)([\"']?)\.\./")


def templates() -> dict[str, str]:
    """Return the templates by name, with the first line of comment of each."""
    return {path.stem: _title(path) for path in sorted(packaged("campaigns").glob("*.yaml"))}


def write_template(name: str, into: Path, force: bool) -> Path:
    """Write a template.

    Args:
        name: Its name out of `templates()`.
        into: The file to write.
        force: Whether to overwrite a file that stands there.

    Raises:
        ConfigError: There is no such template, or a file stands there.
    """
    try:
        require(name, list(templates()), "template", "campaign init")
    except Exception as error:
        raise ConfigError(*error.args) from error
    if into.exists() and not force:
        raise ConfigError("a file stands there", str(into), "Give another name with --into, or overwrite it with --force.")
    if not into.absolute().parent.is_dir():
        raise ConfigError("no such folder", str(into.parent), "Make it first, or give another name with --into.")
    write_bytes(into.absolute(), _moved((packaged("campaigns") / f"{name}.yaml").read_text()).encode())
    return into


def _moved(text: str) -> str:
    """Return a template whose data and runs lie beside it: the packaged ones stand in a folder of their own."""
    return _BESIDE_FOLDER.sub(r"\1\2", text)


def _title(path: Path) -> str:
    first = path.read_text().splitlines()[:1]
    return first[0].lstrip("# ").strip() if first and first[0].startswith("#") else ""
