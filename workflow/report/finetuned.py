"""What fine-tunings came to, as tables: errors of energies and forces, of scalars, of classes, each with unit and number."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workflow.report.facts import StageFacts
from workflow.report.leaked import leakage_tables, within_tasks
from workflow.report.tables import Table, number

Row = dict[str, Any]
Key = tuple[str, str, str]
"""Task, strategy and precision."""


@dataclass(frozen=True)
class Column:
    """One figure of a table.

    Attributes:
        head: Its name.
        key: Where it stands in a row.
        unit: Its unit; empty: none, or that of the row.
        counted: Where the number of labels behind it stands.
        metric: What a task's file calls it; empty: it stands in every table.
        label: Kind of label that it is of, where a table has several.
    """

    head: str
    key: str
    unit: str = ""
    counted: str = ""
    metric: str = ""
    label: str = ""


def finetuning_tables(stage: StageFacts) -> list[Table]:
    """Return the strategies of each task side by side: one table for each group of tasks and kind of label.

    Where trainings were repeated, cells are means ± standard errors over seeds or folds, and tables of paired differences
    follow; then the learning rates that were chosen, and what tasks test on that they, or branches, have also trained on.
    """
    rows = [{"task": stage.result.get("task"), **row} for row in stage.result.get("table") or []]
    kinds = {row["task"]: str(row["kind"]) for row in rows if row.get("kind")}
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        (protocol,), kind = _protocols(stage, [row]), kinds.get(row["task"], "energy")
        if kind in _KINDS:
            groups.setdefault((protocol.get("group", ""), kind), []).append(row)
    made: list[Table | None] = []
    for make in (_table, _differences):
        for (group, kind), own in groups.items():
            what = f"{group}: {_KINDS[kind][0].lower()}" if group else _KINDS[kind][0]
            made.append(make(stage, what, _columns(stage, kind, own), own))
    made += [_rates(stage), _shared(stage, rows), *leakage_tables(stage)]
    return [table for table in made if table is not None and table.rows]


def _table(stage: StageFacts, what: str, columns: Sequence[Column], rows: Sequence[Row]) -> Table:
    cells, repeated = _by_cell(rows), _is_repeated(rows)
    has_precision = any(key[2] for key in cells)
    last = (Column(">epochs", "epochs", "epochs"), Column(">time to best", "seconds_to_best", "s"))
    heads = ["task", "strategy", *(["precision"] if has_precision else []), *(each.head for each in (*columns, *last))]
    heads += [">runs"] if repeated else []
    lines = []
    for (task, strategy, precision), group in cells.items():
        first = (_title(stage, task), strategy, *([precision] if has_precision else []))
        figures = (_figure(each, group) for each in (*columns, *last))
        runs = (str(sum("failed" not in row for row in group)),) if repeated else ()
        lines.append((*first, *figures, *runs, _notes(group)))
    if not any(line[-1] for line in lines):
        return Table(_caption(stage, what, rows), tuple(heads), tuple(line[:-1] for line in lines))
    return Table(_caption(stage, what, rows), (*heads, "note"), tuple(lines))


def _columns(stage: StageFacts, kind: str, rows: Sequence[Row]) -> list[Column]:
    """Return what the tasks want to be measured by; all that there is where one of them does not say."""
    protocols = _protocols(stage, rows)
    if not all(protocols):
        return list(_KINDS[kind][1])
    metrics = {metric for each in protocols for metric in each["metrics"]}
    targets = {target for each in protocols for target in each["targets"]}
    return [
        each
        for each in _KINDS[kind][1]
        if (not each.metric or each.metric in metrics) and (not each.label or each.label in targets)
    ]


def _protocols(stage: StageFacts, rows: Sequence[Row]) -> list[Mapping[str, Any]]:
    known = stage.result.get("protocols") or {}
    return [known.get(task) or {} for task in dict.fromkeys(str(row.get("task")) for row in rows)]


def _caption(stage: StageFacts, what: str, rows: Sequence[Row]) -> str:
    splits = sorted({str(row["split"]) for row in rows if row.get("split")})
    where = f"on the {' and '.join(splits)} split" if splits else "on a split that was not recorded"
    spread = "; mean ± standard error over seeds, or over the folds of a cross-validation" if _is_repeated(rows) else ""
    return f"{what} of {stage.key}, {where}; the epoch is the best on validation{spread}"


def _differences(stage: StageFacts, what: str, columns: Sequence[Column], rows: Sequence[Row]) -> Table | None:
    """Return the mean differences of what was trained with the same seed or tested on the same fold; None without repeats."""
    if not _is_repeated(rows):
        return None
    leading = {each["metrics"][0] for each in _protocols(stage, rows) if each} or {*_LEADING}
    cells, compared = _by_cell(rows), [each for each in columns if each.metric in leading]
    lines = []
    for here, there in _pairs(list(cells)):
        pairs = _same_repeat(cells[here], cells[there])
        figures = [_difference(each, pairs) for each in compared]
        name = f"{here[1]} − {there[1]}" if here[1] != there[1] else f"{here[2]} − {there[2]}"
        held = here[2] if here[1] != there[1] else here[1]
        if any(figures):
            lines.append((_title(stage, here[0]), name, held, *figures))
    better = f"; {'above' if columns[0] in _CLASS else 'below'} zero the first is better"
    heads = ("task", "difference", "with", *(each.head for each in compared))
    return Table(f"{what}: paired differences of {stage.key}, mean ± standard error{better}", heads, tuple(lines))


def _pairs(keys: Sequence[Key]) -> list[tuple[Key, Key]]:
    """Return what is worth comparing: strategies at one precision, and precisions of one strategy, later less earlier ones."""
    found = []
    for place, there in enumerate(keys):
        for here in keys[place + 1 :]:
            if here[0] == there[0] and (here[1] == there[1]) != (here[2] == there[2]):
                found.append((here, there))
    return found


def _same_repeat(here: Sequence[Row], there: Sequence[Row]) -> list[tuple[Row, Row]]:
    known = {row.get("repeat"): row for row in there}
    return [(row, known[row.get("repeat")]) for row in here if row.get("repeat") in known]


def _difference(column: Column, pairs: Sequence[tuple[Row, Row]]) -> str:
    values = [a[column.key] - b[column.key] for a, b in pairs if a.get(column.key) is not None and b.get(column.key) is not None]
    if not values:
        return ""
    unit = column.unit or str(pairs[0][0].get("unit") or "")
    rows = [row for pair in pairs for row in pair if row.get(column.counted) is not None]
    labels = f", N = {_total(rows, column.counted)}" if rows else ""
    return f"{_spread(values)} {unit}".rstrip() + f" ({len(values)} pairs{labels})"


def _rates(stage: StageFacts) -> Table | None:
    """Return the objective on validation of every learning rate that was tried: without unit, as errors over spreads are."""
    tried = stage.result.get("rates") or []
    if not tried:
        return None
    rates = sorted({row["learning_rate"] for row in tried})
    lines = []
    for (task, strategy, precision), group in _by_cell(tried).items():
        found = {row["learning_rate"]: _objective(row) for row in group}
        chosen = next((number(row["learning_rate"]) for row in group if row["chosen"]), "")
        lines.append((_title(stage, task), strategy, precision, *(found.get(rate, "") for rate in rates), chosen))
    heads = ("task", "strategy", "precision", *(f">{rate:g}" for rate in rates), ">chosen")
    what = "Objective on validation (errors over the spreads of labels, no unit; N structures) by learning rate"
    return Table(f"{what}, {stage.key}, first seed or fold", heads, tuple(lines))


def _objective(row: Row) -> str:
    """Return what a learning rate came to, and on how many structures; empty where its training failed."""
    objective, counted = row["objective"], row.get("num_structures")
    return number(objective) + (f" (N = {number(counted)})" if None not in (objective, counted) else "")


def _shared(stage: StageFacts, rows: Sequence[Row]) -> Table | None:
    """Return what tasks test on that they have trained on; None where it was not counted."""
    tasks: dict[str, dict[Any, Row]] = {}
    for row in rows:
        if row.get("shared"):
            tasks.setdefault(str(row["task"]), {})[row.get("repeat")] = row["shared"]
    return within_tasks(stage, tasks, {task: _title(stage, task) for task in tasks}) if tasks else None


def _by_cell(rows: Sequence[Row]) -> dict[Key, list[Row]]:
    cells: dict[Key, list[Row]] = {}
    for row in rows:
        key = (str(row.get("task") or "?"), str(row.get("strategy")), str(row.get("precision") or ""))
        cells.setdefault(key, []).append(row)
    return cells


def _is_repeated(rows: Sequence[Row]) -> bool:
    return any(len(group) > 1 for group in _by_cell(rows).values())


def _title(stage: StageFacts, task: str) -> str:
    title = ((stage.result.get("protocols") or {}).get(task) or {}).get("title")
    return f"{task}: {title}" if title else task


def _figure(column: Column, rows: Sequence[Row]) -> str:
    """Return a cell: the value, or mean and standard error of several; its unit; the number of labels, or runs, behind it."""
    known = [row for row in rows if row.get(column.key) is not None]
    if not known:
        return ""
    if column.key == "num_positives":
        return f"{_total(known, 'num_positives')} of {_total(known, 'num_targets')} labels"
    counted = [row[column.counted] for row in known if row.get(column.counted) is not None]
    text = number(known[0][column.key]) if len(known) == 1 else _spread([float(row[column.key]) for row in known])
    unit = column.unit or ("" if column.counted == "" or known[0].get("kind") == "class" else str(known[0].get("unit") or ""))
    behind = _total(known, column.counted) if counted else "" if column.counted else _many_runs(len(known))
    return f"{text} {unit}".rstrip() + (f" (N = {behind})" if behind else "")


def _many_runs(count: int) -> str:
    return f"{count} run{'s' * (count != 1)}"


def _total(rows: Sequence[Row], key: str) -> str:
    """Return a number of labels: what every seed has tested on, or the range of what folds have."""
    counts = sorted({int(row[key]) for row in rows if row.get(key) is not None})
    return number(counts[0]) if len(counts) == 1 else f"{number(counts[0])}–{number(counts[-1])}"


def _spread(values: Sequence[float]) -> str:
    mean = statistics.fmean(values)
    if len(values) < 2:
        return number(mean)
    error = statistics.stdev(values) / math.sqrt(len(values))
    return f"{number(mean)} ± {number(float(f'{error:.2g}'))}"


def _notes(rows: Sequence[Row]) -> str:
    return "; ".join(dict.fromkeys(filter(None, map(_note, rows))))


def _note(row: Mapping[str, Any]) -> str:
    return ": ".join(str(row[key]) for key in ("failed", "message") if row.get(key))


_ENERGY = (
    Column(">energy MAE", "energy_mae_mev_per_atom", "meV/atom", "num_energies", "mae", "energy"),
    Column(">linear fit", "energy_baseline_mev_per_atom", "meV/atom", "num_energies", label="energy"),
    Column(">force MAE", "force_mae_mev_per_angstrom", "meV/Å", "num_force_components", "mae", "forces"),
    Column(">zero forces", "force_baseline_mev_per_angstrom", "meV/Å", "num_force_components", label="forces"),
    Column(">energy RMSE", "energy_rmse_mev_per_atom", "meV/atom", "num_energies", "rmse", "energy"),
    Column(">force RMSE", "force_rmse_mev_per_angstrom", "meV/Å", "num_force_components", "rmse", "forces"),
    Column(">largest energy error", "energy_max_error_mev_per_atom", "meV/atom", "num_energies", "max_error", "energy"),
    Column(">largest force error", "force_max_error_mev_per_angstrom", "meV/Å", "num_force_components", "max_error", "forces"),
)
_SCALAR = (
    Column(">MAE", "target_mae", "", "num_targets", "mae"),
    Column(">RMSE", "target_rmse", "", "num_targets", "rmse"),
    Column(">MAE of the mean", "target_mean_baseline", "", "num_targets"),
    Column(">MAE of the composition", "target_composition_baseline", "", "num_targets"),
    Column(">largest error", "target_max_error", "", "num_targets", "max_error"),
)
_CLASS = (
    Column(">ROC-AUC", "roc_auc", "", "num_targets", "roc_auc"),
    Column(">F1", "f1", "", "num_targets", "f1"),
    Column(">accuracy", "accuracy", "", "num_targets", "accuracy"),
    Column(">accuracy of the majority", "majority_accuracy", "", "num_targets"),
    Column(">of class 1", "num_positives"),
)
_KINDS: dict[str, tuple[str, tuple[Column, ...]]] = {
    "energy": ("Errors", _ENERGY),
    "scalar": ("Errors of scalars", _SCALAR),
    "class": ("Scores of classes", _CLASS),
}
_LEADING = ("mae", "roc_auc")
"""What tasks are compared by that do not say."""
