"""What tasks that are fine-tuned on have in common with what branches train on, each divided as it is trained and tested."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from model.config import LeakageConfig
from model.specs import Division
from workflow.stages._inputs import stores
from workflow.stages._recipe import configuration, splits
from workflow.stages._tries import Configure, carry_out_rest
from workflow.stages.base import Allocation


def leakage(allocation: Allocation, divisions: Mapping[str, Division | None], tries: int) -> dict[str, Any]:
    """Return how much of each task's splits stands in the training split of each branch; what an earlier attempt found counts.

    What cannot be told is no reason not to train, and is told as such.

    Args:
        allocation: Where it is counted.
        divisions: How each task is divided; None: by the campaign's splits.
        tries: See `carry_out`.

    Returns:
        `leakage`: what was counted, by task; `not_compared`: by branch or task, why it was not.
    """
    request = allocation.request
    converted = {name for receipt in request.inputs.values() for name in receipt.result.get("branches", {})}
    branches = [name for name in request.branches if name in converted]
    folders = {name: allocation.campaign / each.folder for name, each in stores(request.inputs, [*branches, *divisions]).items()}

    def configured(task: str) -> Configure:
        against = {name: folders[name] for name in branches}
        fields = {"task": folders[task], "against": against, "splits": splits(request), "division": divisions[task]}
        return lambda _: configuration(LeakageConfig, request, fields)

    works = {f"leakage-{task}": task for task in divisions}
    done, ended = carry_out_rest(allocation, "leakage", works, configured, tries, lambda _: None)
    left_out = {name: "not converted by a stage that this one needs" for name in request.branches if name not in branches}
    left_out |= {
        task: f"the comparison failed: {each.message}" for name, each in ended.items() if (task := works[name]) not in done
    }
    return {"leakage": {task: done[task][1].result for task in divisions if task in done}, "not_compared": left_out}
