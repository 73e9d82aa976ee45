"""Search hyper-parameters of one backbone: trials packed on the nodes, suggestions by Bayesian optimization."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from model.config import TrainConfig
from model.outcome import CampaignError, Cause, Status
from model.registry import backbone_config, backbones
from model.specs import Strict
from workflow.keys import SpaceOf
from workflow.receipt import Output
from workflow.search.feasibility import refusal
from workflow.search.loop import Plan, Search, best_of
from workflow.search.space import SHARED, Point, Range, Space, make_space, smallest
from workflow.search.stopping import Halving
from workflow.search.trials import DONE, FAILED, INTERRUPTED, Trial, Trials
from workflow.site import merge
from workflow.stages._inputs import StoreInput, stage_in, stores
from workflow.stages._recipe import (
    BackboneName,
    HeadKeys,
    Problem,
    TrainingKeys,
    branches,
    checkpoint_every_s,
    configuration,
    draws_problems,
    model_fields,
    model_problems,
    small_model,
    splits,
    training_problems,
    width_problems,
)
from workflow.stages._upstream import converted_problems
from workflow.stages.base import Allocation, Pieces, Stage, StageResult, StageSpec


class TrialSpec(Strict):
    """What one trial may spend."""

    nodes: int = Field(1, ge=1, description="Nodes of one trial.")
    epochs: int = Field(10, ge=1, description="Epochs of one trial.")
    fraction: float = Field(1.0, gt=0, le=1, description="Share of the training split that an epoch draws.")


def _form(value: Any) -> str:
    return "range" if isinstance(value, dict | Range) else "value"


Varied = Annotated[Annotated[Range, Tag("range")] | Annotated[Any, Tag("value")], Discriminator(_form)]


class HpoSpec(StageSpec):
    """Keys of a stage of kind `hpo`."""

    backbone: BackboneName = Field(description="Name of the backbone.")
    model: HeadKeys = Field({}, description="Keys of the model that do not vary: cutoff, readout, head_hidden, ….")
    training: TrainingKeys = Field({}, description="Keys of the training that do not vary: batch, precision, optimizer, ….")
    evaluations: int = Field(20, ge=1, description="Most trials; those refused or failed by their own fault count.")
    trial: TrialSpec = Field(TrialSpec(), description="What one trial may spend.")
    space: Annotated[dict[str, Varied], SpaceOf("backbone", backbones, backbone_config, tuple(SHARED))] = Field(
        {},
        description="What varies, by name: `low`, `high`, `log`; or `choices`; or `{}` for the backbone's own range; "
        "or a value to hold. Empty: everything that has a range of its own.",
    )
    initial: tuple[dict[str, Any], ...] = Field(
        (), description="Points to try first; names left out take the middle of their range."
    )
    stopping: Literal["none", "halving"] = Field(
        "none", description="halving: a trial goes on from a rung (epochs/9, epochs/3) only if it is among the best third there."
    )
    seed: int = Field(0, description="Seed of the optimizer.")
    keep: int = Field(3, ge=1, description="How many of the best checkpoints to vouch for.")


class Kind(Stage):
    """Run trials in the agent: suggestions asked and told there, every one of them in the stage's record."""

    Spec = HpoSpec

    def problems(self, spec: HpoSpec, campaign: Any) -> list[Problem]:
        """Check backbone, space, training keys and sizes."""
        found = training_problems(spec.training) + converted_problems(spec, campaign) + draws_problems(campaign)
        found += _size_problems(spec)
        if spec.each:
            found.append(("a search does not start from a model", "each", "Take `each` away."))
        found += width_problems(spec.training, spec.trial.nodes, campaign.site)
        if not campaign.header.splits.validation:
            remedy = "Give `splits: {validation: …}` a share above zero."
            found.append(("trials are compared on validation, and splits.validation is 0", "kind", remedy))
        if "backbone" in spec.model:
            return [*found, ("the backbone is named beside `model`", "model.backbone", "Put its options into `space` as values.")]
        try:
            space = make_space(spec.backbone, spec.space)
        except CampaignError as error:
            return [*found, (error.what, error.where, error.remedy)]
        wrong = [(what, "initial", "Mend the point or the range.") for point in spec.initial for what in space.problems(point)]
        return found + wrong + _space_problems(spec, space)

    def models(self, spec: HpoSpec) -> list[dict[str, Any]]:
        """Return the model in the middle of the space."""
        space = make_space(spec.backbone, spec.space)
        return [merge(model_fields(spec.backbone, spec.model), space.model(space.fill({})))]

    def calls(self, spec: HpoSpec, campaign: Any) -> list[tuple[str, str, int]]:  # noqa: ARG002
        """Return a trial."""
        return [("each trial", "train", spec.trial.nodes)]

    def pieces(self, spec: HpoSpec, campaign: Any) -> Pieces:  # noqa: ARG002
        """Return the trials; a search whose links run out is done with one of them."""
        every_s, trial = checkpoint_every_s(spec.training), spec.trial
        return Pieces(spec.evaluations, trial.nodes, True, every_s, trial.epochs, enough=1 / spec.evaluations)

    def miniature(self, spec: HpoSpec) -> dict[str, Any]:
        """Return two trials of two short epochs, of the smallest models of the space."""
        return {
            "evaluations": 2,
            "trial": {"nodes": 1, "epochs": 2, "fraction": 0.25},
            "keep": min(spec.keep, 2),
            "initial": [],
            "space": smallest(spec.backbone, spec.space),
            "training": {"batch": 16},
            **({} if "cutoff" in spec.space else {"model": small_model(spec.model)}),
        }

    def reads(self, spec: HpoSpec, campaign: Any) -> tuple[str, ...]:  # noqa: ARG002
        """Return all branches."""
        return tuple(campaign.header.branches)

    def work(self, allocation: Allocation) -> StageResult:
        """Take up the search where the record leaves it, and carry it on until a cap or the deadline."""
        from workflow.search.optimizer import Optimizer  # heavy, and needed in an allocation only

        spec, request = HpoSpec.model_validate(allocation.request.spec), allocation.request
        space = make_space(spec.backbone, spec.space)
        trials = Trials(allocation.record)
        optimizer = Optimizer(space, allocation.record, _settings(spec, space), allocation.folder.run)
        needed = stores(request.inputs, request.branches)
        search = Search(allocation, _plan(allocation, spec, space, needed), optimizer, trials)
        search.run()
        return _result(allocation, spec, search, optimizer.note)


