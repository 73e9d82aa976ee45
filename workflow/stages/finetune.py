"""Fine-tune a trained model on tasks, each in several ways, packed into one allocation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from model.config import FinetuneConfig, Task
from model.outcome import Cause, Outcome, Status, write_json
from workflow.keys import KeysOf
from workflow.stages._inputs import Model, earlier_tasks, finished, newest_checkpoint, stage_in, stores, upstream
from workflow.stages._recipe import (
    OWN_KEYS,
    Problem,
    branches,
    checkpoint_every_s,
    configuration,
    inherited,
    splits,
    training_problems,
)
from workflow.stages._tries import Work, carry_out, verdict
from workflow.stages._upstream import converted_problems, model_stage_problems
from workflow.stages.base import Allocation, Pieces, Stage, StageResult, StageSpec, TaskResult

Strategy = Literal["scratch", "frozen", "unfrozen"]
Run = tuple[str, str]
"""Task and strategy."""


class FinetuneSpec(StageSpec):
    """Keys of a stage of kind `finetune`."""

    task: str | tuple[str, ...] = Field(description="The source (or branch) to fine-tune on, or several of them.")
    strategies: tuple[Strategy, ...] = Field(
        ("scratch", "frozen", "unfrozen"), min_length=1, description="From random weights; the new head only; everything."
    )
    training: Annotated[dict[str, Any], KeysOf(FinetuneConfig, OWN_KEYS)] = Field(
        {}, description="Keys of the training: optimizer, loss, batch, precision, seed, …."
    )
    epochs: int = Field(10, ge=1, description="Epochs of each strategy.")

    @property
    def tasks(self) -> tuple[str, ...]:
        """Return the tasks."""
        return (self.task,) if isinstance(self.task, str) else self.task

    @property
    def runs(self) -> list[Run]:
        """Return every task with every strategy."""
        return [(task, strategy) for task in self.tasks for strategy in self.strategies]


class Kind(Stage):
    """Give each task and strategy an equal share of the nodes and compare them in a table."""

    Spec = FinetuneSpec

    def problems(self, spec: FinetuneSpec, campaign: Any) -> list[Problem]:
        """Check the tasks' names, the training keys and where the model comes from."""
        found = [(what, key or "task", remedy) for what, key, remedy in converted_problems(spec, campaign, *spec.tasks)]
        if len(set(spec.strategies)) < len(spec.strategies):
            found.append(("a strategy stands twice", "strategies", "Name each one once."))
        if not spec.tasks or len(set(spec.tasks)) < len(spec.tasks):
            found.append(("no task is named, or one twice", "task", "Name each task once."))
        return found + training_problems(spec.training, FinetuneConfig) + model_stage_problems(spec, campaign)

    def calls(self, spec: FinetuneSpec, campaign: Any) -> list[tuple[str, str, int]]:  # noqa: ARG002
        """Return one of the runs."""
        return [("each run", "finetune", max(1, ((spec.nodes or 1) - spec.spares) // len(spec.runs)))]

    def pieces(self, spec: FinetuneSpec, campaign: Any) -> Pieces:  # noqa: ARG002
        """Return every task with every strategy."""
        nodes = max(1, ((spec.nodes or 1) - spec.spares) // len(spec.runs))
        return Pieces(len(spec.runs), nodes, True, checkpoint_every_s(spec.training), spec.epochs)

    def miniature(self, spec: FinetuneSpec) -> dict[str, Any]:  # noqa: ARG002
        """Return two epochs of each run."""
        return {"epochs": 2, "training": {"batch": 8}}

    def reads(self, spec: FinetuneSpec, campaign: Any) -> tuple[str, ...]:  # noqa: ARG002
        """Return the tasks."""
        return spec.tasks

    def work(self, allocation: Allocation) -> StageResult:
        """Train every strategy of every task to its end; what an earlier attempt finished counts."""
        spec, request = FinetuneSpec.model_validate(allocation.request.spec), allocation.request
        model = upstream(spec, request)
        if model is None:
            return StageResult(Status.DONE, message=f"nothing to fine-tune: fewer than {request.instance} models were selected")
        folders = {run: earlier_tasks(allocation.campaign, request, _name(run)) for run in spec.runs}
        done: dict[Run, tuple[Path, Outcome]] = {run: old for run in spec.runs if (old := finished(folders[run])) is not None}
        missing = [run for run in spec.runs if run not in done]
        allocation.progress(runs={"total": len(spec.runs), "done": len(done)})
        nodes = max(1, allocation.num_nodes // max(1, len(missing)))
        configure = _configurations(allocation, spec, model) if missing else {}
        works = [Work(_name(run), "finetune", configure[run], nodes, newest_checkpoint(folders[run])) for run in missing]
        results = carry_out(allocation, works, spec.attempts)
        done |= {run: (r.folder, r.outcome) for run in missing if (r := results[_name(run)]).status is Status.DONE and r.outcome}
        allocation.progress(runs={"total": len(spec.runs), "done": len(done)})
        return _result(allocation, spec, done, list(results.values()))


def _name(run: Run) -> str:
    return f"finetune-{run[0]}-{run[1]}"


def _configurations(allocation: Allocation, spec: FinetuneSpec, model: Model) -> dict[Run, Callable[[Path | None], Task]]:
    request = allocation.request
    needed = stores(request.inputs, spec.tasks)
    local = stage_in(allocation, [*needed.values(), model])
    fields = {
        **inherited(model.training, spec.training),
        "model": model.spec,
        "splits": splits(request),
        "epochs": spec.epochs,
    }

    def make(run: Run) -> Callable[[Path | None], Task]:
        task, strategy = run
        of_task = {"branches": branches(request, {task: needed[task]}, local), "strategy": strategy}
        own = {**fields, **of_task, "checkpoint": None if strategy == "scratch" else local / model.folder}
        return lambda resume: configuration(FinetuneConfig, request, {**own, "resume": resume})

    return {run: make(run) for run in spec.runs}


def _result(
    allocation: Allocation, spec: FinetuneSpec, done: dict[Run, tuple[Path, Outcome]], results: list[TaskResult]
) -> StageResult:
    own_faults = {r.name: r for r in results if r.cause in (Cause.OOM, Cause.DIVERGED)}
    summary = verdict([r for r in results if r.name not in own_faults or not done], allocation)
    rows = [_row(run, done[run][1].result) for run in spec.runs if run in done]
    rows += [_failed(run, r) for run in spec.runs for r in own_faults.values() if r.name.partition(".")[0] == _name(run)]
    outputs = [each for run, (folder, outcome) in done.items() for each in _checkpoint(allocation, run, folder, outcome)]
    if summary.status is Status.DONE:
        table = allocation.folder.run / "table.json"
        write_json(table, rows)
        outputs += allocation.vouch("table", table)
    result = {"tasks": list(spec.tasks), "table": rows}
    return StageResult(summary.status, summary.cause, summary.message, tuple(outputs), result, summary.evidence)


def _row(run: Run, facts: dict[str, Any]) -> dict[str, Any]:
    task, strategy = run
    metrics = facts.get("test", facts.get("metrics", {})).get(task, {})
    return {
        "task": task,
        "strategy": strategy,
        "kind": "energy",
        "objective": facts.get("objective"),
        "epochs": facts.get("epochs"),
        "seconds_to_best": facts.get("seconds_to_best"),
        "split": "test" if "test" in facts else "validation",
        "parameters": facts.get("parameters"),
        "checkpoints": facts.get("checkpoints"),
        **metrics,
    }


def _failed(run: Run, result: TaskResult) -> dict[str, Any]:
    return {"task": run[0], "strategy": run[1], "failed": result.cause, "message": result.message}


def _checkpoint(allocation: Allocation, run: Run, folder: Path, outcome: Outcome) -> tuple[Any, ...]:
    """Vouch for a run's best checkpoint and for its sample of predictions beside labels."""
    outputs, role = outcome.outputs, f"{run[0]}:{run[1]}"
    best, parity = outputs.get("best") or outputs.get("last"), outputs.get("parity")
    checkpoint = allocation.vouch(f"checkpoint:{role}", folder / best) if best else ()
    return (*checkpoint, *(allocation.vouch(f"parity:{role}", folder / parity) if parity else ()))
