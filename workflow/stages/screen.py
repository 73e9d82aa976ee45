"""Predict energies and forces of candidate structures and rank them by a named score."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from model.config import ScreenConfig, Task
from model.outcome import Outcome, Status
from model.specs import Precision
from workflow.receipt import Output
from workflow.stages._inputs import Model, blend, earlier_tasks, finished, stage_in, stores, upstream
from workflow.stages._recipe import Problem, configuration
from workflow.stages._tries import Work, carry_out, verdict
from workflow.stages._upstream import converted_problems, model_stage_problems
from workflow.stages.base import Allocation, Stage, StageResult, StageSpec


class ScreenSpec(StageSpec):
    """Keys of a stage of kind `screen`."""

    candidates: str = Field(description="The source (or branch) of candidate structures.")
    score: Literal["residual_per_atom", "largest_force", "branch_spread"] = Field(
        "residual_per_atom", description="Quantity to rank by; low first (branch_spread: high first)."
    )
    top: int = Field(100, ge=1, description="Candidates to keep in the ranking.")
    batch: int = Field(64, ge=1, description="Structures in a batch.")
    precision: Precision = Field("fp32", description="Arithmetic of the model: fp64, fp32 or bf16.")


class Kind(Stage):
    """Screen on all nodes; shards that an earlier attempt finished count."""

    Spec = ScreenSpec

    def problems(self, spec: ScreenSpec, campaign: Any) -> list[Problem]:
        """Check the candidates' name and where the model comes from."""
        found = [(what, key or "candidates", remedy) for what, key, remedy in converted_problems(spec, campaign, spec.candidates)]
        return found + model_stage_problems(spec, campaign)

    def calls(self, spec: ScreenSpec, campaign: Any) -> list[tuple[str, str, int]]:  # noqa: ARG002
        """Return the one task."""
        return [("screening", "screen", (spec.nodes or 1) - spec.spares)]

    def miniature(self, spec: ScreenSpec) -> dict[str, Any]:
        """Return a short ranking."""
        return {"top": min(spec.top, 10), "batch": min(spec.batch, 16)}

    def reads(self, spec: ScreenSpec, campaign: Any) -> tuple[str, ...]:  # noqa: ARG002
        """Return the candidates."""
        return (spec.candidates,)

    def work(self, allocation: Allocation) -> StageResult:
        """Screen all candidates."""
        spec, request = ScreenSpec.model_validate(allocation.request.spec), allocation.request
        model = upstream(spec, request)
        if model is None:
            return StageResult(Status.DONE, message=f"nothing to screen with: fewer than {request.instance} models were selected")
        folders = earlier_tasks(allocation.campaign, request, "screen")
        if (old := finished(folders)) is not None:
            return _vouched(allocation, old[0], old[1])
        resume, configure = max(folders, key=_num_shards, default=None), _configure(allocation, spec, model)
        work = Work("screen", "screen", configure, allocation.num_nodes, resume, left=_left)
        task = carry_out(allocation, [work], spec.attempts)["screen"]
        summary = verdict([task], allocation)
        return _vouched(allocation, task.folder, task.outcome) if summary.status is Status.DONE and task.outcome else summary


def _num_shards(folder: Path) -> int:
    """Count what a run has finished: one that ended early may have adopted nothing of the run before."""
    return sum(1 for path in (folder / "screened").rglob("*") if path.is_file())


def _left(folder: Path) -> Path | None:
    return folder if _num_shards(folder) else None


def _configure(allocation: Allocation, spec: ScreenSpec, model: Model) -> Callable[[Path | None], Task]:
    request = allocation.request
    weights = blend(spec, request)
    needed = stores(request.inputs, [spec.candidates])
    local = stage_in(allocation, [*needed.values(), model, weights])
    fields = {
        **spec.model_dump(include={"score", "top", "batch", "precision"}),
        "checkpoint": local / model.folder,
        "candidates": local / needed[spec.candidates].folder,
        "blend": local / weights.folder if weights else None,
    }
    return lambda resume: configuration(ScreenConfig, request, {**fields, "resume": resume})


def _vouched(allocation: Allocation, folder: Path, outcome: Outcome) -> StageResult:
    outputs: list[Output] = []
    for role, path in outcome.outputs.items():
        outputs += allocation.vouch(role, folder / path)
    return StageResult(Status.DONE, outputs=tuple(outputs), result=outcome.result)
