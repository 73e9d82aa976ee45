"""Matbench tasks: gzip-compressed JSON of a DataFrame, `{"index", "columns", "data"}`, with pymatgen structures."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.data.readers._crystal import crystal
from model.data.readers._forward import span_of
from model.data.readers.base import attempt, reading, structure
from model.data.structure import Refused, Structure


@dataclass(frozen=True)
class Task:
    """One task of the benchmark.

    Attributes:
        name: What its ids begin with.
        digits: Figures of the number in an id; the first row is number 1.
        column: Name of the target.
        convert: Makes the target of the store of the published one.
    """

    name: str
    digits: int
    column: str
    convert: Callable[[Any], float]


def count(path: Path, task: Task) -> int:
    """Return the number of rows."""
    with reading(path):
        return sum(1 for _ in _rows(path, task))


def read(path: Path, task: Task, span: range | None) -> Iterator[Structure | Refused]:
    """Yield the rows of a span; ids are the benchmark's own, by the published order that its folds refer to."""
    with reading(path):
        for number, (record, target) in span_of(path, task, span, lambda: enumerate(_rows(path, task), 1)):
            yield attempt(f"{task.name}-{number:0{task.digits}d}", _structure, record, target, task)


def _rows(path: Path, task: Task) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yield structure and target of each row, one in memory at a time.

    Raises:
        ValueError: No such columns.
    """
    import ijson

    with gzip.open(path, "rb") as file:
        columns = list(ijson.items(file, "columns.item"))
    if not {"structure", task.column} <= set(columns):
        raise ValueError(f"columns {', '.join(map(str, columns)) or 'none'} instead of structure and {task.column}")
    places = columns.index("structure"), columns.index(task.column)
    with gzip.open(path, "rb") as file:
        for row in ijson.items(file, "data.item", use_float=True):
            yield row[places[0]], row[places[1]]


def _structure(name: str, record: dict[str, Any], target: Any, task: Task) -> Structure:
    numbers, positions, box = crystal(record)
    return structure(numbers, positions, {"target": task.convert(target)}, box=box, names=(name, None))
