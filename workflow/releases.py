"""In which order a site's job limits let a campaign's jobs go, and how long all of it takes on the site's nodes at best."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from workflow.site import Limit, Site
from workflow.site_facts import figures, limit_key

Kind = Literal["submitted", "eligible", "running"]
_DOES: dict[Kind, str] = {"submitted": "stand in the queue", "eligible": "gain priority", "running": "run"}
_NODES = "the nodes are taken"


@dataclass(frozen=True)
class Wanted:
    """One batch job of a campaign.

    Attributes:
        name: For people: `search/egnn`, `train/1 2/3`.
        queue: Name of the queue that takes it.
        needs: Names of the jobs that must have ended before.
        walltime_s: Seconds at most.
        nodes: Nodes that it takes.
        ahead: Whether it is handed in together with the job that it needs, as links of a chain are.
    """

    name: str
    queue: str
    needs: tuple[str, ...]
    walltime_s: float = 0.0
    nodes: int = 0
    ahead: bool = False


@dataclass(frozen=True)
class Round:
    """Jobs that are let go together.

    Attributes:
        jobs: Their names, in the order of the file.
        waiting: Names of those that could go, or of a chain be handed in, but for a limit.
        limit: The limit in words, where one holds jobs back.
    """

    jobs: tuple[str, ...]
    waiting: tuple[str, ...] = ()
    limit: str = ""


def rounds(site: Site, wanted: list[Wanted]) -> list[Round]:
    """Return the order of release, as if nodes were never short and all jobs took equally long.

    Jobs of one round gain priority together. The next round follows when they have started, where only their waiting held
    it back; when jobs have ended, where it needs these or their places.

    Args:
        site: Its limits bound how many jobs gain priority, run or stand in the queue at once.
        wanted: All jobs, needed ones before those that need them.
    """
    return _Machine(site, wanted, None, lambda _: 1.0).let_go()[0]


def longest_s(site: Site, wanted: list[Wanted]) -> float:
    """Return the seconds from begin to end if each job takes its whole walltime and the machine is the campaign's alone.

    By list scheduling on its nodes, under its limits: in the order of the file, and whatever fits goes first.
    """
    return _Machine(site, wanted, site.nodes, lambda job: job.walltime_s).let_go()[1]


class _Machine:
    """A site without other users: what stands in its queues, waits with priority, and runs.

    Args:
        site: The site.
        wanted: All jobs, needed ones before those that need them.
        nodes: Nodes that there are; None: as many as are wanted.
        lasts: Seconds that a job takes.
    """

    def __init__(self, site: Site, wanted: list[Wanted], nodes: int | None, lasts: Callable[[Wanted], float]) -> None:
        self._limits, self._words = site.limits, _in_words(site)
        self._nodes, self._free, self._lasts, self._now = nodes, nodes or 0, lasts, 0.0
        self._place = {job.name: number for number, job in enumerate(wanted)}
        self._needs = {job.name: set(job.needs) for job in wanted}
        self._counts: dict[Kind, Counter[int]] = {kind: Counter() for kind in _DOES}
        self._followers: dict[str, list[Wanted]] = {}
        for job in wanted:
            for need in self._needs[job.name]:
                self._followers.setdefault(need, []).append(job)
        self._outside = [job for job in wanted if not job.needs]  # may be handed in
        self._queued: set[str] = set()
        self._ready: list[Wanted] = []  # handed in, and needs nothing any more
        self._eligible: list[Wanted] = []
        self._running: list[tuple[float, int, Wanted]] = []  # a heap, by the end
        self._held: dict[str, str] = {}

    def let_go(self) -> tuple[list[Round], float]:
        """Return the rounds in which jobs start, and the seconds to the end of the last."""
        result: list[Round] = []
        while self._outside or self._ready or self._eligible or self._running:
            if started := self._turn():
                waiting = tuple(sorted(self._held, key=self._place.__getitem__))
                result.append(Round(started, waiting, self._held[waiting[0]] if waiting else ""))
            else:
                self._end_next()
        return result, self._now

    def _turn(self) -> tuple[str, ...]:
        """Hand in, give priority and start what limits and nodes allow; return the names of what starts."""
        self._held = {}
        self._hand_in()
        self._ready = [job for job in self._ready if not self._prefer(job)]
        started = {job.name for job in self._eligible if self._start(job)}
        self._eligible = [job for job in self._eligible if job.name not in started]
        return tuple(sorted(started, key=self._place.__getitem__))

    def _hand_in(self) -> None:
        """Hand in the next job of each chain, then the one behind it, as long as there is room."""
        trying, outside = self._outside, []
        while trying:
            behind = []
            for job in trying:
                if not self._has_room("submitted", job):
                    outside.append(job)
                    continue
                self._count("submitted", job, 1)
                self._queued.add(job.name)
                if not self._needs[job.name]:
                    self._ready.append(job)
                behind += [each for each in self._followers.get(job.name, ()) if each.ahead]
            trying = behind
        self._outside = outside

    def _prefer(self, job: Wanted) -> bool:
        if not self._has_room("eligible", job):
            return False
        self._count("eligible", job, 1)
        self._eligible.append(job)
        return True

    def _start(self, job: Wanted) -> bool:
        if not self._has_room("running", job):
            return False
        if self._nodes is not None:
            if self._share(job) > self._free:
                self._held[job.name] = _NODES
                return False
            self._free -= self._share(job)
        self._count("eligible", job, -1)
        self._count("running", job, 1)
        heapq.heappush(self._running, (self._now + self._lasts(job), self._place[job.name], job))
        return True

    def _end_next(self) -> None:
        """Let the time come at which the next jobs end, all of them at once."""
        self._now = self._running[0][0]
        while self._running and self._running[0][0] == self._now:
            job = heapq.heappop(self._running)[2]
            self._free += self._share(job)
            self._count("running", job, -1)
            self._count("submitted", job, -1)
            self._release(job)
        for jobs in (self._outside, self._ready):
            jobs.sort(key=lambda each: self._place[each.name])

    def _release(self, ended: Wanted) -> None:
        """Give way to the jobs that waited for the last of their needs."""
        for job in self._followers.get(ended.name, ()):
            self._needs[job.name].discard(ended.name)
            if not self._needs[job.name] and job.name in self._queued:
                self._ready.append(job)
            elif not self._needs[job.name] and not job.ahead:
                self._outside.append(job)

    def _share(self, job: Wanted) -> int:
        """Return the nodes that a job takes: one that is refused as too large has them all."""
        return 0 if self._nodes is None else min(job.nodes, self._nodes)

    def _has_room(self, kind: Kind, job: Wanted) -> bool:
        for number, limit in self._of(job):
            most = getattr(limit, kind)
            if most is not None and self._counts[kind][number] >= most:
                self._held[job.name] = self._words[number, kind]
                return False
        return True

    def _count(self, kind: Kind, job: Wanted, by: int) -> None:
        self._counts[kind].update({number: by for number, _ in self._of(job)})

    def _of(self, job: Wanted) -> list[tuple[int, Limit]]:
        return [(number, limit) for number, limit in enumerate(self._limits) if not limit.queues or job.queue in limit.queues]


def _in_words(site: Site) -> dict[tuple[int, Kind], str]:
    """Return what each limit says, by its place and kind."""
    open_ = {each.key for each in figures(site) if each.mark == "unverified"} if site.limits else set()
    found: dict[tuple[int, Kind], str] = {}
    for number, limit in enumerate(site.limits):
        of = f" in {', '.join(limit.queues)}" if limit.queues else ""
        for kind, does in _DOES.items():
            mark = " (unverified)" if f"{limit_key(limit.queues)}.{kind}" in open_ else ""
            found[number, kind] = f"{getattr(limit, kind)} jobs of a {limit.per} {does} at once{of}{mark}"
    return found
