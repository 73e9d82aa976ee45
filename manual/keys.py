"""Typed records as tables: key, what it takes, unit, default, meaning."""

from __future__ import annotations

import re
import types
from collections.abc import Iterable
from typing import Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from workflow.keys import KeysOf, NameOf, OptionsOf, SpaceOf

UNITS = {
    ("ModelSpec", "cutoff"): "Å",
    ("LossSpec", "energy"): "per eV/atom",
    ("LossSpec", "forces"): "per eV/Å",
    ("StageSpec", "walltime"): "HH:MM[:SS]",
    ("Budget", "node_hours"): "node-hours",
}
"""Units that stand neither in a key's name nor alone for the whole type."""
_SUFFIXES = {"_s": "s", "_h": "h", "_gb": "GB", "_nodes": "nodes"}
_WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false", Any: "any value", dict: "mapping"}
_BOUNDS = (
    (annotated_types.Ge, "ge", "≥"),
    (annotated_types.Gt, "gt", ">"),
    (annotated_types.Le, "le", "≤"),
    (annotated_types.Lt, "lt", "<"),
)
Links = dict[Any, str]
"""Where a record, or a kind of name, is described."""


def table(record: type[BaseModel], links: Links, *, without: Iterable[str] = (), searched: dict[str, str] | None = None) -> str:
    """Return the keys of a record as a Markdown table.

    Args:
        record: The record.
        links: Where records that stand inside are described.
        without: Keys to leave out.
        searched: A further column: the range that a search draws each key from.
    """
    left = {key: info for key, info in record.model_fields.items() if key not in set(without)}
    if not left:
        return "No keys of its own.\n"
    more = ([" searched by default |"], ["---|"]) if searched is not None else ([], [])
    head = ["".join(["| key | takes | unit | default | meaning |", *more[0]]), "".join(["|---|---|---|---|---|", *more[1]])]
    rows = [
        _row(record, key, info, links) + (f" {searched.get(key, '')} |" if searched is not None else "")
        for key, info in left.items()
    ]
    return "\n".join([*head, *rows]) + "\n"


def takes(annotation: Any, links: Links, bounds: str = "") -> str:
    """Return a type in words, records as links to their tables."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        parts = [takes(each, links, bounds) for each in inner if each is not type(None)]
        return " or ".join(dict.fromkeys([*parts, *(["nothing"] if type(None) in inner else [])]))
    if origin is Literal:
        return " \\| ".join(f"`{each}`" for each in inner)
    if origin in (tuple, list):
        return f"list of {takes(inner[0], links)}"
    if origin is dict:
        return f"mapping of names to {takes(inner[1], links)}" if _is_record(inner[1]) else "mapping"
    if hasattr(annotation, "__metadata__"):
        return takes(inner[0], links, bounds)
    if _is_record(annotation):
        return f"[keys]({links[annotation]})" if annotation in links else "mapping"
    return _WORDS.get(annotation, getattr(annotation, "__name__", str(annotation)).lower()) + bounds


def _row(record: type[BaseModel], key: str, info: FieldInfo, links: Links) -> str:
    cells = [f"`{key}`", _takes(info, links), unit(record, key), _default(info), _meaning(info)]
    return "| " + " | ".join(cells) + " |"


def _takes(info: FieldInfo, links: Links) -> str:
    for mark in info.metadata:
        if isinstance(mark, KeysOf):
            less = f" but {', '.join(f'`{each}`' for each in sorted(mark.without))}" if len(mark.without) == 1 else ""
            return f"[keys]({links[mark.record]}){less}"
        if isinstance(mark, SpaceOf):
            return f"mapping of names to [ranges]({links['range']}) or values"
        if isinstance(mark, OptionsOf):
            return f"[options]({links[mark.key]}) of the {mark.key}"
        if isinstance(mark, NameOf):
            name = f"[{mark.noun}]({links[mark.noun]})"
            return name if mark.options is None else f"{name}, or mapping of `name` and its options"
    found = [
        f"{sign} {getattr(mark, name):g}" for mark in info.metadata for kind, name, sign in _BOUNDS if isinstance(mark, kind)
    ]
    return takes(info.annotation, links, "".join(f", {each}" for each in found))


def unit(record: type[BaseModel], key: str) -> str:
    """Return the unit of a key, out of its name or of `UNITS`; empty for what has none."""
    stated = next((UNITS[base.__name__, key] for base in record.__mro__ if (base.__name__, key) in UNITS), "")
    return stated or next((each for suffix, each in _SUFFIXES.items() if re.search(f"{suffix}$", key)), "")


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "**needed**"
    value = info.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return ""
    if value is None or value in ((), {}, ""):
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _meaning(info: FieldInfo) -> str:
    text = info.description or ""
    if not text and _is_record(info.annotation):
        text = (info.annotation.__doc__ or "").partition("\n")[0]  # type: ignore[union-attr]
    return text.replace("|", "\\|")


def _is_record(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
