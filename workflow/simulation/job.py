"""Jobs of the batch system in memory: what they ask for, where they stand, what happens to them."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from workflow.batch.scheduler import JobState
from workflow.site import Limit


@dataclass(frozen=True)
class Ask:
    """What a job asks for.

    Attributes:
        name: Job name.
        nodes: Whole nodes.
        walltime_s: Seconds.
        queue: Name of a queue, as limits name it.
        after: Ids of jobs that must have ended; unknown ones count as ended.
        held: Wait until released.
        facts: What the face that runs the job wants to keep.
        impossible: No nodes of the machine can ever carry it; it is taken all the same, and waits for ever.
    """

    name: str
    nodes: int
    walltime_s: float
    queue: str = ""
    after: tuple[str, ...] = ()
    held: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    impossible: bool = False


@dataclass(frozen=True)
class Rules:
    """How the batch system behaves; times in seconds.

    Attributes:
        limits: How many jobs it looks at, runs and takes at once.
        wait: Draws how long a job waits from its turn to its nodes, beyond what it waits for nodes that are busy.
        notice_s: How late the end of a walltime may be noticed.
        kill_wait_s: From asking a job to end to ending it.
        history_s: How long ended jobs are told of.
    """

    limits: tuple[Limit, ...] = ()
    wait: Callable[[random.Random, Ask], float] = lambda _, __: 0.0
    notice_s: float = 0.0
    kill_wait_s: float = 10.0
    history_s: float = math.inf


class Refused(Exception):  # noqa: N818 it is an answer, not a fault
    """A job is not taken: a limit is reached, or it asks for more nodes than there are."""


class What(StrEnum):
    """What has happened to a job."""

    STARTED = "started"
    ASKED_TO_END = "asked_to_end"
    """Its processes are to get TERM."""
    KILLED = "killed"
    """Its processes are to get KILL; its owner says `finish` when they are gone."""
    ENDED = "ended"
    """It is over without a word from its owner: cancelled while it waited, or lost with its nodes."""


@dataclass(frozen=True)
class Happening:
    """One thing that has happened, and when."""

    t: float
    what: What
    job: Job


@dataclass
class Job:
    """One job; times are the model's own.

    Attributes:
        id: Its id.
        ask: What it asks for.
        submitted: When it was taken.
        order: Its place among all that were taken.
        state: Where it stands.
        eligible: Since when nothing but its turn and nodes hold it up.
        ready: From when it may start.
        started: Start of the present run.
        ended: When it ended.
        nodes: What it has, or had.
        exit: Exit code of its script, 128 + n for signal n.
        ending: The state that it will end in, once its end was asked for.
        kill_at: When it is ended by force.
        runs: How often it was started.
        deaf: It goes on whatever it is asked.
        lingers: Never leaves `ENDING`.
    """

    id: str
    ask: Ask
    submitted: float
    order: int
    state: JobState = JobState.QUEUED
    eligible: float | None = None
    ready: float = math.inf
    started: float | None = None
    ended: float | None = None
    nodes: tuple[str, ...] = ()
    exit: int | None = None
    ending: JobState | None = None
    kill_at: float = math.inf
    runs: int = 0
    deaf: bool = False
    lingers: bool = False

    @property
    def is_waiting(self) -> bool:
        """Whether it has not started, or waits to start again."""
        return self.state in (JobState.QUEUED, JobState.HELD)

    @property
    def is_running(self) -> bool:
        """Whether its script may be at work."""
        return self.state is JobState.RUNNING

    @property
    def limit_at(self) -> float:
        """When its walltime is over."""
        return math.inf if self.started is None else self.started + self.ask.walltime_s
