"""What really happened in a history, as only its maker knows it; the checker holds it against the files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from model.outcome import Cause, Status
from workflow.errors import StageError
from workflow.receipt import Receipt, verify

if TYPE_CHECKING:
    from pathlib import Path

    from seeds.agents import Run
    from workflow.allocation.nodes import Counts
    from workflow.journal import Journal
    from workflow.request import Request
    from workflow.simulation.job import Job


@dataclass(frozen=True)
class Effect:
    """A unit of work made to stand."""

    t: float
    stage: str
    run: str
    unit: int


@dataclass
class Truth:
    """The record of a history.

    Attributes:
        campaign: Its folder.
        clock: Gives the time.
        jobs: All that were accepted, in order.
        vanished: Ids of those that the batch system forgot.
        effects: Units committed, in order.
        agents: Which job's agent began, by the attempt's folder.
        receipts: When each receipt came to stand, by the attempt's folder.
        ends: How it says that the attempt ended.
        asked: When a driver asked for the end of each job, by its id.
        asked_in_health: The same, of jobs whose agents were at work.
        births: When each driver began, by its epoch.
        looks: When each driver, by its epoch, had seen each job alive and done what it does then.
        passes: When drivers had looked at all there is.
        done: When each stage first had a receipt that says done.
        events: Lines of journals as they were committed: time, driver's epoch, line.
        fooled: Tokens whose living job was hidden for longer than the site's windows.
        purged: Attempts' folders that were deleted before a job was submitted.
        endless: Ids of jobs that did not leave their last state for hours.
        broken: Promises that were seen broken on the way.
        displaced: Drivers that found their lease taken.
    """

    campaign: Path
    clock: Any
    jobs: list[Job] = field(default_factory=list)
    vanished: set[str] = field(default_factory=set)
    effects: list[Effect] = field(default_factory=list)
    agents: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    receipts: dict[str, float] = field(default_factory=dict)
    ends: dict[str, tuple[Status, Cause | None]] = field(default_factory=dict)
    asked: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    asked_in_health: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    births: dict[int, float] = field(default_factory=dict)
    looks: dict[tuple[int, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    passes: list[float] = field(default_factory=list)
    done: dict[str, float] = field(default_factory=dict)
    events: list[tuple[float, int, dict[str, Any]]] = field(default_factory=list)
    fooled: set[str] = field(default_factory=set)
    purged: set[str] = field(default_factory=set)
    endless: set[str] = field(default_factory=set)
    broken: list[str] = field(default_factory=list)
    displaced: int = 0
    _hidden_since: dict[str, float] = field(default_factory=dict)

    def watch(self, journal: Journal) -> None:
        """Keep every line that this driver commits from now on, with the true time."""
        inner, epoch = journal.listener, journal.epoch
        self.births[epoch] = self.clock.now

        def listen(line: dict[str, Any]) -> None:
            self.events.append((self.clock.now, epoch, line))
            if inner is not None:
                inner(line)

        journal.listener = listen

    def started(self, job: Job, run: Run) -> None:
        """An agent has begun its attempt."""
        self.agents[str(run.folder.root)].append(job.id)

    def committed(self, stage: str, run: Run, unit: int) -> None:
        """A unit of work was made to stand."""
        self.effects.append(Effect(self.clock.now, stage, run.name, unit))

    def left(self, run: Run, receipt: Receipt) -> None:
        """A receipt has come to stand: from now on everybody may rest on what it lists."""
        self.receipts[str(run.folder.root)] = self.clock.now
        self.ends[str(run.folder.root)] = (receipt.status, receipt.cause)
        if receipt.status is Status.DONE:
            self.done.setdefault(receipt.stage, self.clock.now)
        try:
            verify(self.campaign, receipt.outputs)
        except StageError as error:
            self.broken.append(f"R5 a receipt of {receipt.stage} vouches for what is not there: {error.what}")

    def read(self, request: Request, faults: list[str]) -> None:
        """An agent has read what its stage rests on."""
        self.broken += [f"R5 {request.stage} reads what no receipt vouches for: {fault}" for fault in faults]
        self.broken += [f"R5 {request.stage} began before {key} was done" for key in request.inputs if self._is_early(key)]

    def counted(self, counts: Counts, allocated: int) -> None:
        """An allocation has counted its nodes."""
        if counts.free + counts.busy + counts.quarantined + counts.spare != allocated:
            self.broken.append(f"R8 nodes are not conserved: {counts}")

    def seen(self, live: set[str], shown: set[str], window_s: float) -> None:
        """An answer was given: of the tokens with a living job it shows some."""
        now = self.clock.now
        for token in live - shown:
            since = self._hidden_since.setdefault(token, now)
            if now - since >= window_s:
                self.fooled.add(token)
        for token in shown:
            self._hidden_since.pop(token, None)

    def looked(self, epoch: int, jobs: Iterable[Job]) -> None:
        """A driver has seen these jobs alive, and has done what it does then."""
        self.passes.append(self.clock.now)
        for job in jobs:
            self.looks[epoch, job.id].append(self.clock.now)

    def _is_early(self, key: str) -> bool:
        return key in self.staged_keys and key not in self.done

    @property
    def staged_keys(self) -> set[str]:
        """Stages that ran in jobs."""
        return {effect.stage for effect in self.effects}
