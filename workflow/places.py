"""Where a campaign's data and folder lie: names in braces, filled in from the site."""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter

from workflow.document import Document
from workflow.errors import ConfigError
from workflow.site import overlay_told

_PLAIN = re.compile(r"(?<!{){(\w+)}(?!})")


def fill(text: str, names: dict[str, str], where: str, site: str) -> str:
    """Fill `{name}` in a path.

    Args:
        text: The path.
        names: What may stand in braces.
        where: The key of the path.
        site: Name of the site whose paths these are.

    Raises:
        ConfigError: A name is not among the site's paths.
    """
    try:
        for _, name, form, conversion in Formatter().parse(text):
            if name is not None and (name not in names or form or conversion):
                raise KeyError(name)  # also of `{name:>9999999999}`, which would fill the memory
        return text.format(**names)
    except (LookupError, ValueError) as error:
        known = ", ".join(sorted(names)) or "none"
        what = f"'{text}' names a path that the site does not have ({error})"
        raise ConfigError(what, where, f"Put it under `paths:` in {overlay_told(site)}. Known: {known}.") from error


def unknown_names(path: str | tuple[str, ...], names: dict[str, str]) -> list[str]:
    """Return the plain names in braces, of one path or several, that a site's paths do not have."""
    texts = (path,) if isinstance(path, str) else path
    return list(dict.fromkeys(name for text in texts for name in _PLAIN.findall(text) if name not in names))


def campaign_folder(document: Document, folder: str, names: dict[str, str], site: str) -> Path:
    """Return the folder of a campaign, absolute; a relative one is taken from the file's.

    Raises:
        ConfigError: A name in braces is not known, or something else than a folder stands there.
    """
    text = fill(folder, names, document.where(("folder",)), site)
    remedy = "Name one that is, or that can be made."
    try:
        path = (document.path.resolve().parent / Path(text).expanduser()).resolve()
        if path.exists() and not path.is_dir():
            raise document.fault(f"{path} is no folder", ("folder",), remedy)
    except (ValueError, OSError, RuntimeError) as error:
        raise document.fault(
            f"{text[:80]!r} is no folder ({getattr(error, 'strerror', None) or error})", ("folder",), remedy
        ) from error
    return path
