"""Say what pydantic refused in the user's words: key, what was found, what is allowed, the nearest key."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from workflow.document import Key

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "path_type": "a path",
}


@dataclass(frozen=True)
class Fault:
    """One thing that a typed record refuses.

    Attributes:
        what: What was found.
        key: Its way from the top of the record.
        remedy: What is allowed.
    """

    what: str
    key: Key
    remedy: str


def validate(kind: type[BaseModel], fields: Any) -> tuple[Any | None, list[Fault]]:
    """Return the typed record and no fault, or None and every fault."""
    try:
        return kind.model_validate(fields), []
    except ValidationError as error:
        return None, _faults(error, kind, fields)


def nearest(name: str, known: list[str]) -> str:
    """Return a sentence that offers the nearest known name, or an empty text."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"Did you mean '{close[0]}'? " if close else ""


def _faults(error: ValidationError, kind: type[BaseModel], fields: Any) -> list[Fault]:
    found: dict[Key, list[Any]] = {}
    for each in error.errors():
        found.setdefault(_key(each, fields), []).append(each)
    meant = {near for key, group in found.items() if (near := _misspelt(key, group[0], kind))}
    kept = {key: group for key, group in found.items() if not (group[0]["type"] == "missing" and key in meant)}
    return [_fault(key, group, kind) for key, group in kept.items()]


def _key(each: Any, fields: Any) -> Key:
    """Leave out of pydantic's location the names of a union's members, which are no keys of the file."""
    key: list[str] = []
    value = fields
    for part in each["loc"]:
        in_list = isinstance(value, list | tuple) and isinstance(part, int) and part < len(value)
        if in_list or (isinstance(value, dict) and part in value):
            value = value[part]
        elif each["type"] != "missing" or part != each["loc"][-1]:
            continue
        key.append(str(part))
    return tuple(key)


def _misspelt(key: Key, each: Any, kind: type[BaseModel]) -> Key | None:
    """Return the key that an unknown one is nearest to."""
    if each["type"] != "extra_forbidden":
        return None
    close = difflib.get_close_matches(key[-1], _known(kind, key[:-1]), n=1, cutoff=0.6)
    return (*key[:-1], close[0]) if close else None


def _fault(key: Key, group: list[Any], kind: type[BaseModel]) -> Fault:
    first = group[0]
    if first["type"] == "extra_forbidden":
        known = _known(kind, key[:-1])
        if key[-1].lower() == "true" and "on" in known:
            return Fault(f"no key '{key[-1]}' here", key, "Write `on:` again; a program of YAML 1.1 took that for true.")
        return Fault(f"no key '{key[-1]}' here", key, f"{nearest(key[-1], known)}Keys here: {', '.join(known)}.")
    about = _description(kind, key)
    if first["type"] == "missing":
        return Fault(f"'{key[-1]}' is missing", key, f"Add it. {about}".strip())
    if first["type"] == "string_type" and isinstance(first["input"], int) and len(group) == 1:
        what = f"found the number {first['input']} where text is needed"
        return Fault(what, key, f"Put it in quotes. {about}".strip())
    return Fault(_what(group), key, about or "Give another value.")


def _what(group: list[Any]) -> str:
    first = group[0]
    expected = list(dict.fromkeys(_EXPECTED[each["type"]] for each in group if each["type"] in _EXPECTED))
    if expected:
        return f"found {_shown(first['input'])} where {' or '.join(expected)} is needed"
    if first["type"] == "literal_error":
        allowed = first["ctx"]["expected"]
        return f"found {_shown(first['input'])}, allowed: {allowed}"
    if first["type"] == "string_pattern_mismatch":
        return f"found {_shown(first['input'])}, which does not fit"
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    must = first["msg"].replace("Input should be", "it must be").replace("String should", "it must")
    return f"found {_shown(first['input'])}; {must}"


def _shown(value: Any) -> str:
    text = f"'{value}'" if isinstance(value, str) else "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _description(kind: type[BaseModel], key: Key) -> str:
    """Return the description of the nearest described field at or above a key."""
    for end in range(len(key), 0, -1):
        for record in _records(kind, key[: end - 1]):
            field = record.model_fields.get(key[end - 1])
            if field is not None and field.description:
                return f"{key[end - 1]}: {field.description}"
    return ""


def _known(kind: type[BaseModel], key: Key) -> list[str]:
    return sorted({name for record in _records(kind, key) for name in record.model_fields})


def _records(kind: type[BaseModel], key: Key) -> list[type[BaseModel]]:
    """Return the record types that may stand at a key."""
    here: list[Any] = [kind]
    for part in key:
        here = [inner for each in here for inner in _step(each, part)]
    return [each for each in here if isinstance(each, type) and issubclass(each, BaseModel)]


def _step(annotation: Any, part: str) -> Iterator[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field: FieldInfo | None = annotation.model_fields.get(part)
        if field is not None:
            yield from _members(field.annotation)
    elif get_origin(annotation) is dict:
        yield from _members(get_args(annotation)[1])
    elif get_origin(annotation) in (tuple, list) and get_args(annotation):
        yield from _members(get_args(annotation)[0])


def _members(annotation: Any) -> list[Any]:
    if get_origin(annotation) in (Union, types.UnionType):
        return [inner for each in get_args(annotation) for inner in _members(each)]
    return [annotation]
