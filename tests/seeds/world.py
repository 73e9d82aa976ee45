"""One history: a campaign, its drivers, a batch system with agents, and the time between."""

from __future__ import annotations

import contextlib
import heapq
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

import yaml
from dying import failing_write
from toy.world import install

import workflow.batch.executor
import workflow.driver
import workflow.journal
import workflow.resolved
from model.outcome import write_json
from seeds.agents import Run
from seeds.batch import Batch
from seeds.clock import Clock, in_place
from seeds.driver import Died, Life, without_threads
from seeds.truth import Truth
from seeds.weather import WINDOW_S, Weather
from workflow.batch import protocol
from workflow.campaign import Budget, Campaign
from workflow.chained import ChainedFile
from workflow.draft import load_campaign
from workflow.rundir import RunDir
from workflow.simulation.job import Ask, Happening, Job, Rules, What
from workflow.simulation.model import Model
from workflow.site import load_site

NODES = tuple(f"n{number}" for number in range(1, 7))
WALLTIME_S = 1800.0
END_S = 40 * 86400.0
_DAY_S = 86400.0
_STEPS = 4000
_FEW = ("after submit", "before approval", "after approval")
"""Points that a history passes seldom, or that matter most."""

CHAIN: dict[str, Any] = {"plan": ["9"], "links": 3, "nodes": 2}
CAMPAIGNS: dict[str, dict[str, Any]] = {
    "one": {"a": {"plan": ["3"], "nodes": 2}},
    "chain": {"a": CHAIN},
    "pair": {"a": {"plan": ["6"], "links": 2, "nodes": 2}, "b": {"needs": ["a"], "plan": ["2"]}},
    "graph": {
        "a": {"plan": ["2"], "nodes": 4},
        "c": {"plan": ["2"], "nodes": 3},
        "best": {"kind": "choose", "needs": ["a"]},
        "b": {"needs": ["best", "c"], "plan": ["7"], "links": 2, "nodes": 5},
    },
}


@cache
def template(name: str, base: Path) -> Campaign:
    """Load one of the campaigns, with the times of a real site."""
    install()
    folder = base / f"campaign-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data.xyz").touch()
    job = {"kind": "toy", "walltime": "00:30:00", "attempts": 4}
    stages = {key: spec if "kind" in spec else {**job, **spec} for key, spec in CAMPAIGNS[name].items()}
    branches = {"b": {"reader": "extxyz", "path": "data.xyz"}}
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump({"name": "toy", "branches": branches, "stages": stages}, sort_keys=False))
    site = load_site("local")
    scheduler = {"poll_s": 60.0, "unknown_window_s": WINDOW_S, "absence_window_s": WINDOW_S}
    periods = {"heartbeat_s": 20.0, "ttl_s": 60.0, "stop_margin_s": 300.0, "kill_after_s": 60.0}
    queue = site.queues[0].model_copy(update={"max_nodes": len(NODES)})
    changes = {
        "scheduler": site.scheduler.model_copy(update=scheduler),
        "periods": site.periods.model_copy(update=periods),
        "queues": (queue,),
        "nodes": len(NODES),
    }
    return replace(load_campaign(path), site=site.model_copy(update=changes))