def _size_problems(spec: HpoSpec) -> list[Problem]:
    free = (spec.nodes or 1) - spec.spares
    if spec.trial.nodes > free:
        what = f"a trial takes {spec.trial.nodes} nodes, the job has {free} beside its spares"
        return [(what, "trial.nodes", f"Give at most {max(free, 1)}, or more `nodes`.")]
    return []


def _space_problems(spec: HpoSpec, space: Space) -> list[Problem]:
    """Check that values from all over the space make a model: the middle, and every end of every range."""
    points = [space.fill({}), *(space.fill({d.name: end}) for d in space.dimensions for end in d.ends)]
    found: list[Problem] = []
    for point in points:
        for what, key, remedy in model_problems(merge(model_fields(spec.backbone, spec.model), space.model(point))):
            where = key.replace("backbone.", "space.").replace("model.head", "space.head")
            found += [(what, where, remedy)] if (what, where, remedy) not in found else []
    return found


def _settings(spec: HpoSpec, space: Space) -> dict[str, Any]:
    """Return how the optimizer starts; random points first, as many as DeepHyper takes but a quarter of the search at most."""
    random = min(2 * len(space.dimensions) + 1, max(3, spec.evaluations // 4))
    initial = [space.fill(point) for point in spec.initial]
    return {"seed": spec.seed, "initial": initial, "num_initial": max(random, len(initial))}


def _plan(allocation: Allocation, spec: HpoSpec, space: Space, needed: dict[str, StoreInput]) -> Plan:
    local = stage_in(allocation, needed.values())
    configure = _configure(allocation, spec, space, branches(allocation.request, needed, local))
    facts = {name: {**store.facts, "folder": allocation.campaign / store.folder} for name, store in needed.items()}
    rate = allocation.request.site["node"].get("device_gflop_per_s")
    ranks = spec.trial.nodes * allocation.devices_per_node

    def refuses(config: TrainConfig) -> tuple[Cause, str] | None:
        return refusal(config, facts, ranks, allocation.device_memory_gb, rate)

    rule = Halving(spec.trial.epochs) if spec.stopping == "halving" else None
    return Plan(spec.evaluations, spec.trial.nodes, spec.attempts, configure, refuses, rule)


def _configure(allocation: Allocation, spec: HpoSpec, space: Space, data: Any) -> Callable[[Point, Path | None], TrainConfig]:
    def configure(point: Point, resume: Path | None) -> TrainConfig:
        fields = {
            **merge(spec.training, space.training(point)),
            "model": merge(model_fields(spec.backbone, spec.model), space.model(point)),
            "branches": data,
            "splits": splits(allocation.request),
            "epochs": spec.trial.epochs,
            "fraction": spec.trial.fraction,
            "memory_gb": allocation.device_memory_gb,
            "resume": resume,
        }
        return configuration(TrainConfig, allocation.request, fields)

    return configure


def _result(allocation: Allocation, spec: HpoSpec, search: Search, note: str) -> StageResult:
    status, cause, message = _verdict(allocation, spec, search)
    best = best_of(search.trials)
    kept = {trial.id for trial in best[: spec.keep] if trial.best}
    outputs: list[Output] = []
    for trial in best[: spec.keep]:
        outputs += allocation.vouch(f"checkpoint:{trial.id}", allocation.campaign / trial.best) if trial.best else ()
    rows = [_row(trial, trial.id in kept) for trial in search.trials]
    result = {"backbone": spec.backbone, "trials": rows, "best": best[0].id if best else None, "note": note}
    evidence = {"task": search.bug.name, "folder": str(search.bug.folder)} if search.bug else {}
    return StageResult(status, cause, message, tuple(outputs), result, evidence)


def _verdict(allocation: Allocation, spec: HpoSpec, search: Search) -> tuple[Status, Cause | None, str]:
    trials = list(search.trials)
    settled = [trial for trial in trials if trial.is_settled]
    done = [trial for trial in trials if trial.status == DONE]
    if search.bug is not None:
        return Status.FAILED, Cause.BUG, f"{search.bug.name}: {search.bug.message}"
    if len(settled) == len(trials) and (len(trials) >= spec.evaluations or search.is_exhausted):
        message = "the space holds no further points" if len(trials) < spec.evaluations else ""
        return (Status.DONE, None, message) if done else (Status.FAILED, *_common_cause(settled))
    left = [trial for trial in trials if trial.status == INTERRUPTED and trial.cause not in (None, Cause.WALLTIME)]
    if left and not allocation.is_stopping():
        return Status.FAILED, Cause(str(left[0].cause)), f"trial {left[0].id}: {left[0].message}"
    if allocation.num_nodes < spec.trial.nodes:
        what = f"a trial takes {spec.trial.nodes} nodes and {allocation.num_nodes} of the allocation answer"
        return Status.FAILED, Cause.NODE_FAILURE, what
    is_last = allocation.request.link == allocation.request.links and not allocation.folder.stop.exists()
    if is_last and done:
        return Status.DONE, None, f"the links ran out after {len(settled)} of {spec.evaluations} trials"
    return Status.PARTIAL, None, f"{len(settled)} of {spec.evaluations} trials settled"


def _common_cause(failed: list[Trial]) -> tuple[Cause, str]:
    causes = Counter(str(trial.cause) for trial in failed if trial.status == FAILED)
    counts = ", ".join(f"{count} {cause}" for cause, count in causes.most_common())
    return Cause(causes.most_common(1)[0][0]), f"none of {len(failed)} trials succeeded: {counts}"


def _row(trial: Trial, is_kept: bool) -> dict[str, Any]:
    row = {
        "id": trial.id,
        "config": trial.point,
        "status": trial.status,
        "cause": trial.cause,
        "message": trial.message,
        "objective": trial.objective,
        "epochs": trial.epochs,
        "seconds": round(trial.seconds, 3),
        "tasks": trial.folders,
        "interrupted": trial.interrupted,
    }
    kept = {"model": trial.result.get("model"), "training": trial.result.get("training"), "checkpoint": trial.best}
    return {**row, **kept} if is_kept else row
