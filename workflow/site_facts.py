"""What stands behind each figure of a site file: the facility's manual, nothing yet, or a test of this user's."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from model.outcome import read_json, write_json
from workflow.document import read_document
from workflow.site import Site, overlay_path

OF_OVERLAY = "from your overlay"
FORM = 2
"""Of what a test leaves; earlier ones marked whole queues and environments, of which they had tried a little."""
_LISTS = ("queues", "limits")
_COUNTS = ("running", "eligible", "submitted")
_NO_FIGURES = ("name", "description", "sources", "unverified", "paths", "account")


@dataclass(frozen=True)
class Figure:
    """One value of a site file.

    Attributes:
        key: Dotted key.
        value: The value.
        source: Who says so; empty where nobody does.
        unverified: How to find out, where no manual at hand confirms it.
        tested: When and with what result this user's last test touched it.
        is_own: Whether the user's overlay states it, so that no manual speaks for it.
    """

    key: str
    value: Any
    source: str
    unverified: str
    tested: str
    is_own: bool = False

    @property
    def mark(self) -> str:
        """Return one word for where it stands."""
        if self.tested:
            return "tested" if self.tested.startswith("ok") else "FAILED"
        if self.is_own:
            return "yours"
        return "unverified" if self.unverified else "source" if self.source else ""


def figures(site: Site) -> list[Figure]:
    """Return every figure that a site file states, the user's own among them."""
    stated = site.model_dump(mode="json", exclude_unset=True)
    tests, own = _tests(site.name), _own_keys(site.name)
    rows = []
    for key, value, said in _stated(stated):
        text, how = standing(site, key)
        is_own = key in own
        of = (OF_OVERLAY, "") if is_own else (said or text, how)
        rows.append(Figure(key, value, *of, nearest_entry(tests, key)[1], is_own))
    return rows


def standing(site: Site, key: str) -> tuple[str, str]:
    """Return who says a figure, and how to find out where no manual at hand does.

    The longer key speaks: `environment` may have a source, and one variable of it none.
    """
    source, unverified = nearest_entry(site.sources, key), nearest_entry(site.unverified, key)
    return source[1], "" if len(source[0]) > len(unverified[0]) else unverified[1]


def limit_key(queues: Iterable[str]) -> str:
    """Return the key of a limit: by the names of its queues, for it has none of its own."""
    return f"limits.{'+'.join(queues) or 'all'}"


def nearest_entry(entries: dict[str, str], key: str) -> tuple[str, str]:
    """Return the entry of the longest key that is this one or above it, and that key; empty texts where there is none."""
    parts = key.split(".")
    for end in range(len(parts), 0, -1):
        name = ".".join(parts[:end])
        if name in entries:
            return name, entries[name]
    return "", ""


def tested_path(name: str) -> Path:
    """Return where the result of a user's last test of a site is kept, beside the overlay."""
    return overlay_path(name).with_suffix(".tested.json")


def keep_test(name: str, result: dict[str, Any]) -> Path:
    """Write down what a test has found, for `campaign sites show`."""
    path = tested_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {**result, "form": FORM, "date": datetime.now(UTC).strftime("%Y-%m-%d"), "user": os.environ.get("USER", "")})
    return path


def _own_keys(name: str) -> set[str]:
    path = overlay_path(name)
    return {key for key, *_ in _stated(read_document(path, "", may_be_empty=True).fields)} if path.is_file() else set()


def _tests(name: str) -> dict[str, str]:
    found = read_json(tested_path(name)) or {}
    if found.get("form") != FORM:
        return {}
    verdicts: dict[str, str] = {}
    for check in found.get("checks", []):
        for key in check["verifies"]:
            word = "ok" if check["ok"] else "failed"
            if not verdicts.get(key, "").startswith("failed"):
                verdicts[key] = f"{word} {found['date']}: {check['seen']}"
    return verdicts


def _stated(fields: dict[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """Yield key, value, and source where it stands beside: of each queue, what it is called, and each number of a limit."""
    for key, value in _leaves({name: each for name, each in fields.items() if name not in (*_NO_FIGURES, *_LISTS)}):
        yield key, value, ""
    for queue in fields.get("queues", ()):
        key, source = f"queues.{queue['name']}", queue.get("source", "")
        yield key, {name: each for name, each in queue.items() if name not in ("name", "options", "source")}, source
        yield f"{key}.options", queue.get("options", {}), source
    for limit in fields.get("limits", ()):
        of_project = " for each project" if limit.get("per") == "project" else ""
        for kind in _COUNTS:
            if limit.get(kind) is not None:
                yield f"{limit_key(limit.get('queues', ()))}.{kind}", f"{limit[kind]:,}{of_project}", limit.get("source", "")


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, each in value.items():
            yield from _leaves(each, f"{key}.{name}" if key else str(name))
    else:
        yield key, value
