"""What a comparison of ways to train came to, as tables: errors over seeds, how far labels disagree, which order that allows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workflow.report.facts import StageFacts
from workflow.report.tables import Table, number

WAYS = {"apart": "a model for each", "one_head": "one head for all", "two_level": "a head for each"}
_UNITS = {"energy": "meV/atom", "force": "meV/Å"}


def comparison_tables(stage: StageFacts) -> list[Table]:
    """Return the tables of a comparison; none where there is no comparison."""
    found = stage.result.get("comparison")
    return [_errors(stage, found), _disagreement(stage, found), _orders(stage, found)] if found else []


def _errors(stage: StageFacts, found: Mapping[str, Any]) -> Table:
    def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
        return (row["branch"], WAYS[row["way"]], *(_told(row[name], unit) for name, unit in _UNITS.items()))

    rows = [cells(row) for row in found["errors"]]
    seeds = max((len(row[name]["values"]) for row in found["errors"] for name in _UNITS if row[name]), default=0)
    caption = f"Errors of {stage.key} on the test split, {seeds} seeds, {found['epochs']} epochs each: mean ± 95 % interval"
    return Table(caption, ("branch", "way", ">energy MAE", ">force MAE"), tuple(rows))


def _disagreement(stage: StageFacts, found: Mapping[str, Any]) -> Table:
    rows = []
    for row in found["disagreement"]:
        cells = [
            cell for name, unit in _UNITS.items() for cell in (_told(row[name], unit), _told(row[f"{name}_above_own"], unit))
        ]
        rows.append((row["labels"], row["head"], _apart(row), *cells))
    caption = (
        f"How far labels disagree after referencing, by {stage.key}: errors of another branch's head on a branch's labels, and "
        "by how much they are above those of its own head there; labels are apart where that holds both ways"
    )
    columns = ("labels of", "head of", "apart in", ">energy MAE", ">above own", ">force MAE", ">above own ")
    return Table(caption, columns, tuple(rows))


def _apart(row: Mapping[str, Any]) -> str:
    if row["energy"] is None and row["force"] is None:
        return "no element in common"
    return ", ".join(name for name in _UNITS if row[f"{name}_disagree"]) or "not seen"


def _orders(stage: StageFacts, found: Mapping[str, Any]) -> Table:
    rows = [(row["branch"], row["quantity"], _order(row)) for row in found["orders"]]
    return Table(f"Which order of the ways {stage.key} allows", ("branch", "error", "order"), tuple(rows))


def _order(row: Mapping[str, Any]) -> str:
    if not row["labels_disagree"]:
        return "none is claimed: no other branch's labels are seen to disagree with these"
    unit = _UNITS[row["quantity"]]
    better = [f"{WAYS[each['way']]} beats {WAYS[each['than']]} by {_told(each['by'], unit)}" for each in row["better"]]
    return "; ".join(better) or "none: every difference may be that of the seeds"


def _told(found: Mapping[str, Any] | None, unit: str) -> str:
    return "" if found is None else f"{number(found['mean'])} ± {number(found['ci95'])} {unit}"
