"""The sections of a report that tell of the campaign as a whole: state, graph, costs, times, attempts, provenance."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from workflow.report import plots, tables, time_tables, training_plots
from workflow.report.blocks import Block, Picture, Section
from workflow.report.facts import Facts
from workflow.report.graph import draw_graph
from workflow.report.provenance import campaign_origin, stages_origin
from workflow.report.tables import number
from workflow.report.timings import phases
from workflow.stages.base import walltime_text

_MOST_OPEN = 25
"""Rows of a table that is not folded."""
_JOURNAL = ("campaign.json", "journal/")


def summary(facts: Facts) -> Section:
    """Return the state of everything at a glance."""
    status = facts.status
    done = sum(stage.state == "done" for stage in status.stages)
    best = min((stage.objective for stage in status.stages if stage.objective is not None), default=None)
    cards = [
        (f"{done} of {len(status.stages)}", "stages done"),
        (number(status.node_hours), "node-hours used"),
        (number(status.planned_node_hours), "node-hours planned, at most"),
        _limit(facts),
    ]
    cards += [_age(facts)] if facts.begun else []
    cards += [(number(best), "best objective")] if best is not None else []
    table = Block(table=tables.stages_table(facts), origin=campaign_origin(facts, *_JOURNAL))
    return Section("summary", "Summary", cards=tuple(cards), blocks=(table,) if status.stages else ())


def graph(facts: Facts) -> Section:
    """Return the picture of the stages."""
    stages = facts.status.stages
    if not stages:
        return Section("graph", "Stages")
    caption = (
        "What waits for what, from left to right; needs that another need implies are left out. The sign tells the state: "
        "✓ done, ▶ queued or at work, ✗ failed or cancelled, ‖ held, ○ waiting."
    )
    needs = "; ".join(f"{each.key} ({each.state})" + (f" after {', '.join(each.needs)}" if each.needs else "") for each in stages)
    origin = campaign_origin(facts, *_JOURNAL)
    picture = Picture("Graph of the stages", f"Graph of {len(stages)} stages: {needs}.", draw_graph(stages), caption, origin)
    return Section("graph", "Stages", blocks=(Block(picture=picture),))


def costs(facts: Facts) -> Section:
    """Return node-hours used against planned ones."""
    about = "Planned: every job at full walltime, all links used and none repeated. Used: what ended jobs took."
    shown = [stage.status for stage in facts.stages if stage.status.planned_node_hours or stage.status.node_hours]
    if not shown:
        return Section("costs", "Node-hours", about)
    told = "; ".join(f"{each.key} {number(each.node_hours)} of {number(each.planned_node_hours)}" for each in shown)
    status = facts.status
    caption = f"{number(status.node_hours)} of {number(status.planned_node_hours)} planned node-hours are used."
    caption += f" Budget: {number(status.budget)}." if status.budget is not None else ""
    caption += f" Approved since: up to {number(status.approved)}." if status.approved != status.budget else ""
    picture = Picture(
        "Node-hours used and planned by stage",
        f"Bars of node-hours used out of those planned: {told}.",
        plots.node_hours(facts.stages),
        caption,
        campaign_origin(facts, *_JOURNAL, "receipts of attempts"),
    )
    return Section("costs", "Node-hours", about, blocks=(Block(picture=picture),))


def times(facts: Facts) -> Section:
    """Return what stage-in, checkpoints and the phases of training took."""
    blocks: list[Block] = []
    if shown := time_tables.trained(facts):
        rows = [(stage.key, phases(tasks)) for stage, tasks in shown]
        told = "; ".join(
            f"{name}: "
            + ", ".join(f"{phase} {100 * s / max(sum(spent.values()), 1e-9):.0f} %" for phase, s in spent.items() if s)
            for name, spent in rows
        )
        caption = (
            "Load: reading stores and building the model. Reduce: waiting for other ranks included. Other: start, progress, end."
        )
        origin = stages_origin(facts, [stage for stage, _ in shown], "stages/*/link-*/attempt-*/run/tasks/*/outcome.json")
        picture = Picture(
            "Where the time of trainings went", f"Shares of time. {told}.", training_plots.phases(rows), caption, origin
        )
        blocks += [Block(picture=picture), Block(table=time_tables.phases_table(facts), folded=True)]
        blocks.append(Block(table=time_tables.checkpoint_table(facts), origin=origin))
    if any(stage.stage_ins for stage in facts.stages):
        origin = campaign_origin(facts, "stages/*/link-*/attempt-*/run/staging/*/staged.json")
        table = time_tables.stage_in_table(facts)
        blocks.append(Block(table=table, origin=origin, folded=len(table.rows) > _MOST_OPEN))
    return Section("times", "Times", blocks=tuple(blocks))


def attempts(facts: Facts) -> Section:
    """Return what was tried when, and how it ended."""
    about = f"{facts.status.events} events of {facts.drivers} driver{'s' * (facts.drivers != 1)}; times are the driver's clock."
    tries = [each for stage in facts.stages for each in stage.history.tries]
    if not tries:
        return Section("attempts", "Attempts", about)
    ends = {state: sum(each.state == state for each in tries) for state in dict.fromkeys(each.state for each in tries)}
    told = ", ".join(f"{count} {state}" for state, count in ends.items())
    more = f", the newest {plots.MOST_ATTEMPTS} of {len(tries)}" if len(tries) > plots.MOST_ATTEMPTS else ""
    picture = Picture(
        "Attempts over time",
        f"Bars of {len(tries)} attempts over time, each with its wait and its run: {told}.",
        plots.timeline(facts.stages, facts.written.timestamp()),
        f"One row for each attempt, as stage link.attempt{more}: {told}.",
        campaign_origin(facts, "journal/"),
    )
    table = Block(table=tables.attempts_table(facts), folded=True)
    return Section("attempts", "Attempts", about, blocks=(Block(picture=picture), table))


def provenance(facts: Facts) -> Section:
    """Return what everything rests on; each figure and table above tells its own origin."""
    created = {
        key: value for key, value in facts.created.items() if key not in ("seq", "epoch", "t", "event", "hash", "versions")
    }
    versions = facts.created.get("versions") or {}
    rows = [(key, str(value)) for key, value in created.items()]
    rows += [(f"version of {key}", str(value)) for key, value in sorted(versions.items())]
    if "t" in facts.created:
        rows.append(("created", datetime.fromtimestamp(facts.created["t"], UTC).isoformat(timespec="seconds")))
    blocks = [Block(facts=tuple(rows))] if rows else []
    table = [Block(table=tables.provenance_table(facts))] if facts.stages else []
    return Section("provenance", "Provenance", "Files vouched for: with size and SHA-256, in the stages' receipts.",
                   blocks=(*blocks, *table))  # fmt: skip


def _shares(spent: Mapping[str, float]) -> str:
    total = sum(spent.values()) or 1.0
    return ", ".join(f"{phase} {100 * seconds / total:.0f} %" for phase, seconds in spent.items() if seconds)


def _limit(facts: Facts) -> tuple[str, str]:
    budget, approved = facts.status.budget, facts.status.approved
    if budget is None:
        return "none", "budget, node-hours"
    if approved is None or approved == budget:
        return number(budget), "budget, node-hours"
    return number(approved), f"approved, node-hours, beyond a budget of {number(budget)}"


def _age(facts: Facts) -> tuple[str, str]:
    ended = max((each.ended for stage in facts.stages for each in stage.history.tries if each.ended), default=None)
    begun = facts.begun.timestamp() if facts.begun else 0.0
    is_over = facts.status.state == "done" and ended is not None
    now = ended if is_over and ended is not None else facts.written.timestamp()
    return walltime_text(max(0.0, now - begun)), "from the first event to the last" if is_over else "since the first event"
