"""The campaign files that ship, to start from, and the schema that an editor checks them with."""

from __future__ import annotations

import json
import re
from pathlib import Path

from model.outcome import write_bytes
from model.registry import require
from workflow.campaign import NAME
from workflow.errors import ConfigError
from workflow.schema import campaign_schema
from workflow.site import packaged
from workflow.targets import file_in

SCHEMA_FILE = "campaign.schema.json"
_BESIDE_FOLDER = re.compile(r"(\b(?:path|folder):\s*)([\"']?)\.\./")


def templates() -> dict[str, str]:
    """Return the templates by name, with the first line of comment of each."""
    return {path.stem: _title(path) for path in sorted(packaged("campaigns").glob("*.yaml"))}


def write_template(name: str, into: Path, force: bool, *, schema: bool = False) -> Path:
    """Write a template; one that is written under another name is a campaign of that name, with a folder of its own.

    Args:
        name: Its name out of `templates()`.
        into: The file to write.
        force: Whether to overwrite a file that stands there.
        schema: Whether to write the schema beside it, and to name it in the first line for editors.

    Raises:
        ConfigError: There is no such template, a file or a folder stands there, or no folder to put it into.
    """
    try:
        require(name, list(templates()), "template", "campaign init")
    except Exception as error:
        raise ConfigError(*error.args) from error
    whole = file_in(into)
    if whole.exists() and not force:
        raise ConfigError("a file stands there", str(into), "Give another name with --into, or overwrite it with --force.")
    text = _renamed(_moved((packaged("campaigns") / f"{name}.yaml").read_text()), name, into.stem)
    if schema:
        text = f"# yaml-language-server: $schema={write_schema(into.with_name(SCHEMA_FILE)).name}\n{text}"
    write_bytes(whole, text.encode())
    return into


def schema_text() -> str:
    """Return the JSON schema of campaign files."""
    return json.dumps(campaign_schema(), indent=1, ensure_ascii=False) + "\n"


def write_schema(into: Path) -> Path:
    """Write the JSON schema of campaign files; one that stands there is brought up to date."""
    write_bytes(file_in(into), schema_text().encode())
    return into


def _renamed(text: str, template: str, name: str) -> str:
    if name == template or not re.fullmatch(NAME, name):
        return text
    return re.sub(r"(?m)^name: *\S+", f'name: "{name}"', text, count=1)  # 2024 and null are names too


def _moved(text: str) -> str:
    """Return a template whose data and runs lie beside it: the packaged ones stand in a folder of their own."""
    return _BESIDE_FOLDER.sub(r"\1\2", text)


def _title(path: Path) -> str:
    first = path.read_text().splitlines()[:1]
    return first[0].lstrip("# ").strip() if first and first[0].startswith("#") else ""