class World:
    """A history, made by its seed.

    Args:
        seed: The seed.
        base: Folder for everything.
        storm: Faults that it has in any case.

    Attributes:
        now: Seconds since the beginning.
        rows: How often each row of the protocol's table has decided.
        points: How often a driver died at each point.
        code: How the campaign ended; None where it did not.
        hangs_until: When agents go on that stand still because everything does.
    """

    def __init__(self, seed: int, base: Path, storm: Sequence[str] = ()) -> None:
        self.seed, self.rng = seed, random.Random(seed)
        self.weather = Weather(self.rng, storm)
        self.clock = Clock(self.wait)
        self.rows: Counter[str] = Counter()
        self.points: Counter[str] = Counter()
        self.code: int | None = None
        self.hangs_until = -1.0
        self.folder = base / f"seed-{seed}"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.shape = self.rng.choice(list(CAMPAIGNS))
        self.campaign = self._made(base)
        wait_s = self.rng.choice((0.0, 60.0, 900.0))
        rules = Rules(wait=lambda rng, _: rng.uniform(0, wait_s), notice_s=20.0, kill_wait_s=30.0)
        self.model = Model(NODES, rules, seed)
        self.truth = Truth(self.folder, self.clock)
        self.batch = Batch(self, seed)
        self.runs: dict[str, Run] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._lives: list[Life] = []
        self.absence = (-1.0, -1.0)
        self.actor: Life | None = None
        self._is_one_host = self.rng.random() < 0.5  # where a dead driver is known to be dead at once

    @property
    def now(self) -> float:
        return self.clock.now

    def run(self) -> None:
        """Live through the whole history."""
        with in_place(self.clock), without_threads(), self._counting(), self._watching(), self._deadly(), self._repeatable():
            self._plan()
            for _ in range(_STEPS):
                if self.code is not None or self.now > END_S:
                    break
                self._live()
            self._after()

    def accept(self, ask: Ask) -> Job:
        """Take a job in."""
        job = self.model.submit(ask)
        self.truth.jobs.append(job)
        if self.actor is not None and self.actor.is_displaced:
            self.truth.fooled.add(ask.name)  # it stood still between its last look at the lease and this
            if not self.actor.has_slept:
                self.truth.broken.append(f"R1 a driver that was displaced goes on submitting: job {job.id}")
        if self.weather.strikes("held", self.now):
            self.hold(job, self.now + self.rng.uniform(60, 2000))
        return job

    def hold(self, job: Job, until: float) -> None:
        """Keep a waiting job back for some time."""
        self.model.hold(job)
        self.at(until, lambda: self.model.release(job))

    def vanish(self, job: Job) -> None:
        """Forget a job that still waits."""
        if job.is_waiting and job.id in self.model.jobs:
            self.truth.vanished.add(job.id)
            self.model.vanish(job)
            if self.weather.strikes("id reused", self.now):
                self.batch.give_away(job.id)

    def at(self, when: float, act: Callable[[], None]) -> None:
        """Do something at a time."""
        heapq.heappush(self._timers, (when, next(self._numbers), act))

    def pass_time(self, seconds: float) -> None:
        """Let everything happen that happens meanwhile, in order."""
        end = self.now + seconds
        while True:
            self._happen(self.model.advance(self.now))
            when = min(self.model.due(), self._timers[0][0] if self._timers else END_S * 2)
            if when > end:
                break
            self.clock.now = max(self.now, when)
            self._happen(self.model.advance(self.now))
            while self._timers and self._timers[0][0] <= self.now:
                heapq.heappop(self._timers)[2]()
        self.clock.now = end
        self._happen(self.model.advance(end))

    def wait(self, seconds: float) -> None:
        """Let time pass while a driver watches another's heartbeat."""
        self.pass_time(seconds)
        for life in self._lives:
            life.beat()

    def passing(self, life: Life, point: str) -> None:
        """A driver has come to a point where death or a long sleep is interesting."""
        if life.is_frozen or life is not self._lives[-1]:
            return
        if point == "after intent" and self.weather.strikes("folder purged", self.now):
            self._purge(life)
        if self.weather.strikes("driver killed", self.now, 1.0 if point in _FEW else 0.3):
            self.points[point] += 1
            if point == "after submit" and self.rng.random() < 0.5:
                self.batch.hide(self.truth.jobs[-1])
            raise Died(point)
        if self.weather.strikes("frozen and thawed", self.now, 0.2):
            self._freeze(life)

    def _purge(self, life: Life) -> None:
        """Delete the folder of the attempt that a driver has just decided on."""
        line = life.newest
        folder = RunDir(self.folder).attempt(line["stage"], line["link"], line["attempt"]).root
        shutil.rmtree(folder)
        self.truth.purged.add(str(folder))

    def _made(self, base: Path) -> Campaign:
        plain = template(self.shape, base)
        header = plain.header
        if self.weather.has("budget too small"):
            nodes = sum((spec.nodes or 1) * spec.links for spec in plain.stages.values() if spec.kind == "toy")
            budget = Budget(node_hours=self.rng.uniform(0.2, 1.1) * nodes * WALLTIME_S / 3600)
            header = header.model_copy(update={"budget": budget})
            self.weather.hits["budget too small"] += 1
        return replace(plain, folder=self.folder, header=header)

    def _plan(self) -> None:
        """Lay out what happens at set times: outages, absences, a person's wishes, the death of nodes."""
        rng, weather = self.rng, self.weather
        if weather.has("outage of a day"):
            weather.hits["outage of a day"] += 1
            begin = rng.uniform(0, 3600)
            self.batch.outage = (begin, begin + _DAY_S)
        if weather.has("long absence"):
            weather.hits["long absence"] += 1
            begin = rng.uniform(0, 3600)
            self.absence = (begin, begin + rng.uniform(3600, 5 * _DAY_S))
        if weather.has("person cancels"):
            weather.hits["person cancels"] += 1
            key = rng.choice([name for name, spec in self.campaign.stages.items() if spec.kind == "toy"])
            self.at(rng.uniform(60, 7200), lambda: self._ask_for_cancel(key))
        if weather.has("budget too small") and rng.random() < 0.7:
            self.at(rng.uniform(60, 9000), self._approve)
        for _ in range(rng.randint(4, 16)):
            self.at(rng.uniform(0, weather.horizon_s), self._strike)

    def _ask_for_cancel(self, key: str) -> None:
        path = RunDir(self.folder).stage_cancel(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def _approve(self) -> None:
        folder = RunDir(self.folder).approvals
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{self.seed:016x}"
        write_json(folder / f"{name}.json", {"id": name, "stage": None, "node_hours": 1000.0})

    def _strike(self) -> None:
        """Let something happen to a job that runs."""
        running = [job for job in self.model.jobs.values() if job.is_running]
        strikes = {
            "preempted": self.model.preempt,
            "requeued": self.model.requeue,
            "never leaves ending": self._let_linger,
            "node failure": self._lose,
            "node failure, agent lives on": self._cut_off,
        }
        known = [name for name in strikes if self.weather.has(name)]
        if running and known:
            name, job = self.rng.choice(known), self.rng.choice(running)
            if self.weather.strikes(name, self.now):
                strikes[name](job)

    def _let_linger(self, job: Job) -> None:
        job.lingers = self.runs[job.id].lingered = True
        self.truth.endless.add(job.id)
        self.at(self.now + 4 * 3600, lambda: self.model.leave_ending(job))
        if self.rng.random() < 0.5:
            self.runs[job.id].exit(137)

    def _cut_off(self, job: Job) -> None:
        self.runs[job.id].is_cut_off = True
        self._lose(job)

    def _lose(self, job: Job) -> None:
        node = job.nodes[0]
        self.model.fail_node(node)
        self.at(self.now + 1200, lambda: self.model.mend_node(node))

    def _happen(self, happened: list[Happening]) -> None:
        for each in happened:
            if each.what is What.STARTED and self.weather.strikes("held after failed starts", self.now):
                self.model.requeue(each.job)
                self.hold(each.job, self.now + self.rng.uniform(60, 5000))
            elif each.what is What.STARTED:
                run = self.runs[each.job.id] = Run(self, each.job)
                slow_s = self.rng.uniform(0, 600) if self.weather.strikes("slow start", self.now) else 0.0
                run.was_slow = slow_s > 0 or self.now < self.hangs_until
                self.at(self.now + (slow_s or 1.0), run.script)
            elif each.job.id in self.runs:
                run = self.runs[each.job.id]
                run.asked_to_end() if each.what is What.ASKED_TO_END else run.killed()

    def _live(self) -> None:
        """Let time pass, and a driver look."""
        self.pass_time(self.rng.choice((5.0, 60.0, 150.0, 300.0, 600.0)) if self.now < self.weather.horizon_s else 900.0)
        if self.absence[0] <= self.now < self.absence[1]:
            self._let_die()
            self.pass_time(self.absence[1] - self.now)
        self._beat()
        living = [life for life in self._lives if not life.is_over]
        if not living or self.weather.strikes("two drivers", self.now, 0.2):
            self._begin()
        self._step(living)
        if self.weather.strikes("everything hangs", self.now, 0.2):
            self._hang()
            self._step([life for life in living if not life.is_over])

    def _step(self, living: list[Life]) -> None:
        for life in living:
            if not life.is_over:
                life.step()
                self.code = life.code if life.is_over and life.code is not None else self.code

    def _hang(self) -> None:
        """Let drivers and agents stand still together, as where their file system hangs; the drivers go on first."""
        self.hangs_until = self.now + self.rng.uniform(2.5 * self.campaign.site.periods.ttl_s, 3600.0) + 1.0
        for run in self.runs.values():
            run.was_slow |= not run.is_over
        self.pass_time(self.hangs_until - self.now - 1.0)

    def _beat(self) -> None:
        """Write the heartbeats that a driver is about to look at."""
        for run in self.runs.values():
            run.beat()

    def _begin(self) -> None:
        skew = self.rng.uniform(-_DAY_S, _DAY_S) if self.weather.strikes("clock skew", self.now) else 0.0
        life = Life(self, skew)
        self._lives.append(life)
        if life.begin():
            life.step()
        self.code = life.code if life.code is not None else self.code

    def _let_die(self) -> None:
        for life in self._lives:
            if not life.is_over:
                life.die()

    def _freeze(self, life: Life) -> None:
        """Let others live on while this driver stands between two instructions; then it goes on where it stood."""
        life.is_frozen = True
        for _ in range(self.rng.randint(1, 12)):
            if self.code is not None:
                break
            self.pass_time(self.rng.choice((30.0, 120.0, 600.0)))
            others = [each for each in self._lives if not each.is_over and not each.is_frozen]
            if not others:
                self._begin()
            self._beat()
            for each in others:
                each.step()
        life.is_frozen, life.has_slept = False, True
        life.go_on()

    def _after(self) -> None:
        """Let what is still queued or running come to its end without a driver."""
        self._let_die()
        for _ in range(200):
            if all(job.state.is_final or job.id in self.truth.vanished for job in self.truth.jobs):
                break
            self.pass_time(600.0)

    @contextlib.contextmanager
    def _counting(self) -> Iterator[None]:
        decide = protocol.decide

        def counted(*args: Any) -> Any:
            action = decide(*args)
            self.rows[action.row] += 1
            return action

        with mock.patch.object(workflow.batch.executor.protocol, "decide", counted):
            yield

    @contextlib.contextmanager
    def _watching(self) -> Iterator[None]:
        """Let a driver on the same host see that the former one's process is gone."""
        is_ended = workflow.journal._is_ended

        def seen(folder: Path, epoch: int) -> bool:
            dead = self._is_one_host and all(life.is_over for life in self._lives[:-1])
            return dead or is_ended(folder, epoch)

        with mock.patch.object(workflow.journal, "_is_ended", seen):
            yield

    @contextlib.contextmanager
    def _deadly(self) -> Iterator[None]:
        """Let a driver die, or its disk fail, around the very moment at which a line of its journal is written."""
        append = ChainedFile.append

        def dangerous(record: ChainedFile, event: str, /, **fact: Any) -> dict[str, Any]:
            for fault, whole in (("disk full in a commit", False), ("fsync fails", True)):
                if self.weather.strikes(fault, self.now, 0.2):
                    with failing_write(whole=whole):
                        return append(record, event, **fact)
            if not self.weather.strikes("driver killed in a commit", self.now, 0.2):
                return append(record, event, **fact)
            if self.rng.random() < 0.5:
                append(record, event, **fact)
            raise Died(event)

        with mock.patch.object(ChainedFile, "append", dangerous):
            yield

    @contextlib.contextmanager
    def _repeatable(self) -> Iterator[None]:
        versions = mock.patch.object(workflow.resolved, "_version", lambda _: "1")  # reading packages' metadata takes long
        with versions, mock.patch.object(workflow.driver.secrets, "token_hex", lambda _: f"{self.seed:032x}"):
            yield
