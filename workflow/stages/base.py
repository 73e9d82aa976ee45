"""What every stage kind is: typed keys, a check, and the work done in an allocation or on the login node."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from pydantic import Field, field_validator

from model.config import Task
from model.outcome import Cause, Outcome, Status
from model.specs import Strict
from workflow.receipt import Output, Receipt
from workflow.request import Request
from workflow.rundir import AttemptDir

CHECKPOINT_S = 300.0
"""Seconds between what a task writes to go on from, where its own keys do not say: about a shard of a store, or of candidates."""
_WALLTIME = re.compile(r"([0-9]{1,6}):([0-5][0-9])(?::([0-5][0-9]))?")


def walltime_text(seconds: float) -> str:
    """Return seconds as `HH:MM:SS`, the form that a campaign file takes."""
    whole = int(seconds)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def hours_text(node_hours: float) -> str:
    """Return node-hours in as many digits as matter to a person."""
    if 0 < abs(node_hours) < 0.001:
        return "under 0.001"
    return f"{node_hours:,.0f}" if abs(node_hours) >= 100 else f"{node_hours:.3g}"


class StageSpec(Strict):
    """Keys that every stage has."""

    kind: str = Field(description="What the stage does; the name of a file in `workflow/stages`.")
    needs: tuple[str, ...] = Field((), description="Stages that must be done before this one.")
    each: str | None = Field(None, description="A `promote` stage; this stage runs once for each model it selects.")
    nodes: int | None = Field(None, ge=1, description="Nodes of one batch job, spares included.")
    devices: int | None = Field(None, ge=1, description="Devices instead of nodes; rounded up to whole nodes.")
    spares: int = Field(0, ge=0, description="Nodes of the job kept aside to replace bad ones.")
    walltime: str = Field(
        "00:30:00", description="Time of one link, HH:MM or HH:MM:SS.", json_schema_extra={"pattern": f"^{_WALLTIME.pattern}$"}
    )
    links: int = Field(
        1,
        ge=1,
        description="Batch jobs in the chain; up to `attempts` − 1 that are lost through no fault of the stage are made up for.",
    )
    attempts: int = Field(3, ge=1, description="Most attempts at one link when it fails through no fault of its own.")
    queue: str | None = Field(None, description="Queue of the site by name; none: the first that takes the job.")
    variants: dict[str, dict[str, Any]] = Field(
        {}, description="One stage for each name here, `stage/name`, with these keys over those of the stage."
    )
    on: dict[str, dict[str, Any]] = Field({}, description="Other values of these keys on a named site.")

    @field_validator("walltime")
    @classmethod
    def _is_time(cls, text: str) -> str:
        if not _WALLTIME.fullmatch(text):
            raise ValueError(f"'{text}' is no time; write HH:MM or HH:MM:SS, in quotes")
        if not text.strip("0:"):
            raise ValueError(f"'{text}' is no time to work in; give more than zero")
        return text

    @property
    def walltime_s(self) -> float:
        """Return the walltime of one link in seconds."""
        hours, minutes, seconds = _WALLTIME.fullmatch(self.walltime).groups(default="0")  # type: ignore[union-attr]
        return int(hours) * 3600.0 + int(minutes) * 60.0 + int(seconds)


@dataclass(frozen=True)
class TaskResult:
    """How one task (one launcher call) ended.

    Attributes:
        name: Name of the task within the attempt.
        folder: Its folder: `command.sh`, `config.yaml`, `outcome.json`, `metrics.jsonl`, `checkpoints/`, logs.
        status: From its outcome; failed where it left none.
        cause: Set when failed; judged from outcome, exit code and node probes.
        message: One sentence.
        outcome: What the command itself reported, or None.
        nodes: Names of the nodes it ran on.
        seconds: Wall time.
    """

    name: str
    folder: Path
    status: Status
    cause: Cause | None
    message: str
    outcome: Outcome | None
    nodes: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class StageResult:
    """What one link of a stage has to show; the agent makes a receipt of it."""

    status: Status
    cause: Cause | None = None
    message: str = ""
    outputs: tuple[Output, ...] = ()
    result: dict[str, Any] = field(default_factory=dict)
    evidence: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Pieces:
    """How a stage's work is divided into tasks, as far as a simulation has to know.

    Attributes:
        count: Tasks that must end.
        nodes: Nodes of each.
        keeps: Whether a task that was interrupted goes on from what it has written; else it begins anew.
        checkpoint_s: Seconds between two moments at which a task writes what it can go on from.
        epochs: At the end of each of so many equal parts of a task it writes that too.
        enough: Share of the work with which the stage counts as done when its links have run out.
    """

    count: int
    nodes: int
    keeps: bool = True
    checkpoint_s: float = CHECKPOINT_S
    epochs: int = 1
    enough: float = 1.0


class Record(Protocol):
    """The stage's own append-only record, carried over all its links and attempts."""

    def append(self, event: str, **fact: Any) -> None:
        """Write one line and fsync it."""

    def events(self) -> list[dict[str, Any]]:
        """Return all lines of all earlier attempts and of this one, in order; each has the key `event`."""


