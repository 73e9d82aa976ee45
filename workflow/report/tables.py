"""The tables of a report: columns with units, rows of text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from workflow.report.facts import Facts, StageFacts
from workflow.stages.base import walltime_text

Metrics = dict[str, dict[str, Any]]
_ERRORS = (
    "energy_mae_mev_per_atom",
    "energy_baseline_mev_per_atom",
    "force_mae_mev_per_angstrom",
    "force_baseline_mev_per_angstrom",
)


BLENDS = {
    "energy_mae_mev_per_atom": "blend",
    "mean_of_branches_mae_mev_per_atom": "mean of branches",
    "own_branch_mae_mev_per_atom": "own branch",
}
"""Ways to an energy out of several branches, by the name of their error."""
MOST_RANKED = 1000


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        caption: What it shows.
        columns: Heads, with units; one that begins with `>` is aligned to the right.
        rows: Cells as text.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def stages_table(facts: Facts) -> Table:
    """Return all stages with state, size and cost."""
    columns = ("stage", "kind", "state", ">nodes", ">links", ">attempts", ">node-hours used", ">planned, at most", "note")
    rows = []
    for each in (stage.status for stage in facts.stages):
        note = ": ".join(text for text in (each.cause, each.message) if text) or (
            f"waits for {', '.join(each.waits_for)}" if each.waits_for and each.state == "waiting" else ""
        )
        links = f"{each.link} of {each.links}" if each.link else str(each.links) if each.nodes else ""
        sizes = (
            str(each.nodes or "login"),
            links,
            str(each.attempts or ""),
            number(each.node_hours),
            number(each.planned_node_hours),
        )
        rows.append((each.key, each.kind, each.state, *sizes, note))
    if not any(row[-1] for row in rows):
        return Table("Stages", columns[:-1], tuple(row[:-1] for row in rows))
    return Table("Stages", columns, tuple(rows))


def data_table(stage: StageFacts) -> Table:
    """Return what a conversion found in each branch."""
    columns = ("branch", ">structures", ">atoms", ">rejected", ">elements", ">train", ">validation", ">test")
    rows = []
    for name, found in sorted((stage.result.get("branches") or {}).items()):
        splits = found.get("splits") or {}
        counts = [found.get("structures"), found.get("atoms"), found.get("rejected"), _length(found.get("elements"))]
        rows.append(
            (name, *(number(each) for each in [*counts, *(splits.get(part) for part in ("train", "validation", "test"))]))
        )
    return Table(f"Data sets ({stage.key})", columns, tuple(rows))


def splits_of(result: dict[str, Any]) -> dict[str, Metrics]:
    """Return a training's errors by branch, on every split that was measured."""
    test = result.get("test") or {}
    return {"validation": result.get("metrics") or {}, **({"test": test["metrics"]} if test.get("metrics") else {})}


def errors_table(title: str, metrics: Metrics) -> Table:
    """Return the errors of each branch beside what knows nothing: the linear fit of energies, and zero forces."""
    columns = (
        "branch",
        ">energy MAE (meV/atom)",
        ">linear fit (meV/atom)",
        ">force MAE (meV/Å)",
        ">zero forces (meV/Å)",
        ">structures",
    )
    rows = [(name, *(number(found.get(key)) for key in (*_ERRORS, "num_structures"))) for name, found in sorted(metrics.items())]
    return Table(title, columns, tuple(rows))


def trials_table(stage: StageFacts, most: int = 200) -> Table:
    """Return a search's trials, the best first, failures last."""

    def rank(row: dict[str, Any]) -> tuple[bool, float]:
        value = row.get("objective")
        return value is None, float(value if value is not None else row["id"])

    shown = sorted(stage.trials, key=rank)[:most]
    rows = [
        (
            str(row["id"]),
            str(row.get("status")),
            number(row.get("objective")),
            number(row.get("epochs")),
            number(row.get("seconds")),
            str(row.get("interrupted") or ""),
            ": ".join(str(row[key]) for key in ("cause", "message") if row.get(key)),
            json.dumps(row.get("config"), sort_keys=True).strip("{}").replace('"', ""),
        )
        for row in shown
    ]
    columns = (">trial", "status", ">objective", ">epochs", ">seconds", ">interrupted", "why", "configuration")
    more = f", the first {most} of {len(stage.trials)}" if len(stage.trials) > most else ""
    return Table(f"Trials of {stage.key}{more}", columns, tuple(rows))


def promotion_table(stage: StageFacts) -> Table:
    """Return the ranking of a promotion with those it selected."""
    chosen = {_source(row) for row in stage.result.get("selected") or []}
    rows = [
        (
            str(place),
            str(row.get("backbone")),
            _source(row),
            *(number(row.get(k)) for k in ("objective", "epochs", "seconds")),
            "selected" if _source(row) in chosen else "",
        )
        for place, row in enumerate(stage.result.get("ranking") or [], start=1)
    ]
    return Table(
        f"Promotion {stage.key}", ("rank", "backbone", "from", ">objective", ">epochs", ">seconds", "verdict"), tuple(rows)
    )


