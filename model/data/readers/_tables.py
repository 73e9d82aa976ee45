"""Tables that name materials, and beside them the structures as REST services answer for these names."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from model.data.readers._crystal import Crystal
from model.data.readers.base import find, reading, structure
from model.data.structure import Refused, Structure
from model.outcome import CampaignError

Structures = dict[str, Crystal | str]
"""By the material's name: its crystal, or why it has none."""


def files(paths: Sequence[Path], table: str, structures: str, remedy: str) -> list[Path]:
    """Return the tables, each with its structures beside it.

    Raises:
        CampaignError: No table; or no structures, with a remedy that says where they are.
    """
    found = find(paths, (table,))
    for path in found:
        beside = path.with_name(structures)
        if not beside.is_file():
            raise CampaignError(f"{path.name} names materials only; their structures are missing", str(beside), remedy)
    return found


def rows(path: Path, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Yield the rows of a csv file; a header's unit, `energy (eV)`, belongs to its name, blanks around it do not.

    Raises:
        ValueError: A column is missing, a row has another number of them, or the last line is cut.
    """
    with path.open(newline="", encoding="utf-8") as file:
        table = csv.reader(_whole(file))
        header = [name.strip() for name in next(table, [])]
        missing = [column for column in columns if column not in header]
        if missing:
            raise ValueError(f"no column {' and no '.join(missing)}")
        for row in table:
            if len(row) != len(header):
                raise ValueError(f"line {table.line_num} has {len(row)} of {len(header)} columns")
            yield dict(zip(header, row, strict=True))


def structures(path: Path, key: str, make: Callable[[dict[str, Any]], Crystal]) -> Structures:
    """Return the crystals of a JSON file of answers by their names.

    Args:
        path: One answer, `{"data": [record, …]}`, a list of answers, or a list of records.
        key: What names a record.
        make: Makes a crystal of a record.

    Raises:
        CampaignError: No such JSON; names it.
    """
    found: Structures = {}
    with reading(path):
        for record in _records(path):
            try:
                found[str(record[key])] = make(record)
            except (KeyError, TypeError, ValueError, IndexError) as error:
                found[str(record[key])] = f"no structure can be made of the answer ({type(error).__name__}: {error})"
        if not found:
            raise ValueError("no records")
    return found


def labelled(name: str, target: str, found: Structures) -> Structure | Refused:
    """Return the structure of a row with its target, or why there is none."""
    crystal = found.get(name, "no answer for it among the structures: withdrawn since?")
    if isinstance(crystal, str):
        return Refused(name, crystal)
    if target.strip().lower() in ("", "nan", "none"):
        return Refused(name, "no target")
    numbers, positions, box = crystal
    return structure(numbers, positions, {"target": float(target)}, box=box, names=(name, None))


def _records(path: Path) -> Iterator[dict[str, Any]]:
    import ijson

    with path.open("rb") as file:
        start = file.read(64).lstrip()[:1]
        file.seek(0)
        if start == b"{":
            yield from ijson.items(file, "data.item", use_float=True)
            return
        for part in ijson.items(file, "item", use_float=True):
            yield from part.get("data", [part])


def _whole(lines: Iterator[str]) -> Iterator[str]:
    line = "\n"
    for line in lines:
        yield line
    if not line.endswith("\n"):
        raise ValueError(f"ends within a line: {line[:60]}")