class Allocation(Protocol):
    """What a stage sees of the agent that runs it.

    Attributes:
        request: The attempt's whole input.
        folder: The attempt's folder.
        campaign: The campaign's folder.
        num_nodes: Nodes that tasks may use at once (spares left out).
        devices_per_node: Ranks that a node takes.
        device_memory_gb: Memory of one device.
        record: See `Record`.
    """

    request: Request
    folder: AttemptDir
    campaign: Path
    num_nodes: int
    devices_per_node: int
    device_memory_gb: float
    record: Record

    def task(
        self,
        name: str,
        command: str,
        config: Task,
        *,
        nodes: int = 1,
        ranks_per_node: int | None = None,
        needs: Sequence[Future[Any]] = (),
        estimate_s: float = 0.0,
    ) -> Future[TaskResult]:
        """Start `python -m model <command>` on `nodes` nodes as soon as they are free and `needs` are done.

        The agent fills in the configuration's `owner`, `stop` and `threads`. The future never raises for a
        failed task; it gives a `TaskResult`. A task that is not admitted because `estimate_s` does not fit
        before the deadline ends as failed with cause walltime, without having run.
        """

    def task_folder(self, name: str) -> Path:
        """Return the folder that the task of this name has or will have."""

    def stop_task(self, name: str) -> None:
        """Ask one task to checkpoint and end in order; it then ends as partial."""

    def stage_in(self, outputs: Sequence[Output]) -> Future[Path]:
        """Copy outputs to the node-local folder of every node, verified by digest; gives that folder.

        Files keep their path relative to the campaign below the returned folder.
        """

    def time_left(self) -> float:
        """Return the seconds until tasks are asked to checkpoint."""

    def local_folder(self) -> Path:
        """Return the node-local folder of this attempt; `{node}` in it stands for a node's name."""

    def why_stopping(self) -> str:
        """Return why the allocation stops: its own timer, a signal, a person."""

    def warned(self) -> bool | None:
        """Say whether the signal that the scheduler was asked for has come; None where none is asked for."""

    def is_stopping(self) -> bool:
        """Say whether the deadline has come or a cancel was asked for: start nothing more."""

    def progress(self, **facts: Any) -> None:
        """Publish JSON facts for `status` through the heartbeat (merged into what stands there)."""

    def vouch(self, role: str, path: Path) -> tuple[Output, ...]:
        """List the files at `path` with size and digest, for the receipt."""


class Stage:
    """One stage kind. A kind's file defines a subclass named `Kind` and a `Spec`."""

    Spec: ClassVar[type[StageSpec]] = StageSpec
    on_login: ClassVar[bool] = False
    """Whether the driver does this stage itself (seconds of reading files) instead of a batch job."""
    needs_data: ClassVar[bool] = True
    """Whether a campaign of such stages needs branches or sources."""

    def problems(self, spec: Any, campaign: Any) -> list[tuple[str, str, str]]:  # noqa: ARG002 for those that need it
        """Return what is wrong with this stage as (what, dotted key below the stage, remedy)."""
        return []

    def models(self, spec: Any) -> list[dict[str, Any]]:  # noqa: ARG002 for those that need it
        """Return the models (keys of `ModelSpec`) that the file alone states; `campaign check` builds each once."""
        return []

    def calls(self, spec: Any, campaign: Any) -> list[tuple[str, str, int]]:  # noqa: ARG002 for those that need it
        """Return what a job of the stage starts, as (what, command of `python -m model`, nodes), to be read beforehand."""
        return []

    def pieces(self, spec: Any, campaign: Any) -> Pieces:  # noqa: ARG002 for those that need it
        """Return how the work is divided, for `campaign simulate`; default: one task on all nodes but the spares."""
        return Pieces(1, max(1, (spec.nodes or 1) - spec.spares))

    def trainings(self, spec: Any, campaign: Any) -> tuple[int, str]:  # noqa: ARG002 for those that need it
        """Return how many trainings the keys multiply to, and in words out of what; 0 where they do not multiply."""
        return 0, ""

    def miniature(self, spec: Any) -> dict[str, Any]:  # noqa: ARG002 for those that need it
        """Return keys that make a stage small enough for `campaign rehearse`, beside those of its jobs."""
        return {}

    def reads(self, spec: Any, campaign: Any) -> tuple[str, ...]:  # noqa: ARG002 for those that need it
        """Return the branches and sources whose stores every node of a job gets."""
        return ()

    def work(self, allocation: Allocation) -> StageResult:
        """Do one link of the stage inside an allocation."""
        raise NotImplementedError

    def decide(self, spec: Any, key: str, inputs: dict[str, Receipt], campaign: Path) -> StageResult:
        """Do the stage on the login node, out of its inputs alone (only where `on_login`)."""
        raise NotImplementedError
