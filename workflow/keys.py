"""What stands in a value whose type alone does not say it: for the manual, and for the JSON schema of editors.

These mark fields of the typed file, in `Annotated`. Values are checked elsewhere, with the nearest name in the error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

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
