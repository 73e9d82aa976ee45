"""Files that can only be read from the front: ascending spans of one file are a single pass over it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

Record = TypeVar("Record")


@dataclass
class _Place:
    """Where the last span ended.

    Attributes:
        file: Path, size, time of change, and how it is read.
        position: Number of the next record.
        records: What yields it; holds the file open.
    """

    file: tuple[Any, ...]
    position: int
    records: Iterator[Any]


_last: list[_Place] = []


def span_of(path: Path, how: Any, span: range | None, records: Callable[[], Iterator[Record]]) -> Iterator[Record]:
    """Yield the records of a span (all without one); goes on where the span read last in this process ended.

    Without that, the shards of a file of n spans would cost n²/2 readings of a span.

    Args:
        path: The file; one that has changed is read from the front.
        how: Options that change what a record is.
        span: Records wanted.
        records: Opens the file and yields all its records from the first on.
    """
    if span is None:
        yield from records()
        return
    status = path.stat()
    file = (path, status.st_size, status.st_mtime_ns, how)
    place = _last.pop() if _last else None
    if place is None or place.file != file or place.position > span.start:
        place = _Place(file, 0, records())
    for _ in itertools.islice(place.records, span.start - place.position):
        pass
    yield from itertools.islice(place.records, len(span))
    _last[:] = [_Place(file, span.stop, place.records)]
