"""The sections of a report: which figures and tables stand in each."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

from workflow.report import plots, tables
from workflow.report.facts import Facts, StageFacts
from workflow.report.graph import draw_graph
from workflow.report.tables import Table, number
from workflow.stages.base import walltime_text


@dataclass(frozen=True)
class Block:
    """A figure, a table, a list of facts or a sentence.

    Attributes:
        title: Heading, or empty.
        text: Sentence, or the caption of the figure.
        svg: The figure.
        table: The table.
        folded: Whether the table is shown on request only.
        facts: Names and values.
    """

    title: str = ""
    text: str = ""
    svg: Markup | None = None
    table: Table | None = None
    folded: bool = False
    facts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        id: Anchor.
        title: Heading.
        about: A sentence on how to read it.
        cards: Figures that stand out, with their names.
        blocks: What it shows; none: not done yet.
    """

    id: str
    title: str
    about: str = ""
    cards: tuple[tuple[str, str], ...] = ()
    blocks: tuple[Block, ...] = field(default=())


def summary(facts: Facts) -> Section:
    """Return the state of everything at a glance."""
    status = facts.status
    done = sum(stage.state == "done" for stage in status.stages)
    ended = max((each.ended for stage in facts.stages for each in stage.history.tries if each.ended), default=None)
    begun = facts.begun.timestamp() if facts.begun else None
    now = ended if status.state == "done" and ended else facts.written.timestamp()
    best = min((stage.objective for stage in status.stages if stage.objective is not None), default=None)
    cards = [(f"{done} of {len(status.stages)}", "stages done"), (number(status.node_hours), "node-hours used")]
    cards.append((number(status.budget) if status.budget is not None else "none", "budget, node-hours"))
    if begun is not None:
        cards.append(
            (
                walltime_text(max(0.0, now - begun)),
                "from the first event to the last" if status.state == "done" else "since the first event",
            )
        )
    if best is not None:
        cards.append((number(best), "best objective"))
    return Section("summary", "Summary", cards=tuple(cards), blocks=(Block(table=tables.stages_table(facts)),))


def graph(facts: Facts) -> Section:
    """Return the picture of the stages."""
    if not facts.stages:
        return Section("graph", "Stages")
    text = "What waits for what, from left to right (needs that another need implies are left out); dashed: still waiting."
    return Section("graph", "Stages", blocks=(Block(text=text, svg=Markup(draw_graph(facts.status.stages))),))  # noqa: S704 escaped there


def costs(facts: Facts) -> Section:
    """Return node-hours used against planned ones."""
    about = "Planned: every job at full walltime, all links used and none repeated. Used: what ended jobs took."
    if not any(stage.status.planned_node_hours or stage.status.node_hours for stage in facts.stages):
        return Section("costs", "Node-hours", about)
    return Section("costs", "Node-hours", about, blocks=(_figure(plots.node_hours(facts.stages), "Node-hours by stage."),))


def data(facts: Facts) -> Section:
    """Return what the conversions found."""
    found = [stage for stage in facts.stages if stage.result.get("branches") and stage.status.kind == "convert"]
    return Section("data", "Data", blocks=tuple(Block(table=tables.data_table(stage)) for stage in found))


def searches(facts: Facts) -> Section:
    """Return each search's trajectory and trials."""
    about = (
        "Objective: mean over branches of ½(energy MAE/σ_E + force MAE/σ_F) on validation, σ the training split's spread of "
        "residual energy per atom and its RMS force; lower is better. Failed trials stand along the top edge."
    )
    blocks: list[Block] = []
    for stage in facts.stages:
        if stage.trials:
            text = _trials_text(stage)
            blocks.append(_figure(plots.search(f"search {stage.key}", stage.trials), text, _titled(stage)))
            blocks.append(Block(table=tables.trials_table(stage), folded=True))
    return Section("searches", "Searches", about, blocks=tuple(blocks))


def trainings(facts: Facts) -> Section:
    """Return validation errors of each training, branch by branch."""
    about = (
        "Validation errors; dashed: what knows nothing (per-element linear fit for energies, zero for forces), "
        "fitted on the training split."
    )
    blocks: list[Block] = []
    for stage in facts.stages:
        if stage.status.kind != "train":
            continue
        metrics = stage.result.get("metrics") or {}
        for task, lines in stage.curves.items():
            if lines:
                text = (
                    f"{len(lines)} validations, {number(lines[-1].get('epoch'))} epochs, {number(lines[-1].get('step'))} steps."
                )
                blocks.append(_figure(plots.curves(f"training {stage.key} {task}", lines, metrics), text, _titled(stage)))
        for split, errors in tables.splits_of(stage.result).items():
            if errors:
                blocks.append(Block(table=tables.errors_table(f"Errors of {stage.key} on {split}", errors)))
    return Section("trainings", "Training", about, blocks=tuple(blocks))


