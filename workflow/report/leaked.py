"""What tasks are tested on that was trained on, as tables: within each task, and in the branches of its model."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from workflow.report.facts import StageFacts
from workflow.report.tables import Table, number

_PARTS, _KINDS = ("test", "validation"), ("identity", "composition")


def leakage_tables(stage: StageFacts) -> list[Table]:
    """Return for each task what stands in the training splits of branches, and what these counts do not tell."""
    found: Mapping[str, Any] = stage.result.get("leakage") or {}
    unseen = {name: why for each in found.values() for name, why in each.get("unseen", {}).items()}
    left_out = [(name, f"not compared: {why}") for name, why in (stage.result.get("not_compared") or {}).items()]
    untold = Table(f"Leakage that is not counted in {stage.key}", ("branch or task", "why"), (*unseen.items(), *left_out))
    made = [_into(task, each["divisions"]) for task, each in sorted(found.items())]
    return [*made, untold] if untold.rows else made


def _into(task: str, divisions: Sequence[Mapping[str, Any]]) -> Table:
    """Return how many structures of a task stand in training splits: by identity, which splits go by, and by composition."""
    columns = ("training split of", *(f">{split}, same {kind}" for split in _PARTS for kind in _KINDS))

    def cell(name: str, split: str, kind: str) -> str:
        held = [each["branches"][name][kind][split] for each in divisions]
        return _of(held, [each["structures"][split] for each in divisions])

    rows = [
        (name if name != "itself" else f"{task} itself", *(cell(name, split, kind) for split in _PARTS for kind in _KINDS))
        for name in divisions[0]["branches"]
    ]
    folds = f", range and mean over all {len(divisions)} folds" if len(divisions) > 1 else ""
    return Table(f"Leakage into {task}: structures of its splits that stand in what was trained on{folds}", columns, tuple(rows))


def within_tasks(stage: StageFacts, shared: Mapping[str, Mapping[Any, Mapping[str, int]]], titles: Mapping[str, str]) -> Table:
    """Return how much of what each task tests on it has seen in training, under the same identity.

    Args:
        stage: The fine-tuning.
        shared: By task and seed or fold: structures `tested`, and those whose `identity_in_training` is.
        titles: Names of the tasks in tables.
    """
    lines = []
    for task, repeats in shared.items():
        tested = [each["tested"] for each in repeats.values()]
        seen = [each["identity_in_training"] for each in repeats.values()]
        lines.append((titles[task], _of(seen, tested), f"{sum(seen) / max(sum(tested), 1):.1%}", str(len(repeats))))
    heads = ("task", ">structures tested whose identity was trained on", ">share", ">seeds or folds")
    return Table(f"Leakage within the tasks of {stage.key}", heads, tuple(lines))


def _of(counts: Sequence[int], totals: Sequence[int]) -> str:
    """Return counts and what they are of: `4 of 20 structures`; of several `1–4 of 4 structures, mean 2.8`."""
    mean = f", mean {number(statistics.fmean(counts))}" if len(set(counts)) > 1 else ""
    return f"{_range(counts)} of {_range(totals)} structures{mean}"


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return number(low) if low == high else f"{number(low)}–{number(high)}"
