"""Run many histories, in several processes, and add up what they showed."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from seeds.checker import broken
from seeds.world import World

_COLLECTED_AFTER = 25
_MEMORY = Path("/dev/shm")  # noqa: S108 files that live for milliseconds


@dataclass
class Summary:
    """What some histories showed.

    Attributes:
        seeds: How many there were.
        broken: Promises broken, by seed.
        rows: How often each row of the protocol's table decided.
        faults: How often each fault came to pass.
        points: How often a driver died at each point.
        jobs: Jobs accepted.
        duplicated: Links that two executions had effect on, or agents that began twice.
        lost: Jobs, or units of finished work, that were lost.
    """

    seeds: int = 0
    broken: dict[int, list[str]] = field(default_factory=dict)
    rows: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    points: Counter[str] = field(default_factory=Counter)
    jobs: int = 0

    @property
    def duplicated(self) -> int:
        return sum(line.startswith("R1 ") for lines in self.broken.values() for line in lines)

    @property
    def lost(self) -> int:
        return sum(line.startswith(("R2 ", "R3 ")) for lines in self.broken.values() for line in lines)

    def add(self, other: Summary) -> None:
        """Take another summary in."""
        self.seeds += other.seeds
        self.jobs += other.jobs
        self.broken |= other.broken
        for mine, theirs in ((self.rows, other.rows), (self.faults, other.faults), (self.points, other.points)):
            mine.update(theirs)


def run_seed(seed: int, base: Path, storm: Sequence[str] = ()) -> Summary:
    """Live through one history and check it."""
    world = World(seed, base, storm)
    world.run()
    found = broken(world)
    shutil.rmtree(world.folder, ignore_errors=True)
    return Summary(1, {seed: found} if found else {}, world.rows, world.weather.hits, world.points, len(world.truth.jobs))


def run_seeds(
    first: int, count: int, *, storm: Sequence[str] = (), until: Callable[[Summary], bool] = lambda _: False
) -> Summary:
    """Live through some histories, one after another, in this process.

    Args:
        first: The first seed.
        count: How many.
        storm: Faults that each has in any case.
        until: Stop when this holds of what was seen so far.
    """
    total = Summary()
    with _folder() as base, _collecting_seldom() as collect:
        for seed in range(first, first + count):
            total.add(run_seed(seed, base, storm))
            if until(total):
                break
            if total.seeds % _COLLECTED_AFTER == 0:
                collect()
    return total


def run_in_processes(first: int, count: int, processes: int, tell: Callable[[Summary], None] = lambda _: None) -> Summary:
    """Live through many histories in several processes."""
    total, part = Summary(), max(1, min(250, count // (4 * processes)))
    with ProcessPoolExecutor(processes) as pool:
        starts = range(first, first + count, part)
        for summary in pool.map(run_seeds, starts, [min(part, first + count - start) for start in starts]):
            total.add(summary)
            tell(total)
    return total


@contextlib.contextmanager
def _collecting_seldom() -> Iterator[Callable[[], object]]:
    """Collect garbage when told to only: until a history is over nearly all that it has made is in use."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield gc.collect
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    parent = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="campaign-seeds-", dir=parent) as name:
        yield Path(name)
