"""In which order a site's job limits let a campaign's jobs go: rounds of jobs that can wait and run side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from workflow.site import Limit, Site


@dataclass(frozen=True)
class Wanted:
    """One batch job of a campaign.

    Attributes:
        name: For people: `search/egnn`, `train/1 2/3`.
        queue: Name of the queue that takes it.
        needs: Names of the jobs that must have ended before.
        walltime_s: Seconds at most.
    """

    name: str
    queue: str
    needs: tuple[str, ...]
    walltime_s: float = 0.0


@dataclass(frozen=True)
class Round:
    """Jobs that are let go together.

    Attributes:
        jobs: Their names, in the order of the file.
        waiting: Names of those that could go as well but for a limit.
        limit: The limit in words, where one holds jobs back.
    """

    jobs: tuple[str, ...]
    waiting: tuple[str, ...] = ()
    limit: str = ""


def rounds(site: Site, wanted: list[Wanted]) -> list[Round]:
    """Return the order of release, as if each job of a round took equally long.

    Args:
        site: Its limits bound how many jobs gain priority, run or stand in the queue at once.
        wanted: All jobs, needed ones before those that need them.
    """
    place = {job.name: number for number, job in enumerate(wanted)}
    waits = {job.name: set(job.needs) for job in wanted}
    follow: dict[str, list[Wanted]] = {}
    for job in wanted:
        for need in waits[job.name]:
            follow.setdefault(need, []).append(job)
    ready, result = [job for job in wanted if not job.needs], []
    while ready:
        chosen, reason = _allowed(site, ready)
        names = dict.fromkeys(job.name for job in chosen)
        held = [job for job in ready if job.name not in names]
        result.append(Round(tuple(names), tuple(job.name for job in held), reason if held else ""))
        ready = sorted([*held, *_freed(names, waits, follow)], key=lambda job: place[job.name])
    return result


def _freed(done: Iterable[str], waits: dict[str, set[str]], follow: dict[str, list[Wanted]]) -> Iterator[Wanted]:
    """Yield the jobs that now wait for none, and strike out what they no longer wait for."""
    for name in done:
        for job in follow.get(name, ()):
            waits[job.name].discard(name)
            if not waits[job.name]:
                yield job


def longest_s(wanted: list[Wanted]) -> float:
    """Return the seconds of the longest way through the jobs, if each takes its whole walltime and none waits for nodes."""
    ends: dict[str, float] = {}
    for job in wanted:
        ends[job.name] = max((ends[need] for need in job.needs), default=0.0) + job.walltime_s
    return max(ends.values(), default=0.0)


def _allowed(site: Site, ready: list[Wanted]) -> tuple[list[Wanted], str]:
    """Return the jobs that the limits let go at once, and the limit that holds others back."""
    counts: Counter[int] = Counter()
    chosen, reason = [], ""
    for job in ready:
        of_job = [(number, limit) for number, limit in enumerate(site.limits) if not limit.queues or job.queue in limit.queues]
        full = next((limit for number, limit in of_job if counts[number] >= _most(limit)), None)
        if full is not None:
            reason = reason or _in_words(full)
            continue
        counts.update(number for number, _ in of_job)
        chosen.append(job)
    return chosen, reason


def _most(limit: Limit) -> int:
    return min((each for each in (limit.running, limit.eligible, limit.submitted) if each is not None), default=10**9)


def _in_words(limit: Limit) -> str:
    kinds = {"run": limit.running, "gain priority": limit.eligible, "stand in the queue": limit.submitted}
    most = _most(limit)
    does = next(kind for kind, number in kinds.items() if number == most)
    of = f" in {', '.join(limit.queues)}" if limit.queues else ""
    return f"{most} jobs of a {limit.per} {does} at once{of}"