def blend_table(stage: StageFacts) -> Table:
    """Return the errors of blended energies on each branch's labels beside simpler ways, and the mean weights."""
    metrics: Metrics = stage.result["metrics"]
    weights = list(dict.fromkeys(name for found in metrics.values() for name in found.get("weights") or {}))
    columns = ("labels of", *(f">{way}" for way in BLENDS.values()), *(f">weight of {name}" for name in weights))
    rows = [
        (
            name,
            *(f"{number(found[way])} meV/atom" if found.get(way) is not None else "" for way in BLENDS),
            *(number((found.get("weights") or {}).get(each)) for each in weights),
        )
        for name, found in sorted(metrics.items())
    ]
    return Table(f"Energy MAE on validation with the branch weights of {stage.key}", columns, tuple(rows))


def ranking_table(stage: StageFacts) -> Table:
    """Return the best candidates of a screening."""
    score, unit = str(stage.result.get("score", "score")), stage.result.get("unit")
    top = [row for row in stage.result.get("top") or [] if isinstance(row, dict)][:MOST_RANKED]
    keys = list(dict.fromkeys(["place", "id", *(key for row in top for key in row)]))
    names = {"place": "rank", "num_atoms": "atoms", score: f"{score} ({unit})" if unit else score}
    numeric = {key for key in keys if key != "place" and any(isinstance(row.get(key), int | float) for row in top)}
    columns = tuple(f"{'>' if key in numeric else ''}{names.get(key, key)}" for key in keys)
    rows = [tuple(number({"place": place, **row}.get(key)) for key in keys) for place, row in enumerate(top, start=1)]
    order = f", {stage.result['order']}" if stage.result.get("order") else ""
    asked = int(stage.spec.get("top") or len(rows))
    fewer = f"; {asked} were asked for" if len(rows) < asked else ""
    return Table(f"Best {len(rows)} candidates of {stage.key} by {score}{order}{fewer}", columns, tuple(rows))


def attempts_table(facts: Facts) -> Table:
    """Return every attempt at every link with its token and end."""
    columns = (
        "stage",
        ">link",
        ">attempt",
        "token",
        "job",
        ">nodes",
        "asked (UTC)",
        ">waited",
        ">ran",
        "end",
        "cause",
        ">node-hours",
    )
    rows = []
    for stage in facts.stages:
        for each in stage.history.tries:
            waited = each.started - each.asked if each.started else None
            ran = each.ended - each.started if each.started and each.ended else None
            place = (stage.key, str(each.link), str(each.attempt), each.token, each.job_id, str(each.nodes))
            times = (datetime.fromtimestamp(each.asked, UTC).strftime("%Y-%m-%d %H:%M:%S"), _duration(waited), _duration(ran))
            why = ": ".join(text for text in (each.cause, each.message) if text)
            rows.append((*place, *times, each.state, why, number(each.node_hours)))
    return Table("Attempts", columns, tuple(rows))


def provenance_table(facts: Facts) -> Table:
    """Return where every figure comes from: versions, seeds, precision, layout, ranks, checkpoint."""
    columns = ("stage", ">seed", "precision", "layout", ">ranks", ">parameters", "versions", ">files vouched for")
    rows = []
    for stage in facts.stages:
        training = {**(stage.result.get("training") or {}), **(stage.spec.get("training") or {})}
        seed = stage.spec.get("seed", training.get("seed"))
        versions = ", ".join(f"{name} {version}" for name, version in sorted((stage.outcome.get("versions") or {}).items()))
        texts = (number(seed), str(training.get("precision", "")), str(training.get("layout", "")))
        counts = (number(stage.outcome.get("world_size")), number(stage.result.get("parameters")))
        rows.append((stage.key, *texts, *counts, versions, str(len(stage.outputs) or "")))
    return Table("Provenance by stage", columns, tuple(rows))


def number(value: Any) -> str:
    """Return a figure for people: four digits, thousands apart; empty where there is none."""
    if value is None or isinstance(value, bool) or not isinstance(value, int | float):
        return "" if value is None else str(value)
    if isinstance(value, int) or (abs(value) >= 1e4 and value == value):
        return f"{value:,.0f}"
    return f"{value:.4g}"


def _length(value: Any) -> int | None:
    return len(value) if isinstance(value, Sequence | dict) else value


def _source(row: dict[str, Any]) -> str:
    source = row.get("source") or {}
    trial = source.get("trial")
    return f"{source.get('stage')}" + (f", trial {trial}" if trial is not None else "")


def _duration(seconds: float | None) -> str:
    return "" if seconds is None else walltime_text(max(0.0, seconds))
