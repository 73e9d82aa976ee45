"""What a conversion will do: spans of source files, each one shard; the same list whatever the ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.config import ConvertConfig, Strict
from model.data.readers.base import Reader
from model.data.store import FORMAT
from model.outcome import CampaignError, read_json, write_json
from model.parallel import Ranks

PLAN = "plan.json"


@dataclass(frozen=True)
class Span:
    """Records of one file that become one shard.

    Attributes:
        file: Index of the source file.
        part: Number of the span within its file.
        start: First record.
        stop: Record after the last one.
    """

    file: int
    part: int
    start: int
    stop: int

    @property
    def name(self) -> str:
        """Return the shard's name, which no other file's fate can change."""
        return f"{self.file:05d}-{self.part:06d}"


@dataclass(frozen=True)
class Plan:
    """All spans of a conversion.

    Attributes:
        files: Source files, in order.
        labels: Name of each file in records: relative to the folder that was given.
        sizes: Size of each file in bytes.
        spans: Spans in order of file and record.
        damaged: Files that could not be counted, as errors; the others are converted all the same.
    """

    files: tuple[Path, ...]
    labels: tuple[str, ...]
    sizes: tuple[int, ...]
    spans: tuple[Span, ...]
    damaged: tuple[CampaignError, ...]

    def origin(self, span: Span) -> dict[str, Any]:
        """Return where a span comes from; a shard made from anything else is stale."""
        return {"file": self.labels[span.file], "size": self.sizes[span.file], "start": span.start, "stop": span.stop}

    @property
    def records(self) -> int:
        """Return the number of records over all spans."""
        return sum(s.stop - s.start for s in self.spans)


def make(config: ConvertConfig, reader: Reader, options: Strict, ranks: Ranks) -> Plan:
    """Count the records of all files, the ranks dividing the files, and cut them into spans."""
    files = reader.files(config.sources, options)
    counted = [_count(files[k], reader, options) for k in ranks.share_of(len(files))]
    counts = [count for part in ranks.allgather(counted) for count in part]
    damaged = tuple(c for c in counts if isinstance(c, CampaignError))
    spans = _spans([c if isinstance(c, int) else 0 for c in counts], config.shard, config.limit)
    labels = tuple(_label(path, config.sources) for path in files)
    return Plan(tuple(files), labels, tuple(path.stat().st_size for path in files), tuple(spans), damaged)


def pin(store: Path, config: ConvertConfig, options: Strict) -> None:
    """Write down what is converted and how, or compare it with what an interrupted conversion left.

    Raises:
        CampaignError: The store holds another conversion.
    """
    wanted = {
        "format": FORMAT,
        "name": config.name,
        "reader": {**config.reader, **options.model_dump(mode="json")},
        "shard": config.shard,
        "splits": config.splits.model_dump(),
    }
    found = read_json(store / PLAN)
    if found is None:
        write_json(store / PLAN, wanted)
    elif found != wanted:
        differing = ", ".join(sorted(k for k in {*found, *wanted} if found.get(k) != wanted.get(k)))
        what = f"holds another conversion (different: {differing})"
        raise CampaignError(what, str(store), "Give another folder, or remove it.")


def _count(path: Path, reader: Reader, options: Strict) -> int | CampaignError:
    try:
        return reader.count(path, options)
    except CampaignError as error:
        return error


def _spans(counts: Sequence[int], size: int, limit: int | None) -> list[Span]:
    spans: list[Span] = []
    left = sum(counts) if limit is None else limit
    for file, count in enumerate(counts):
        usable = min(count, left)
        left -= usable
        starts = range(0, usable, size)
        spans.extend(Span(file, part, start, min(start + size, usable)) for part, start in enumerate(starts))
    return spans


def _label(path: Path, sources: Sequence[Path]) -> str:
    for root in sources:
        if root.is_dir() and path.is_relative_to(root):
            return path.relative_to(root).as_posix()
    return path.name
