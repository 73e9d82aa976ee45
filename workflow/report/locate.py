"""Find a campaign's folder from what a user names: its file, its folder, or nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from workflow.document import read_document
from workflow.errors import ConfigError

_RECORD = "campaign.json"


def locate(target: Path | None) -> Path:
    """Return the folder of a campaign; it need not stand there yet when the file is given.

    Raises:
        ConfigError: Nothing or more than one campaign fits.
    """
    if target is None:
        return _only_one(Path.cwd())
    if target.is_dir():
        return target if _is_campaign(target) else _only_one(target)
    if not target.is_file():
        raise ConfigError("no such file or folder", str(target), "Give a campaign's YAML file or its folder.")
    return _folder_of(target)


def locate_of_stage(usage: str, stage: str | None, target: Path | None) -> Path:
    """Return the folder of a campaign of which a person names a stage, or all.

    Args:
        usage: The subcommand and how it takes a stage, for the error.
        stage: What stands in the place of a stage; a campaign's file or folder there is told.
        target: What names the campaign.

    Raises:
        ConfigError: Nothing or more than one campaign fits, or the campaign is named where a stage should be.
    """
    if stage is not None and _names_campaign(stage, is_only=target is None):
        remedy = f"Name the campaign with -c: campaign {usage} -c {target or stage}"
        raise ConfigError(f"'{stage}' names a campaign, and a stage is asked for here", usage.partition(" ")[0], remedy)
    return locate(target)


def short(path: Path) -> str:
    """Return a path as a person here would type it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def _only_one(here: Path) -> Path:
    if _is_campaign(here):
        return here
    found = sorted({path.parent for pattern in (f"*/{_RECORD}", f"runs/*/{_RECORD}") for path in here.glob(pattern)})
    if not found:
        raise ConfigError("no campaign here", str(here), "Give its YAML file or its folder; `campaign run FILE` starts one.")
    if len(found) > 1:
        names = ", ".join(str(path.relative_to(here)) for path in found)
        raise ConfigError(f"{len(found)} campaigns here: {names}", str(here), "Name one of them.")
    return found[0]


def _is_campaign(folder: Path) -> bool:
    return (folder / _RECORD).is_file() or (folder / "journal").is_dir()


def _names_campaign(text: str, *, is_only: bool) -> bool:
    """Say whether a word is a campaign's file, for no stage's name has a dot, or, where nothing else names it, its folder."""
    path = Path(text)
    is_folder = is_only and os.path.isdir(text)  # noqa: PTH112 raises for no text, however long
    return path.suffix in (".yaml", ".yml") or (is_folder and _is_campaign(path))


def _folder_of(file: Path) -> Path:
    """Return the folder that a campaign file names, without the cost of checking the whole file."""
    fields: dict[str, Any] = read_document(file, "").fields
    template = str(fields.get("folder", "runs/{name}"))
    names = {"name": str(fields.get("name", ""))}
    try:
        text = template.format(**names)
    except (LookupError, ValueError, AttributeError, TypeError):  # a path of the site, or a fault that it tells
        from workflow.draft import load_campaign

        return load_campaign(file).folder
    return file.resolve().parent / Path(text).expanduser()
