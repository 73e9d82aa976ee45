"""Train one model on all nodes, over as many links as it takes, and test it on what no training saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from model.config import EvaluateConfig, Task, TrainConfig
from model.outcome import Outcome, Status
from workflow.stages._inputs import Model, earlier_tasks, finished, newest_checkpoint, stage_in, stores, upstream
from workflow.stages._recipe import (
    BackboneChoice,
    ModelKeys,
    Problem,
    TrainingKeys,
    branches,
    checkpoint_every_s,
    configuration,
    draws_problems,
    inherited,
    model_fields,
    model_problems,
    small_model,
    splits,
    training_problems,
    validation_problems,
    width_problems,
)
from workflow.stages._tries import Work, carry_out, verdict
from workflow.stages._upstream import converted_problems, model_stage
from workflow.stages.base import Allocation, Pieces, Stage, StageResult, StageSpec, TaskResult
from workflow.validation import nearest


class TrainSpec(StageSpec):
    """Keys of a stage of kind `train`."""

    backbone: BackboneChoice = Field(
        None, description="Backbone by name, or `name` with its options; none where a promotion gives the model."
    )
    model: ModelKeys = Field({}, description="Keys of the model beside its backbone: cutoff, head_layers, readout, ….")
    training: TrainingKeys = Field({}, description="Keys of the training: optimizer, loss, batch, precision, layout, seed, ….")
    branches: tuple[str, ...] | None = Field(
        None, description="Branches to train on; none: all. A promoted model gets fresh heads for those that it lacks."
    )
    epochs: int = Field(10, ge=1, description="Epochs to train in all links together.")
    suffices: int | None = Field(None, ge=1, description="Epochs that count as done when the links run out; none: all of them.")
    start: Literal["checkpoint", "scratch"] = Field(
        "checkpoint", description="A promoted model goes on from its checkpoint's weights, or from random ones."
    )


class Kind(Stage):
    """Train a model given in the file or promoted, resumed exactly from its own last checkpoint; test its best."""

    Spec = TrainSpec

    def problems(self, spec: TrainSpec, campaign: Any) -> list[Problem]:
        """Check model, training keys and needs."""
        found = training_problems(spec.training) + _data_problems(spec, campaign)
        found += validation_problems(spec.training, campaign.header.splits)
        found += width_problems(spec.training, (spec.nodes or 1) - spec.spares, campaign.site)
        given = spec.backbone is not None or "backbone" in spec.model
        promotes = model_stage(spec, campaign, ("promote",))
        if given:
            found += model_problems(model_fields(spec.backbone, spec.model))
        elif promotes is None:
            found.append(("no model to train", "backbone", "Name a `backbone`, or give `each` a stage of kind promote."))
        if given and promotes is not None:
            remedy = "Take `backbone` away, or do not need the promotion."
            found.append((f"the model is given here and promoted by '{promotes}'", "backbone", remedy))
        if spec.model and not given and spec.start == "checkpoint":
            remedy = "Take `model` away, or begin anew with `start: scratch`."
            found.append(("the promoted checkpoint settles the model", "model", remedy))
        if spec.suffices is not None and spec.suffices > spec.epochs:
            found.append((f"suffices: {spec.suffices} is more than epochs: {spec.epochs}", "suffices", "Give at most `epochs`."))
        return found

    def models(self, spec: TrainSpec) -> list[dict[str, Any]]:
        """Return the model that the file gives; a promoted one is known only when it has been promoted."""
        given = spec.backbone is not None or "backbone" in spec.model
        return [model_fields(spec.backbone, spec.model)] if given else []

    def calls(self, spec: TrainSpec, campaign: Any) -> list[tuple[str, str, int]]:  # noqa: ARG002
        """Return the training and its test."""
        return [
            (what, command, (spec.nodes or 1) - spec.spares) for what, command in (("training", "train"), ("test", "evaluate"))
        ]

    def pieces(self, spec: TrainSpec, campaign: Any) -> Pieces:  # noqa: ARG002
        """Return the one training; `suffices` epochs count as done when the links run out."""
        enough = (spec.suffices or spec.epochs) / spec.epochs
        return Pieces(1, (spec.nodes or 1) - spec.spares, True, checkpoint_every_s(spec.training), spec.epochs, enough)

    def miniature(self, spec: TrainSpec) -> dict[str, Any]:
        """Return a few epochs with checkpoints every second; one link may be killed, one end early, one finish."""
        model = {"model": small_model(spec.model)} if spec.backbone is not None or "backbone" in spec.model else {}
        return {"links": 3, "epochs": 4, "suffices": None, "training": {"batch": 16, "checkpoint_every_s": 1.0}, **model}

    def reads(self, spec: TrainSpec, campaign: Any) -> tuple[str, ...]:
        """Return the branches."""
        return spec.branches or tuple(campaign.header.branches)

    def work(self, allocation: Allocation) -> StageResult:
        """Train until done or until the end of the allocation."""
        spec, request = TrainSpec.model_validate(allocation.request.spec), allocation.request
        given = spec.backbone is not None or "backbone" in spec.model
        model = None if given else upstream(spec, request)
        if model is None and not given:
            return StageResult(Status.DONE, message=f"nothing to train: fewer than {request.instance} models were selected")
        folders = earlier_tasks(allocation.campaign, request, "train")
        if (old := finished(folders)) is not None:
            done = StageResult(Status.DONE, message=old[1].message)
            return _tested(allocation, spec, _vouched(allocation, done, old[0], old[1]))
        work = Work("train", "train", _configure(allocation, spec, model), allocation.num_nodes, newest_checkpoint(folders))
        return _tested(allocation, spec, _result(allocation, spec, carry_out(allocation, [work], spec.attempts)["train"]))


def _data_problems(spec: TrainSpec, campaign: Any) -> list[Problem]:
    """Say which of the branches there are not, or nothing converts."""
    known, named = list(campaign.header.branches), spec.branches or ()
    if spec.branches == ():
        return [("no branch is named", "branches", "Name some, or leave the key out: then it trains on all.")]
    if len(set(named)) < len(named):
        return [("a branch stands twice", "branches", "Name each one once; `share` of the branch says how often it is drawn.")]
    unknown = [
        (f"no branch '{name}'", "branches", f"{nearest(name, known)}Branches: {', '.join(known) or 'none'}.")
        for name in named
        if name not in known
    ]
    return unknown or converted_problems(spec, campaign, *named) + draws_problems(campaign, *named)


def _configure(allocation: Allocation, spec: TrainSpec, model: Model | None) -> Callable[[Path | None], Task]:
    request = allocation.request
    start = model if spec.start == "checkpoint" else None
    needed = stores(request.inputs, spec.branches or request.branches)
    local = stage_in(allocation, [*needed.values(), start])
    checkpoint = local / start.folder if start else None
    fields = {
        **(inherited(model.training, spec.training) if model else spec.training),
        "model": {**model.spec, **spec.model} if model else model_fields(spec.backbone, spec.model),
        "branches": branches(request, needed, local),
        "splits": splits(request),
        "epochs": spec.epochs,
    }

    def configure(resume: Path | None) -> Task:
        return configuration(TrainConfig, request, {**fields, "resume": resume, "init": None if resume else checkpoint})

    return configure


def _result(allocation: Allocation, spec: TrainSpec, task: TaskResult) -> StageResult:
    summary, outcome = verdict([task], allocation), task.outcome
    if outcome is None or summary.status is Status.FAILED:
        return summary
    reached = int(outcome.result.get("epochs", 0))
    is_last = allocation.request.link == allocation.request.links
    if summary.status is Status.PARTIAL and is_last and spec.suffices is not None and reached >= spec.suffices:
        message = f"the links ran out at epoch {reached} of {spec.epochs}; {spec.suffices} suffice"
        summary = StageResult(Status.DONE, message=message)
    if summary.status is Status.DONE:
        summary = _adding(summary, outcome.message)
    return _vouched(allocation, summary, task.folder, outcome)


def _vouched(allocation: Allocation, summary: StageResult, folder: Path, outcome: Outcome) -> StageResult:
    """Vouch for the best checkpoint, or for the last one where no validation has been reached."""
    facts, outputs = outcome.result, outcome.outputs
    role = next((each for each in ("best", "last") if each in outputs and (folder / outputs[each]).is_dir()), None)
    if role is None:
        return StageResult(summary.status, summary.cause, summary.message, result=facts, evidence=summary.evidence)
    checkpoint = folder / outputs[role]
    result = {"seconds": 0.0, **facts, "checkpoint": str(checkpoint.relative_to(allocation.campaign))}
    vouched = allocation.vouch("checkpoint", checkpoint)
    return StageResult(summary.status, summary.cause, summary.message, vouched, result, summary.evidence)


def _tested(allocation: Allocation, spec: TrainSpec, summary: StageResult) -> StageResult:
    """Add the errors of the best model on the test split; where no time is left, the next link finds them."""
    if summary.status is not Status.DONE or "checkpoint" not in summary.result:
        return summary
    request = allocation.request
    if (old := finished(earlier_tasks(allocation.campaign, request, "test"))) is not None:
        return _with_test(allocation, summary, old[0], old[1])
    if allocation.is_stopping():
        summary = _adding(summary, "not tested: no time was left")
        return replace(summary, status=Status.DONE if request.link == request.links else Status.PARTIAL)
    work = Work("test", "evaluate", _question(allocation, spec, summary), allocation.num_nodes)
    test = carry_out(allocation, [work], spec.attempts)["test"]
    if test.outcome is None or test.status is not Status.DONE:
        return replace(verdict([test], allocation), outputs=summary.outputs, result=summary.result)
    return _with_test(allocation, summary, test.folder, test.outcome)


def _with_test(allocation: Allocation, summary: StageResult, folder: Path, test: Outcome) -> StageResult:
    """Add the errors on the test split, and vouch for the sample of predictions beside labels."""
    parity = test.outputs.get("parity")
    outputs = (*summary.outputs, *(allocation.vouch("parity", folder / parity) if parity else ()))
    message = "; ".join(filter(None, (test.message, summary.message)))  # of many branches a training may remark a lot
    return replace(summary, message=message, outputs=outputs, result={**summary.result, "test": test.result})


def _adding(summary: StageResult, message: str) -> StageResult:
    """Return the summary with one more thing to say: what a task that is done remarks is the stage's to tell."""
    return replace(summary, message="; ".join(filter(None, (summary.message, message))))


def _question(allocation: Allocation, spec: TrainSpec, summary: StageResult) -> Callable[[Path | None], Task]:
    request = allocation.request
    needed = stores(request.inputs, spec.branches or request.branches)
    fields = {
        "checkpoint": allocation.campaign / summary.result["checkpoint"],
        "branches": branches(request, needed, stage_in(allocation, needed.values())),
        "splits": splits(request),
        "precision": summary.result["training"]["precision"],
    }
    return lambda _: configuration(EvaluateConfig, request, fields)
