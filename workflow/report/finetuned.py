"""What fine-tunings came to, as tables: errors of energies and forces, of scalars, of classes, each with unit and number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from workflow.report.facts import StageFacts
from workflow.report.tables import Table, number

Row = dict[str, Any]
Column = tuple[str, Callable[[Row], str]]


def finetuning_tables(stage: StageFacts) -> list[Table]:
    """Return the strategies of each task side by side: one table for each kind of label that the tasks have."""
    rows = [{"task": stage.result.get("task"), **row} for row in stage.result.get("table") or []]
    kinds = {row["task"]: str(row["kind"]) for row in rows if row.get("kind")}
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(kinds.get(row["task"], "energy"), []).append(row)
    return [_table(stage, _KINDS[kind][0], _KINDS[kind][1], group) for kind, group in groups.items() if kind in _KINDS]


def _table(stage: StageFacts, what: str, columns: Sequence[Column], rows: Sequence[Row]) -> Table:
    every = (*columns, (">epochs", _plain("epochs")), (">time to best", _with("seconds_to_best", "s")), ("note", _note))
    shown = every if any(_note(row) for row in rows) else every[:-1]
    splits = sorted({str(row["split"]) for row in rows if row.get("split")})
    where = f"on the {' and '.join(splits)} split" if splits else "on a split that was not recorded"
    cells = [(str(row.get("task") or "?"), str(row.get("strategy")), *(make(row) for _, make in shown)) for row in rows]
    caption = f"{what} of {stage.key}, {where}; the epoch is the best on validation"
    return Table(caption, ("task", "strategy", *(name for name, _ in shown)), tuple(cells))


def _with(key: str, unit: str = "", counted: str = "") -> Callable[[Row], str]:
    """Return how a cell is written: the value, its unit, the number of labels behind it."""

    def cell(row: Row) -> str:
        if row.get(key) is None:
            return ""
        count = f" (N = {number(row[counted])})" if row.get(counted) is not None else ""
        return f"{number(row[key])} {unit or row.get('unit') or ''}".rstrip() + count

    return cell


def _plain(key: str, counted: str = "") -> Callable[[Row], str]:
    """Return how a cell without a unit is written."""
    return lambda row: _with(key, counted=counted)({**row, "unit": ""})


def _positives(row: Row) -> str:
    found = row.get("num_positives")
    return "" if found is None else f"{number(found)} of {number(row.get('num_targets'))}"


def _note(row: Row) -> str:
    return ": ".join(str(row[key]) for key in ("failed", "message") if row.get(key))


_ENERGY: tuple[Column, ...] = (
    (">energy MAE", _with("energy_mae_mev_per_atom", "meV/atom", "num_energies")),
    (">linear fit", _with("energy_baseline_mev_per_atom", "meV/atom", "num_energies")),
    (">force MAE", _with("force_mae_mev_per_angstrom", "meV/Å", "num_force_components")),
    (">zero forces", _with("force_baseline_mev_per_angstrom", "meV/Å", "num_force_components")),
)
_SCALAR: tuple[Column, ...] = (
    (">MAE", _with("target_mae", counted="num_targets")),
    (">RMSE", _with("target_rmse", counted="num_targets")),
    (">MAE of the mean", _with("target_mean_baseline", counted="num_targets")),
    (">MAE of the composition", _with("target_composition_baseline", counted="num_targets")),
    (">largest error", _with("target_max_error", counted="num_targets")),
)
_CLASS: tuple[Column, ...] = (
    (">ROC-AUC", _plain("roc_auc", "num_targets")),
    (">F1", _plain("f1", "num_targets")),
    (">accuracy", _plain("accuracy", "num_targets")),
    (">accuracy of the majority", _plain("majority_accuracy", "num_targets")),
    (">of class 1", _positives),
)
_KINDS: dict[str, tuple[str, tuple[Column, ...]]] = {
    "energy": ("Errors", _ENERGY),
    "scalar": ("Errors of scalars", _SCALAR),
    "class": ("Scores of classes", _CLASS),
}
