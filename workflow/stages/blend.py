"""Learn how much each branch of a trained model counts, from composition alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from model.config import BlendConfig, Task
from model.outcome import Outcome, Status
from workflow.keys import KeysOf
from workflow.stages._inputs import Model, earlier_tasks, finished, stage_in, stores, upstream
from workflow.stages._recipe import OWN_KEYS, Problem, branches, config_problems, configuration, splits
from workflow.stages._tries import Work, carry_out, verdict
from workflow.stages._upstream import converted_problems, model_stage_problems
from workflow.stages.base import Allocation, Pieces, Stage, StageResult, StageSpec


class BlendSpec(StageSpec):
    """Keys of a stage of kind `blend`."""

    options: Annotated[dict[str, Any], KeysOf(BlendConfig, OWN_KEYS - {"epochs"})] = Field(
        {}, description="Keys of the blend: hidden, epochs, learning_rate, batch, precision, seed."
    )


class Kind(Stage):
    """Train the branch-weight network on a frozen model, on all nodes."""

    Spec = BlendSpec

    def problems(self, spec: BlendSpec, campaign: Any) -> list[Problem]:
        """Check the options and where the model comes from."""
        found = config_problems(BlendConfig, spec.options, "options", {"checkpoint": "x", "branches": {}}, OWN_KEYS - {"epochs"})
        return found + converted_problems(spec, campaign) + model_stage_problems(spec, campaign)

    def calls(self, spec: BlendSpec, campaign: Any) -> list[tuple[str, str, int]]:  # noqa: ARG002
        """Return the one task."""
        return [("branch weights", "blend", (spec.nodes or 1) - spec.spares)]

    def pieces(self, spec: BlendSpec, campaign: Any) -> Pieces:  # noqa: ARG002
        """Return the one task, which begins anew when it is interrupted."""
        return Pieces(1, max(1, (spec.nodes or 1) - spec.spares), keeps=False)

    def miniature(self, spec: BlendSpec) -> dict[str, Any]:  # noqa: ARG002
        """Return a few epochs."""
        return {"options": {"epochs": 3}}

    def reads(self, spec: BlendSpec, campaign: Any) -> tuple[str, ...]:  # noqa: ARG002
        """Return all branches."""
        return tuple(campaign.header.branches)

    def work(self, allocation: Allocation) -> StageResult:
        """Train the blend; a finished one of an earlier attempt counts."""
        spec, request = BlendSpec.model_validate(allocation.request.spec), allocation.request
        model = upstream(spec, request)
        if model is None:
            return StageResult(Status.DONE, message=f"nothing to blend: fewer than {request.instance} models were selected")
        if (old := finished(earlier_tasks(allocation.campaign, request, "blend"))) is not None:
            return _vouched(allocation, StageResult(Status.DONE), old[0], old[1])
        work = Work("blend", "blend", _configure(allocation, spec, model), allocation.num_nodes)
        task = carry_out(allocation, [work], spec.attempts)["blend"]
        summary = verdict([task], allocation)
        if summary.status is not Status.DONE or task.outcome is None:
            return summary
        return _vouched(allocation, summary, task.folder, task.outcome)


def _configure(allocation: Allocation, spec: BlendSpec, model: Model) -> Callable[[Path | None], Task]:
    request = allocation.request
    needed = stores(request.inputs, request.branches)
    local = stage_in(allocation, [*needed.values(), model])
    fields = {
        **spec.options,
        "checkpoint": local / model.folder,
        "branches": branches(request, needed, local),
        "splits": splits(request),
    }
    return lambda _: configuration(BlendConfig, request, fields)


def _vouched(allocation: Allocation, summary: StageResult, folder: Path, outcome: Outcome) -> StageResult:
    blend = folder / outcome.outputs["blend"]
    result = {**outcome.result, "blend": str(blend.relative_to(allocation.campaign))}
    return StageResult(summary.status, message=summary.message, outputs=allocation.vouch("blend", blend), result=result)
