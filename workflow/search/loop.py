"""Search inside an allocation: keep its nodes busy with trials, tell the optimizer what became of them."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from model.config import TrainConfig
from model.outcome import CampaignError, Cause
from workflow.search.space import Point
from workflow.search.stopping import Halving, best_until
from workflow.search.trials import DONE, FAILED, INTERRUPTED, RUNNING, STOPPED, WAITING, Trial, Trials
from workflow.stages._inputs import newest_checkpoint
from workflow.stages.base import Allocation, TaskResult

_WAIT_S = 1.0


class Suggests(Protocol):
    """What the loop needs of an optimizer."""

    def ask(self, count: int, first: int) -> list[Point]:
        """Suggest up to `count` new points and record them as trials `first`, ….."""

    def tell(self, trial: int, point: Point, value: float | str) -> None:
        """Take in a result."""


@dataclass(frozen=True)
class Plan:
    """What a search may spend, and how a point becomes a training.

    Attributes:
        evaluations: Most trials.
        nodes: Nodes of a trial.
        tries: How often a trial may fail in one allocation through no fault of its own.
        configure: Makes a trial's configuration, given its point and the checkpoint to go on from.
        refusal: Says why a configuration cannot run on these devices, with the cause; None where it can.
        rule: Says when a trial is worth no more epochs; None: never.
    """

    evaluations: int
    nodes: int
    tries: int
    configure: Callable[[Point, Path | None], TrainConfig]
    refusal: Callable[[TrainConfig], tuple[Cause, str] | None]
    rule: Halving | None = None


class Search:
    """One link of a search.

    Attributes:
        trials: All trials of this and earlier links.
        bug: The task whose fault is the program's own; it ends the search.
        is_exhausted: Whether the optimizer has no further point.
    """

    def __init__(self, allocation: Allocation, plan: Plan, optimizer: Suggests, trials: Trials) -> None:
        """Take up the search where the record leaves it."""
        self.trials = trials
        self.bug: TaskResult | None = None
        self.is_exhausted = False
        self._allocation, self._plan, self._optimizer = allocation, plan, optimizer
        self._offered_s = allocation.time_left()
        self._running: dict[Future[TaskResult], Trial] = {}
        self._failures: Counter[int] = Counter()
        self._in_vain = 0
        self._is_over = False

    def run(self) -> None:
        """Launch, await and tell until the caps are reached or the allocation ends."""
        self._tell()
        self._launch()
        while self._running:
            self._publish()
            self._await()
            self._compare()
            self._tell()
            self._launch()
        self._publish()

    def _launch(self) -> None:
        for trial in self._waiting():
            if self._free_slots() > 0:
                self._start(trial)
        while (room := min(self._free_slots(), self._plan.evaluations - len(self.trials))) > 0 and not self.is_exhausted:
            fresh = self.trials.add(self._optimizer.ask(room, len(self.trials) + 1))
            self.is_exhausted = not fresh
            for trial in fresh:
                self._start(trial)

    def _waiting(self) -> list[Trial]:
        open_ = [trial for trial in self.trials if trial.status in (WAITING, INTERRUPTED)]
        return [trial for trial in open_ if self._failures[trial.id] < self._plan.tries]

    def _free_slots(self) -> int:
        if self.bug is not None or self._is_over or self._allocation.is_stopping():
            return 0
        return self._allocation.num_nodes // self._plan.nodes - len(self._running)

    def _start(self, trial: Trial) -> None:
        campaign = self._allocation.campaign
        resume = None if trial.distrusts else newest_checkpoint(campaign / each for each in reversed(trial.folders))
        try:
            config = self._plan.configure(trial.point, resume)
        except CampaignError as error:
            return self._refuse(trial, Cause.BAD_CONFIG, str(error))
        if refused := self._plan.refusal(config):
            return self._refuse(trial, *refused)
        number = len(trial.folders) + 1
        name = f"trial-{trial.id}" if number == 1 else f"trial-{trial.id}-{number}"
        folder = self._allocation.task_folder(name).relative_to(campaign)
        self.trials.start(trial, str(folder), str(resume) if resume else None)
        future = self._allocation.task(name, "train", config, nodes=self._plan.nodes, estimate_s=self._least_s())
        self._running[future] = trial
        return None

    def _refuse(self, trial: Trial, cause: Cause, message: str) -> None:
        self.trials.refuse(trial, cause, message)
        self._tell()

    def _await(self) -> None:
        ended = wait(self._running, timeout=_WAIT_S, return_when=FIRST_COMPLETED).done
        for future in sorted(ended, key=lambda each: self._running[each].id):
            self._settle(self._running.pop(future), future.result())

    def _compare(self) -> None:
        """Hold running trials that have reached a rung against the others, and stop those that fall behind."""
        rule = self._plan.rule
        if rule is None:
            return
        for trial in self._running.values():
            folder = self._allocation.campaign / trial.folders[-1]
            for rung in rule.rungs:
                objective = None if trial.is_out or rung in trial.rungs else best_until(folder, rung)
                if objective is not None:
                    others = [other.rungs[rung] for other in self.trials if rung in other.rungs]
                    self.trials.reach(trial, rung, objective, goes_on=rule.goes_on(objective, others))
            if trial.is_out:
                self._allocation.stop_task(folder.name)

    def _settle(self, trial: Trial, result: TaskResult) -> None:
        """Take in how a task ended; where nothing but faults of the machine came for long, spend no more trials on it here."""
        self.trials.end(trial, result, self._allocation.campaign)
        if trial.cause == Cause.BUG:
            self.bug = result
        elif trial.cause == Cause.WALLTIME or (trial.status == INTERRUPTED and not result.nodes):
            self._is_over = True  # what does not fit now, into the time or on the nodes that are left, fits no later
        elif trial.status == INTERRUPTED and trial.cause is not None:
            self._failures[trial.id] += 1
            self._in_vain += 1
            self._is_over |= self._in_vain >= self._plan.tries * max(1, self._allocation.num_nodes // self._plan.nodes)
        else:
            self._in_vain = 0

    def _tell(self) -> None:
        for trial in self.trials:
            if trial.is_settled and not trial.is_told and trial.cause != Cause.BUG:
                self._optimizer.tell(trial.id, trial.point, trial.value)
                trial.is_told = True

    def _least_s(self) -> float:
        """Return the seconds that must be left for a trial to start: those of an epoch so far, or half of what this job offered.

        Where an epoch is longer than a job, no later job offers more, and a trial goes on from the checkpoints within its epoch.
        """
        known = [trial.seconds / trial.epochs for trial in self.trials if trial.status == DONE and trial.epochs]
        return min(statistics.median(known), self._offered_s / 2) if known else 0.0

    def _publish(self) -> None:
        self._allocation.progress(**summary(self.trials, self._plan.evaluations))


def summary(trials: Trials, evaluations: int) -> dict[str, Any]:
    """Return what `status` shows of a search: counts by state, failures by cause, the best so far."""
    count = Counter(trial.status for trial in trials)
    causes = Counter(str(trial.cause) for trial in trials if trial.status == FAILED)
    best = best_of(trials)
    return {
        "trials": {
            "total": evaluations,
            "done": count[DONE],
            "running": count[RUNNING],
            "interrupted": count[INTERRUPTED],
            "stopped": count[STOPPED],
            "failed": dict(sorted(causes.items())),
        },
        "best": {"trial": best[0].id, "objective": best[0].objective} if best else None,
    }


def best_of(trials: Trials) -> list[Trial]:
    """Return the trials that succeeded, best first."""
    done = [trial for trial in trials if trial.status == DONE]
    return sorted(done, key=lambda trial: (trial.objective, trial.id))
