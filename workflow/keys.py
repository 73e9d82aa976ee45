"""What stands in a value whose type alone does not say it: for the manual, and for the JSON schema of editors.

These mark fields of the typed file, in `Annotated`. Values are checked elsewhere, with the nearest name in the error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, get_args

from pydantic import BaseModel


@dataclass(frozen=True)
class KeysOf:
    """A mapping whose keys are those of a typed record, each of them optional.

    Attributes:
        record: The record.
        without: Keys of it that are set elsewhere.
    """

    record: type[BaseModel]
    without: frozenset[str] = field(default=frozenset())


@dataclass(frozen=True)
class NameOf:
    """A plug-in by name.

    Attributes:
        noun: What is named: `reader`, `backbone`.
        known: Lists the names.
        options: Gives the options of one, as a typed record, where the value may be a mapping of `name` and options.
    """

    noun: str
    known: Callable[[], list[str]]
    options: Callable[[str], type[BaseModel]] | None = None


@dataclass(frozen=True)
class OptionsOf:
    """A mapping whose keys are the options of the plug-in that a key beside it names.

    Attributes:
        key: The key beside it.
        known: Lists the plug-ins' names.
        options: Gives the options of one, as a typed record.
    """

    key: str
    known: Callable[[], list[str]]
    options: Callable[[str], type[BaseModel]]


@dataclass(frozen=True)
class SpaceOf(OptionsOf):
    """A mapping of what a search varies: options of the plug-in that a key beside it names, and names that all share.

    Attributes:
        shared: These names.
    """

    shared: tuple[str, ...] = ()


def records_of(record: type[BaseModel]) -> list[type[BaseModel]]:
    """Return a record and every typed record that may stand below it, marked mappings included."""
    found = [record]
    for each in found:  # grows on the way
        for info in each.model_fields.values():
            inner = [*_records_in(info.annotation), *(mark.record for mark in info.metadata if isinstance(mark, KeysOf))]
            found.extend(kind for kind in dict.fromkeys(inner) if kind not in found)
    return found


def _records_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [record for inner in get_args(annotation) for record in _records_in(inner)]