def promotions(facts: Facts) -> Section:
    """Return what was promoted out of what."""
    found = [stage for stage in facts.stages if "ranking" in stage.result]
    return Section("promotions", "Promotion", blocks=tuple(Block(table=tables.promotion_table(stage)) for stage in found))


def finetunings(facts: Facts) -> Section:
    """Return each fine-tuning's table."""
    found = [stage for stage in facts.stages if "table" in stage.result]
    return Section("finetunings", "Fine-tuning", blocks=tuple(Block(table=tables.finetuning_table(stage)) for stage in found))


def screenings(facts: Facts) -> Section:
    """Return each screening's histogram and best candidates, and the blends behind them."""
    blocks: list[Block] = []
    for stage in facts.stages:
        if stage.status.kind == "blend" and stage.result.get("metrics"):
            blocks.append(Block(table=tables.blend_table(stage)))
        if "top" in stage.result:
            blocks += _screening(stage)
    return Section("screenings", "Screening", blocks=tuple(blocks))


def attempts(facts: Facts) -> Section:
    """Return what was tried when, and how it ended."""
    about = f"{facts.status.events} events of {facts.drivers} driver{'s' * (facts.drivers != 1)}; times are the driver's clock."
    if not any(stage.history.tries for stage in facts.stages):
        return Section("attempts", "Attempts", about)
    picture = plots.timeline(facts.stages, facts.written.timestamp())
    return Section(
        "attempts",
        "Attempts",
        about,
        blocks=(_figure(picture, "Every attempt, as link.attempt."), Block(table=tables.attempts_table(facts), folded=True)),
    )


def provenance(facts: Facts) -> Section:
    """Return where every figure comes from."""
    created = {key: value for key, value in facts.created.items() if key not in ("seq", "epoch", "t", "event", "versions")}
    versions = facts.created.get("versions") or {}
    rows = [(key, str(value)) for key, value in created.items()] + [
        (f"version of {key}", str(value)) for key, value in sorted(versions.items())
    ]
    if "t" in facts.created:
        rows.append(("created", datetime.fromtimestamp(facts.created["t"], UTC).isoformat(timespec="seconds")))
    blocks = [Block(facts=tuple(rows))] if rows else []
    return Section("provenance", "Provenance", blocks=(*blocks, Block(table=tables.provenance_table(facts))))


def _screening(stage: StageFacts) -> list[Block]:
    result, blocks = stage.result, list[Block]()
    histogram = result.get("histogram") or {}
    flagged = f"{number(result.get('flagged') or 0)} flagged and not ranked"
    text = (
        f"{number(result.get('count'))} structures scored by {result.get('score', '?')}, {flagged}. {result.get('meaning', '')}"
    )
    if histogram.get("counts") and len(histogram.get("edges") or ()) == len(histogram["counts"]) + 1:
        label = f"{result.get('score', 'score')}{' (' + histogram['unit'] + ')' if histogram.get('unit') else ''}"
        picture = plots.histogram(f"scores {stage.key}", histogram["edges"], histogram["counts"], label)
        blocks.append(_figure(picture, text, _titled(stage)))
    else:
        blocks.append(Block(title=_titled(stage), text=text))
    return [*blocks, Block(table=tables.ranking_table(stage))]


def _trials_text(stage: StageFacts) -> str:
    done = sum(row.get("status") == "done" for row in stage.trials)
    causes: dict[str, int] = {}
    for row in stage.trials:
        if row.get("status") == "failed":
            causes[str(row.get("cause"))] = causes.get(str(row.get("cause")), 0) + 1
    failed = ", ".join(f"{count} {cause}" for cause, count in sorted(causes.items())) or "none"
    resumed = sum(bool(row.get("interrupted")) for row in stage.trials)
    stopped = sum(row.get("status") == "stopped" for row in stage.trials)
    early = f" {stopped} stopped early (their objective is that of fewer epochs);" if stopped else ""
    return f"{len(stage.trials)} trials: {done} done;{early} failed: {failed}; {resumed} interrupted and resumed."


def _titled(stage: StageFacts) -> str:
    backbone: Any = stage.result.get("backbone") or stage.spec.get("backbone")
    name = backbone.get("name") if isinstance(backbone, dict) else backbone
    unfinished = "" if stage.status.state == "done" else f" ({stage.status.state})"
    return f"{stage.key}{f', {name}' if name and name != stage.key else ''}{unfinished}"


def _figure(svg: str, text: str, title: str = "") -> Block:
    return Block(title=title, text=text, svg=Markup(svg))  # noqa: S704 matplotlib escapes what it draws
