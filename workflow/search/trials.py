"""What became of every trial of a search: a state built from the stage's record, line by line."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model.outcome import Cause, Status
from workflow.search.space import Point
from workflow.stages.base import Record, TaskResult

WAITING, RUNNING, INTERRUPTED = "waiting", "running", "interrupted"
DONE, STOPPED, FAILED = "done", "stopped", "failed"


@dataclass
class Trial:
    """One configuration of a search, trained by one task or by several when it was interrupted.

    Attributes:
        id: Number, from 1, in the order of suggestion.
        point: What the optimizer suggested.
        status: `waiting`, `running`, `interrupted` (goes on from its checkpoint), `done`, `stopped` (by the
            stopping rule, before its last epoch) or `failed`.
        cause: Why it failed, or why it was last interrupted.
        message: One sentence about that.
        objective: Best objective on validation, after all its epochs or until it was stopped.
        epochs: Epochs seen.
        seconds: Wall time of its tasks, as far as they told.
        folders: Its tasks' folders, relative to the campaign, oldest first.
        interrupted: How often it was interrupted.
        best: Folder of its best checkpoint, relative to the campaign.
        distrusts: Whether going on from its checkpoint was refused, so that it begins anew.
        rungs: Its best objective at each rung it has reached, by epochs.
        is_out: Whether the stopping rule has ended it.
        is_told: Whether the optimizer knows the result.
        result: What the last task reported: `model`, `training`, `parameters`, ….
    """

    id: int
    point: Point
    status: str = WAITING
    cause: str | None = None
    message: str = ""
    objective: float | None = None
    epochs: float = 0
    seconds: float = 0.0
    folders: list[str] = field(default_factory=list)
    interrupted: int = 0
    best: str | None = None
    distrusts: bool = False
    rungs: dict[int, float] = field(default_factory=dict)
    is_out: bool = False
    is_told: bool = False
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def is_settled(self) -> bool:
        """Say whether nothing more will be run for this trial."""
        return self.status in (DONE, STOPPED, FAILED)

    @property
    def value(self) -> float | str:
        """Return what the optimizer is told: the objective, or the cause of failure."""
        return self.objective if self.status != FAILED and self.objective is not None else str(self.cause)


class Trials:
    """All trials of a search; every change is a line of the record, and the record gives the same state again."""

    def __init__(self, record: Record) -> None:
        """Read the record; trials that were running when it ended count as interrupted, and the record says so."""
        self._record = record
        self._trials: dict[int, Trial] = {}
        for event in record.events():
            self.apply(event)
        for trial in list(self._trials.values()):
            if trial.status == RUNNING:
                self._note("lost", trial=trial.id, folder=trial.folders[-1])
            elif trial.status == FAILED and trial.cause == Cause.BUG:
                self._note("again", trial=trial.id)

    def __iter__(self) -> Any:
        """Iterate in the order of suggestion."""
        return iter(self._trials.values())

    def __len__(self) -> int:
        return len(self._trials)

    def add(self, points: list[Point]) -> list[Trial]:
        """Take over points that the optimizer has just recorded as asked."""
        first = len(self) + 1
        self.apply({"event": "ask", "trials": [{"trial": first + i, "point": point} for i, point in enumerate(points)]})
        return [self._trials[first + i] for i in range(len(points))]

    def refuse(self, trial: Trial, cause: Cause, message: str) -> None:
        """Record that a trial fails without having run."""
        self._note("refused", trial=trial.id, cause=cause, message=message)

    def start(self, trial: Trial, folder: str, resume: str | None) -> None:
        """Record that a task of a trial starts, and from which checkpoint."""
        self._note("task", trial=trial.id, folder=folder, resume=resume)

    def end(self, trial: Trial, result: TaskResult, campaign: Path) -> None:
        """Record how a task of a trial ended."""
        facts = result.outcome.result if result.outcome else {}
        outputs = result.outcome.outputs if result.outcome else {}
        best = outputs.get("best") or outputs.get("last")
        status, cause, message = _judged(trial, result, facts)
        self._note(
            "end",
            trial=trial.id,
            status=status,
            cause=cause,
            message=message,
            objective=facts.get("objective") if status in (DONE, STOPPED) else None,
            epochs=facts.get("epochs", trial.epochs),
            seconds=round(result.seconds, 3),
            best=str((result.folder / best).relative_to(campaign)) if best else None,
            result=_kept(facts),
            distrusts=status == INTERRUPTED and cause == Cause.BAD_CONFIG,
        )

    def reach(self, trial: Trial, epochs: int, objective: float, *, goes_on: bool) -> None:
        """Record that a trial has reached a rung, and whether it goes on from there."""
        self._note("rung", trial=trial.id, epochs=epochs, objective=objective, goes_on=goes_on)

    def apply(self, event: dict[str, Any]) -> None:
        """Carry one line of the record into the state; lines of other kinds change nothing."""
        change = getattr(self, f"_on_{event['event']}", None)
        if change is not None:
            change(event)

    def _note(self, event: str, **fact: Any) -> None:
        self._record.append(event, **fact)
        self.apply({"event": event, **fact})

    def _on_ask(self, event: dict[str, Any]) -> None:
        for each in event["trials"]:
            self._trials[each["trial"]] = Trial(each["trial"], each["point"])

    def _on_refused(self, event: dict[str, Any]) -> None:
        trial = self._trials[event["trial"]]
        trial.status, trial.cause, trial.message = FAILED, str(event["cause"]), event["message"]

    def _on_task(self, event: dict[str, Any]) -> None:
        trial = self._trials[event["trial"]]
        trial.status = RUNNING
        trial.folders.append(event["folder"])

    def _on_lost(self, event: dict[str, Any]) -> None:
        trial = self._trials[event["trial"]]
        if trial.is_out:
            last = max(trial.rungs)
            trial.status, trial.epochs, trial.objective = STOPPED, last, trial.rungs[last]
        else:
            trial.status, trial.message = INTERRUPTED, "the allocation ended under it"
            trial.interrupted += 1

    def _on_again(self, event: dict[str, Any]) -> None:
        trial = self._trials[event["trial"]]
        trial.status, trial.cause = INTERRUPTED, None

    def _on_end(self, event: dict[str, Any]) -> None:
        trial = self._trials[event["trial"]]
        trial.status, trial.cause, trial.message = event["status"], event["cause"], event["message"]
        trial.objective, trial.epochs, trial.result = event["objective"], event["epochs"], event["result"]
        trial.seconds += event["seconds"]
        trial.best = event["best"] or trial.best
        trial.distrusts = trial.distrusts or event["distrusts"]
        trial.interrupted += trial.status == INTERRUPTED

    def _on_rung(self, event: dict[str, Any]) -> None:
        trial = self._trials[event["trial"]]
        trial.rungs[event["epochs"]] = event["objective"]
        trial.is_out = not event["goes_on"]

    def _on_tell(self, event: dict[str, Any]) -> None:
        self._trials[event["trial"]].is_told = True


def _kept(facts: dict[str, Any]) -> dict[str, Any]:
    """Return what a promotion needs to know of a training: the model, and how it was trained."""
    kept: dict[str, Any] = {key: facts[key] for key in ("model", "parameters", "seconds_to_best") if key in facts}
    training = {key: value for key, value in facts.get("training", {}).items() if key != "model"}
    return {**kept, "training": training}


def _judged(trial: Trial, result: TaskResult, facts: dict[str, Any]) -> tuple[str, str | None, str]:
    """Return a trial's status, cause and message after a task: whose fault it was decides who pays."""
    if result.status is Status.PARTIAL and trial.is_out:
        return STOPPED, None, f"stopped by the rule: behind at epoch {max(trial.rungs)}"
    if result.status is Status.PARTIAL:
        return INTERRUPTED, None, result.message or "stopped in order with a checkpoint"
    if result.status is Status.DONE:
        objective = facts.get("objective")
        if isinstance(objective, int | float) and math.isfinite(objective):
            return DONE, None, result.message
        if objective is None:
            return FAILED, str(Cause.BAD_CONFIG), "no validation label to compare by: give `splits.validation` a larger share"
        return FAILED, str(Cause.DIVERGED), f"the objective is {objective}"
    cause = result.cause or Cause.BUG
    resumed_badly = cause is Cause.BAD_CONFIG and len(trial.folders) > 1 and not trial.distrusts
    own_fault = (cause.is_trial_fault and not resumed_badly) or cause is Cause.BUG
    return FAILED if own_fault else INTERRUPTED, str(cause), result.message
