"""What a conversion will do: spans of source files, each one shard; the same list whatever the ranks."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.config import ConvertConfig
from model.data import sources
from model.data.readers.base import Reader, info_of
from model.data.sources import Source
from model.data.store import FORMAT
from model.outcome import CampaignError, read_json, write_json
from model.owner import require_commit
from model.parallel import Ranks
from model.progress import Progress
from model.specs import Strict

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
        sources: What is known of each file; None for a damaged one.
        stamps: Size and times of each file as its records were counted.
        spans: Spans in order of file and record.
        damaged: Files that could not be counted, as errors; the others are converted all the same.
    """

    files: tuple[Path, ...]
    sources: tuple[Source | None, ...]
    stamps: tuple[tuple[int, int, int], ...]
    spans: tuple[Span, ...]
    damaged: tuple[CampaignError, ...]

    def origin(self, span: Span) -> dict[str, Any]:
        """Return where a span comes from; a shard made from anything else is stale."""
        return {**self.source(span).origin, "start": span.start, "stop": span.stop}

    def source(self, span: Span) -> Source:
        """Return what is known of the file of a span, which is not damaged."""
        source = self.sources[span.file]
        assert source is not None
        return source

    @property
    def records(self) -> int:
        """Return the number of records over all spans."""
        return sum(s.stop - s.start for s in self.spans)


def make(
    config: ConvertConfig, job: tuple[Reader, Strict, Path], files: Sequence[Path], ranks: Ranks, progress: Progress
) -> Plan:
    """Hash the files and count their records, the ranks dividing the files, and cut them into spans.

    Args:
        config: What to convert.
        job: The reader, its options, and the folder of the store.
        files: The reader's.
        ranks: All of them.
        progress: Told after each file.
    """
    reader, options, store = job
    mine, found = ranks.share_of(len(files)), []
    for number, k in enumerate(mine):
        require_commit(config.owner)
        note = store / sources.FOLDER / f"{k:05d}.json"
        found.append((sources.stamp(files[k]), sources.examine(files[k], label(files[k], config.sources), reader, options, note)))
        progress.update("look at sources", number + 1, len(mine), "files")
    stamps, known = zip(*(each for part in ranks.allgather(found) for each in part), strict=True)
    damaged = tuple(each for each in known if isinstance(each, CampaignError))
    sound = tuple(each if isinstance(each, Source) else None for each in known)
    spans = _spans([0 if each is None else each.records for each in sound], config.shard, config.limit)
    return Plan(tuple(files), sound, stamps, tuple(spans), damaged)


def shared_out(spans: Sequence[Span], is_forward: Callable[[int], bool], size: int) -> list[list[Span]]:
    """Divide spans over ranks, by records: the largest work first, to the rank with least so far.

    The spans of a file that can only be read from its beginning stay together: each rank would read all before its own.

    Args:
        spans: What is left to convert, in order.
        is_forward: Whether that holds for a file, by its number.
        size: Number of ranks.

    Returns:
        For each rank its spans, in their order.
    """
    works: list[list[Span]] = []
    for span in spans:
        if works and works[-1][0].file == span.file and is_forward(span.file):
            works[-1].append(span)
        else:
            works.append([span])
    shares: list[list[Span]] = [[] for _ in range(size)]
    filled = [(0, rank) for rank in range(size)]
    for work in sorted(works, key=lambda each: -sum(span.stop - span.start for span in each)):
        records, rank = filled[0]
        shares[rank] += work
        heapq.heapreplace(filled, (records + sum(span.stop - span.start for span in work), rank))
    return [sorted(share, key=lambda span: (span.file, span.part)) for share in shares]


def pin(store: Path, config: ConvertConfig, reader: Reader, options: Strict) -> None:
    """Write down what is converted and how, or compare it with what an interrupted conversion left.

    Raises:
        CampaignError: The store holds another conversion.
    """
    wanted = {
        "format": FORMAT,
        "name": config.name,
        "reader": {**config.reader, **options.model_dump(mode="json")},
        "reader_version": info_of(reader, options).version,
        "shard": config.shard,
        "storage": config.storage.model_dump(),
        "splits": config.splits.model_dump(),
    }
    found = read_json(store / PLAN)
    if found is None:
        write_json(store / PLAN, wanted)
    elif found != wanted:
        differing = ", ".join(sorted(k for k in {*found, *wanted} if found.get(k) != wanted.get(k)))
        what = f"holds another conversion (different: {differing})"
        raise CampaignError(what, str(store), "Give another folder, or remove it.")


def _spans(counts: Sequence[int], size: int, limit: int | None) -> list[Span]:
    spans: list[Span] = []
    left = sum(counts) if limit is None else limit
    for file, count in enumerate(counts):
        usable = min(count, left)
        left -= usable
        starts = range(0, usable, size)
        spans.extend(Span(file, part, start, min(start + size, usable)) for part, start in enumerate(starts))
    return spans


def label(path: Path, sources: Sequence[Path]) -> str:
    """Return the name of a source file in the store: relative to the folder that was given."""
    for root in sources:
        if root.is_dir() and path.is_relative_to(root):
            return path.relative_to(root).as_posix()
    return path.name
