"""Fine-tune a trained model on one task in several ways, side by side in one allocation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from model.config import FinetuneConfig, Task
from model.outcome import Cause, Outcome, Status, write_json
from workflow.keys import KeysOf
from workflow.stages._inputs import Model, earlier_tasks, finished, newest_checkpoint, stage_in, stores, upstream
from workflow.stages._recipe import OWN_KEYS, Problem, branches, configuration, inherited, splits, training_problems
from workflow.stages._tries import Work, carry_out, verdict
from workflow.stages._upstream import converted_problems, model_stage_problems
from workflow.stages.base import Allocation, Stage, StageResult, StageSpec, TaskResult

Strategy = Literal["scratch", "frozen", "unfrozen"]


class FinetuneSpec(StageSpec):
    """Keys of a stage of kind `finetune`."""

    task: str = Field(description="The source (or branch) to fine-tune on.")
    strategies: tuple[Strategy, ...] = Field(
        ("scratch", "frozen", "unfrozen"), min_length=1, description="From random weights; the new head only; everything."
    )
    training: Annotated[dict[str, Any], KeysOf(FinetuneConfig, OWN_KEYS)] = Field(
        {}, description="Keys of the training: optimizer, loss, batch, precision, seed, …."
    )
    epochs: int = Field(10, ge=1, description="Epochs of each strategy.")


class Kind(Stage):
    """Give each strategy an equal share of the nodes and compare them in a table."""

    Spec = FinetuneSpec

    def problems(self, spec: FinetuneSpec, campaign: Any) -> list[Problem]:
        """Check the task's name, the training keys and where the model comes from."""
        found = [(what, key or "task", remedy) for what, key, remedy in converted_problems(spec, campaign, spec.task)]
        if len(set(spec.strategies)) < len(spec.strategies):
            found.append(("a strategy stands twice", "strategies", "Name each one once."))
        return found + training_problems(spec.training, FinetuneConfig) + model_stage_problems(spec, campaign)

    def work(self, allocation: Allocation) -> StageResult:
        """Train every strategy to its end; what an earlier attempt finished counts."""
        spec, request = FinetuneSpec.model_validate(allocation.request.spec), allocation.request
        model = upstream(spec, request)
        if model is None:
            return StageResult(Status.DONE, message=f"nothing to fine-tune: fewer than {request.instance} models were selected")
        folders = {each: earlier_tasks(allocation.campaign, request, f"finetune-{each}") for each in spec.strategies}
        done: dict[str, tuple[Path, Outcome]] = {
            each: old for each in spec.strategies if (old := finished(folders[each])) is not None
        }
        missing = [each for each in spec.strategies if each not in done]
        nodes = max(1, allocation.num_nodes // max(1, len(missing)))
        configure = _configurations(allocation, spec, model) if missing else {}
        works = [Work(f"finetune-{s}", "finetune", configure[s], nodes, newest_checkpoint(folders[s])) for s in missing]
        results = carry_out(allocation, works, spec.attempts)
        done |= {s: (r.folder, r.outcome) for s in missing if (r := results[f"finetune-{s}"]).status is Status.DONE and r.outcome}
        return _result(allocation, spec, done, list(results.values()))


def _configurations(allocation: Allocation, spec: FinetuneSpec, model: Model) -> dict[str, Callable[[Path | None], Task]]:
    request = allocation.request
    needed = stores(request.inputs, [spec.task])
    local = stage_in(allocation, [*needed.values(), model])
    fields = {
        **inherited(model.training, spec.training),
        "model": model.spec,
        "branches": branches(request, needed, local),
        "splits": splits(request),
        "epochs": spec.epochs,
    }

    def make(strategy: str) -> Callable[[Path | None], Task]:
        own = {**fields, "strategy": strategy, "checkpoint": None if strategy == "scratch" else local / model.folder}
        return lambda resume: configuration(FinetuneConfig, request, {**own, "resume": resume})

    return {strategy: make(strategy) for strategy in spec.strategies}


def _result(
    allocation: Allocation, spec: FinetuneSpec, done: dict[str, tuple[Path, Outcome]], results: list[TaskResult]
) -> StageResult:
    own_faults = {r.name: r for r in results if r.cause in (Cause.OOM, Cause.DIVERGED)}
    summary = verdict([r for r in results if r.name not in own_faults or not done], allocation)
    rows = [_row(spec.task, s, done[s][1].result) for s in spec.strategies if s in done]
    rows += [
        {"strategy": r.name.removeprefix("finetune-").partition(".")[0], "failed": r.cause, "message": r.message}
        for r in own_faults.values()
    ]
    outputs = [each for s, (folder, outcome) in done.items() for each in _checkpoint(allocation, s, folder, outcome)]
    if summary.status is Status.DONE:
        table = allocation.folder.run / "table.json"
        write_json(table, rows)
        outputs += allocation.vouch("table", table)
    result = {"task": spec.task, "table": rows}
    return StageResult(summary.status, summary.cause, summary.message, tuple(outputs), result, summary.evidence)


def _row(task: str, strategy: str, facts: dict[str, Any]) -> dict[str, Any]:
    return {
        "strategy": strategy,
        "objective": facts.get("objective"),
        "epochs": facts.get("epochs"),
        "seconds_to_best": facts.get("seconds_to_best"),
        "split": "test" if "test" in facts else "validation",
        "parameters": facts.get("parameters"),
        "checkpoints": facts.get("checkpoints"),
        **facts.get("test", facts.get("metrics", {})).get(task, {}),
    }


def _checkpoint(allocation: Allocation, strategy: str, folder: Path, outcome: Outcome) -> tuple[Any, ...]:
    """Vouch for a strategy's best checkpoint and for its sample of predictions beside labels."""
    outputs = outcome.outputs
    best, parity = outputs.get("best") or outputs.get("last"), outputs.get("parity")
    checkpoint = allocation.vouch(f"checkpoint:{strategy}", folder / best) if best else ()
    return (*checkpoint, *(allocation.vouch(f"parity:{strategy}", folder / parity) if parity else ()))
