"""What can be known before a run about the stages that one rests on: data converted, models trained."""

from __future__ import annotations

from typing import Any

from workflow.stages._recipe import Problem
from workflow.stages.base import StageSpec
from workflow.validation import nearest


def rests_on(spec: StageSpec, campaign: Any) -> list[str]:
    """Return the names of all stages that one rests on, directly or not."""
    found: list[str] = []
    queue = [*spec.needs, *([spec.each] if spec.each else [])]
    while queue:
        name = queue.pop(0)
        if name in campaign.stages and name not in found:
            found.append(name)
            other = campaign.stages[name]
            queue += [*other.needs, *([other.each] if other.each else [])]
    return found


def model_stage(spec: StageSpec, campaign: Any, kinds: tuple[str, ...]) -> str | None:
    """Return the stage out of which a stage takes its model: `each`, or the first of its needs of these kinds."""
    named = [spec.each] if spec.each else spec.needs
    return next((name for name in named if name in campaign.stages and campaign.stages[name].kind in kinds), None)


def model_stage_problems(spec: StageSpec, campaign: Any) -> list[Problem]:
    """Say so where no model, or no single one, comes out of a stage's needs."""
    name = model_stage(spec, campaign, ("promote", "train"))
    if name is None:
        return [("no trained model among its needs", "needs", "Need a stage of kind promote or train.")]
    if campaign.stages[name].kind == "train" and campaign.stages[name].each:
        return [(f"'{name}' trains several models", "needs", "Put a stage of kind promote between the two, or use `each`.")]
    return []


def converted_problems(spec: StageSpec, campaign: Any, *names: str) -> list[Problem]:
    """Say which branches, or named sources, no stage that this one rests on converts."""
    asked = names or tuple(campaign.header.branches)
    known = [*campaign.header.branches, *campaign.header.sources]
    unknown = [
        (f"no source '{name}'", "", f"{nearest(name, known)}Sources and branches: {', '.join(known) or 'none'}.")
        for name in asked
        if name not in known
    ]
    kinds = [campaign.stages[name] for name in rests_on(spec, campaign) if campaign.stages[name].kind == "convert"]
    missing = [name for name in asked if name in known and not any(name in each.only or not each.only for each in kinds)]
    if missing:
        remedy = "Add a stage of kind convert to `needs`."
        unknown.append((f"nothing converts {', '.join(missing)} before this stage", "needs", remedy))
    return unknown
