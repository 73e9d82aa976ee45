"""The trainings of a fine-tuning stage: every task by every strategy and precision, each repeated, their learning rate chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat

from model.config import FinetuneConfig
from model.specs import Division, Precision
from workflow.finetuning import SEEDS, FinetuneTask, load_task
from workflow.keys import KeysOf
from workflow.site import merge
from workflow.stages._recipe import OWN_KEYS
from workflow.stages.base import StageSpec

Strategy = Literal["scratch", "frozen", "unfrozen"]
EPOCHS = 10
"""Epochs where neither the campaign nor the task says."""


@dataclass(frozen=True)
class Cell:
    """What is compared: one task, adapted in one way.

    Attributes:
        task: The source.
        strategy: What is trained.
        precision: Arithmetic; empty: that of the model.
    """

    task: str
    strategy: str
    precision: str = ""

    @property
    def name(self) -> str:
        """Return strategy and precision in one word."""
        return f"{self.strategy}-{self.precision}" if self.precision else self.strategy


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        cell: What it belongs to.
        rate: Learning rate; None: that of the training's keys.
        repeat: Number of the seed or fold, from 0.
        suffix: What tells its name from those of others.
    """

    cell: Cell
    rate: float | None = None
    repeat: int = 0
    suffix: str = ""

    @property
    def name(self) -> str:
        """Return the name of its task folder."""
        return f"finetune-{self.cell.task}-{self.cell.name}{self.suffix}"


class Comparison(StageSpec):
    """What a stage of kind `finetune` compares, and the trainings that it takes."""

    task: str | tuple[str, ...] | dict[str, str] = Field(
        description="The source (or branch) to fine-tune on, or several; or a mapping from sources to the tasks that ship "
        "(`finetune_tasks/<name>.yaml`), each of which says how it is divided, trained and measured."
    )
    strategies: tuple[Strategy, ...] = Field(
        ("scratch", "frozen", "unfrozen"), min_length=1, description="From random weights; the new head only; everything."
    )
    precisions: tuple[Precision, ...] = Field((), description="Precisions to compare; none: the one the model was trained in.")
    learning_rates: tuple[PositiveFloat, ...] = Field(
        (), description="Rates to choose from on validation, for each task, strategy and precision with its first seed or fold."
    )
    repeats: int | None = Field(
        None,
        ge=1,
        description="Seeds that each training is repeated with, or folds of a task that has some; none: all folds, three seeds "
        "of a task that ships, one of another.",
    )
    training: Annotated[dict[str, Any], KeysOf(FinetuneConfig, OWN_KEYS)] = Field(
        {}, description="Keys of the training: optimizer, loss, batch, precision, seed, …; over those of a task that ships."
    )
    epochs: int | None = Field(None, ge=1, description=f"Epochs of every training; none: the task's own, or {EPOCHS}.")

    @property
    def tasks(self) -> tuple[str, ...]:
        """Return the sources."""
        return (self.task,) if isinstance(self.task, str) else tuple(self.task)

    def protocol(self, task: str) -> FinetuneTask | None:
        """Return what the task that ships says for a source; None where it has none.

        Raises:
            CampaignError: No such task.
        """
        return load_task(self.task[task]) if isinstance(self.task, dict) else None

    def division_of(self, task: str) -> Division | None:
        """Return how a task is divided by rules of its own; None where it goes by the campaign's splits.

        Raises:
            CampaignError: No such task.
        """
        protocol = self.protocol(task)
        return None if protocol is None else protocol.division

    def repeats_of(self, task: str) -> int:
        """Return how often each training of a task is made."""
        protocol = self.protocol(task)
        if protocol is not None and protocol.num_folds:
            return min(self.repeats or protocol.num_folds, protocol.num_folds)
        return self.repeats or (1 if protocol is None else SEEDS)

    def epochs_of(self, task: str) -> int:
        """Return the epochs of each training of a task."""
        protocol = self.protocol(task)
        return self.epochs or (protocol.epochs if protocol else EPOCHS)

    @property
    def cells(self) -> list[Cell]:
        """Return all that is compared."""
        precisions = self.precisions or ("",)
        return [Cell(task, s, p) for task in self.tasks for s in self.strategies for p in precisions]

    @property
    def num_runs(self) -> int:
        """Return the number of trainings."""
        return sum(max(1, len(self.learning_rates)) + self.repeats_of(cell.task) - 1 for cell in self.cells)

    @property
    def product(self) -> str:
        """Say what the number of trainings is the product of."""
        counts = ((len(self.tasks), "task", "tasks"), (len(self.strategies), "strategy", "strategies"))
        factors = [_many(*each) for each in (*counts, (len(self.precisions), "precision", "precisions")) if each[0]]
        repeats = sorted({self.repeats_of(task) for task in self.tasks})
        often = f"{repeats[0]} to {repeats[-1]}" if len(repeats) > 1 else str(repeats[0])
        if self.learning_rates:
            chosen = f"{_many(len(self.learning_rates), 'learning rate', 'learning rates')} with the first seed or fold"
            factors.append(f"({chosen}, the best of them with the rest of {often})")
        elif repeats[-1] > 1:
            factors.append(f"{often} seeds or folds")
        return " × ".join(factors)

    def first_runs(self) -> list[Run]:
        """Return what begins at once: all trainings, or those of the first seed or fold that choose the learning rates."""
        if not self.learning_rates:
            return [self._repeat(cell, None, number) for cell in self.cells for number in range(self.repeats_of(cell.task))]
        places = enumerate(self.learning_rates)
        return [Run(cell, rate, 0, f"-rate{place}") for place, rate in places for cell in self.cells]

    def later_runs(self, chosen: Mapping[Cell, float]) -> list[Run]:
        """Return the other seeds or folds of what has a learning rate by now."""
        if not self.learning_rates:
            return []
        numbers = {cell: range(1, self.repeats_of(cell.task)) for cell in chosen}
        return [self._repeat(cell, chosen[cell], number) for cell, each in numbers.items() for number in each]

    def _repeat(self, cell: Cell, rate: float | None, number: int) -> Run:
        return Run(cell, rate, number, f"-{number}" if self.repeats_of(cell.task) > 1 else "")

    def keys_of(self, run: Run, training: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keys of a run's training.

        Args:
            run: The run.
            training: Keys that it takes over from the training of its model.
        """
        protocol = self.protocol(run.cell.task)
        keys: dict[str, Any] = {**training}
        if protocol is not None:
            keys = merge(keys, {"batch": protocol.batch, **protocol.training})
        keys = merge(keys, self.training)
        if run.cell.precision:
            keys["precision"] = run.cell.precision
        if run.rate is not None:
            keys = merge(keys, {"optimizer": {"learning_rate": run.rate}})
        if protocol is not None and protocol.division is not None:
            keys["division"] = protocol.division.model_dump() | ({"fold": run.repeat} if protocol.num_folds else {})
        if protocol is None or not protocol.num_folds:
            keys["seed"] = int(keys.get("seed", 0)) + run.repeat
        return keys


def _many(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"


def best_rates(objectives: Iterable[tuple[Run, float | None]]) -> dict[Cell, Run]:
    """Return, of each cell's runs that ended well, the one with the lowest objective on validation."""
    best: dict[Cell, tuple[float, Run]] = {}
    for run, objective in objectives:
        if objective is not None and (run.cell not in best or objective < best[run.cell][0]):
            best[run.cell] = (objective, run)
    return {cell: run for cell, (_, run) in best.items()}
