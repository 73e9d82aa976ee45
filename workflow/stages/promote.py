"""Choose the best models of searches and trainings, and carry their checkpoints along."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from model.outcome import Cause, Status
from workflow.graph import belongs
from workflow.receipt import Output, Receipt, verify
from workflow.stages._inputs import Model, found_in_search, trained
from workflow.stages._recipe import Problem
from workflow.stages.base import Stage, StageResult, StageSpec

Quantity = Literal["objective", "val_loss", "seconds", "time_to_epoch"]


def _objective(model: Model) -> float:
    """Return what a model is ranked by; one that nothing validated comes last."""
    return math.inf if model.objective is None else model.objective


QUANTITIES: dict[str, Callable[[Model], float]] = {
    "objective": _objective,
    "val_loss": _objective,
    "seconds": lambda model: model.seconds,
    "time_to_epoch": lambda model: model.seconds / max(model.epochs, 1e-9),
}
"""What models can be ranked by; less is better."""


class PromoteSpec(StageSpec):
    """Keys of a stage of kind `promote`."""

    top: int = Field(1, ge=1, description="How many models to select; with `per`, of each group.")
    per: Literal["backbone"] | None = Field(None, description="Select within each backbone; none: over all.")
    groups: int | None = Field(None, ge=1, description="With `per`: keep so many groups, those with the best models; none: all.")
    rank_by: tuple[Quantity, ...] = Field(
        ("objective",),
        min_length=1,
        description="Quantities to rank by, in order: objective (or val_loss), seconds, time_to_epoch (seconds for one epoch).",
    )
    tolerance: float = Field(
        0.02, ge=0, description="Relative difference from the best that counts as a tie, which the next quantity breaks."
    )


class Kind(Stage):
    """Rank the models that the receipts of its needs vouch for; seconds of reading files on the login node."""

    Spec = PromoteSpec
    on_login = True

    def problems(self, spec: PromoteSpec, campaign: Any) -> list[Problem]:
        """Check that searches or trainings are among the needs."""
        needed = {name: campaign.stages[name] for name in spec.needs if name in campaign.stages}
        found: list[Problem] = []
        if not any(each.kind in ("hpo", "train") for each in needed.values()):
            found.append(("nothing to choose from", "needs", "Need at least one stage of kind hpo or train."))
        if spec.each:
            remedy = "Take `each` away; name what it chooses from in `needs`."
            found.append(("a promotion does not run once for each model", "each", remedy))
        if spec.per and any(each.kind == "train" and each.each for each in needed.values()):
            found.append(("the backbones are known only after an earlier promotion", "per", "Take `per` away and give `top`."))
        if spec.groups and not spec.per:
            found.append(("there are no groups to choose from", "groups", "Add `per: backbone`, or take `groups` away."))
        kept = min((each.keep for each in needed.values() if each.kind == "hpo"), default=spec.top)
        if kept < spec.top:
            what = f"a search keeps {kept} checkpoints, fewer than top: {spec.top}"
            found.append((what, "top", f"Give the search `keep: {spec.top}`."))
        return found

    def miniature(self, spec: PromoteSpec) -> dict[str, Any]:
        """Return two models at most to go on with."""
        few = {"top": min(spec.top, 2)}
        return {**few, "groups": min(spec.groups or 2, 2)} if spec.per else few

    def decide(self, spec: PromoteSpec, key: str, inputs: dict[str, Receipt], campaign: Path) -> StageResult:
        """Select the best models and verify their checkpoints."""
        models = _candidates(spec, inputs)
        if not models:
            return StageResult(Status.FAILED, Cause.BAD_CONFIG, _why_none(spec, key, inputs))
        chosen = [model for group in _groups(models, spec) for model in ranked(group, spec)[: spec.top]]
        outputs: list[Output] = []
        for number, model in enumerate(chosen, start=1):
            verify(campaign, model.outputs)
            outputs += [Output(f"checkpoint:{number}", each.path, each.size, each.sha256) for each in model.outputs]
        result = {"selected": [_entry(m) for m in chosen], "ranking": [_row(m) for m in ranked(models, spec)]}
        blind = list(dict.fromkeys(model.stage for model in models if model.objective is None))
        message = f"{', '.join(blind)}: not validated, so without an objective, and ranked last" if blind else ""
        return StageResult(Status.DONE, message=message, outputs=tuple(outputs), result=result)


def ranked(models: list[Model], spec: PromoteSpec) -> list[Model]:
    """Return the models, best first: by the first quantity, near-ties by the next one."""
    left, order = list(models), []
    while left:
        best = _best(left, list(spec.rank_by), spec.tolerance)
        order.append(best)
        left.remove(best)
    return order


def _best(models: list[Model], quantities: list[str], tolerance: float) -> Model:
    value = QUANTITIES[quantities[0]]
    if len(quantities) == 1:
        return min(models, key=lambda m: (value(m), _objective(m), m.stage, m.trial or 0))
    limit = min(value(m) for m in models) * (1 + tolerance)
    return _best([m for m in models if value(m) <= limit], quantities[1:], tolerance)


def _candidates(spec: PromoteSpec, inputs: dict[str, Receipt]) -> list[Model]:
    models: list[Model] = []
    for key, receipt in sorted(inputs.items()):
        if not any(belongs(key, need) for need in spec.needs):
            continue
        if "trials" in receipt.result:
            models += found_in_search(key, receipt)
        elif "checkpoint" in receipt.result:
            models.append(trained(key, receipt))
    return [model for model in models if model.outputs]


def _groups(models: list[Model], spec: PromoteSpec) -> list[list[Model]]:
    if not spec.per:
        return [models]
    names = list(dict.fromkeys(model.backbone for model in ranked(models, spec)))[: spec.groups]
    return [[m for m in models if m.backbone == name] for name in names]


def _why_none(spec: PromoteSpec, key: str, inputs: dict[str, Receipt]) -> str:
    facts = []
    for name, receipt in sorted(inputs.items()):
        if any(belongs(name, need) for need in spec.needs):
            trials = receipt.result.get("trials", [])
            causes = sorted({str(each.get("cause")) for each in trials if each.get("cause")})
            facts.append(f"{name} has no finished model ({len(trials)} trials; causes: {', '.join(causes) or 'none'})")
    return f"{key} has nothing to promote: " + ("; ".join(facts) or "no search or training has left a receipt")


def _entry(model: Model) -> dict[str, Any]:
    return {**_row(model), "model": model.spec, "training": model.training, "checkpoint": model.folder}


def _row(model: Model) -> dict[str, Any]:
    source = {"stage": model.stage, "trial": model.trial}
    return {
        "backbone": model.backbone,
        "objective": model.objective,
        "seconds": model.seconds,
        "epochs": model.epochs,
        "source": source,
    }
