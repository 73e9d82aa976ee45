"""Figures of a campaign as a whole: node-hours, attempts, scores of candidates."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from workflow.report import figures
from workflow.report.facts import StageFacts
from workflow.report.figures import COLORS, DONE, FAILED, FAINT, NEUTRAL, PARTIAL, RUNNING
from workflow.report.tables import number

ENDS = {
    "running": (RUNNING, "running"),
    "done": (DONE, "done"),
    "partial": (PARTIAL, "stopped in order, more to do"),
    "failed": (FAILED, "failed"),
    "unneeded": (NEUTRAL, "not needed any more, or revoked"),
}
MOST_ATTEMPTS = 150


def node_hours(stages: Sequence[StageFacts]) -> str:
    """Draw node-hours used beside those planned, stage by stage."""
    shown = [stage.status for stage in stages if stage.status.planned_node_hours or stage.status.node_hours]
    with figures.figure("node-hours", 7.6, 0.95 + 0.36 * len(shown)) as picture:
        axes = picture.subplots()
        planned, used = [each.planned_node_hours for each in shown], [each.node_hours for each in shown]
        axes.barh(range(len(shown)), planned, height=0.72, color=FAINT, label="planned, at most")
        axes.barh(range(len(shown)), used, height=0.4, color=COLORS[0], label="used")
        for place, (most, spent) in enumerate(zip(planned, used, strict=True)):
            _beside(axes, max(most, spent), place, f"{number(spent)} of {number(most)}")
        axes.set_yticks(range(len(shown)), [each.key for each in shown])
        axes.invert_yaxis()
        axes.margins(x=0.14)
        axes.set_xlim(left=0)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("node-hours")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        figures.legend_below(picture)
        return figures.svg(picture)


def histogram(name: str, edges: Sequence[float], counts: Sequence[float], label: str) -> str:
    """Draw how many candidates have which score."""
    with figures.figure(name, 7.6, 2.8) as picture:
        axes = picture.subplots()
        axes.stairs(counts, edges, fill=True, color=COLORS[0], alpha=0.75)
        axes.set_xlabel(label)
        axes.set_ylabel("structures")
        axes.set_ylim(bottom=0)
        return figures.svg(picture)


def timeline(stages: Sequence[StageFacts], now: float) -> str:
    """Draw the newest attempts: the wait in the queue, the run, and how it ended, with a key."""
    rows = sorted(((stage.key, each) for stage in stages for each in stage.history.tries), key=lambda row: row[1].asked)
    rows = rows[-MOST_ATTEMPTS:]
    zero = min(each.asked for _, each in rows)
    scale, unit = figures.time_unit(max(each.ended or now for _, each in rows) - zero)
    with figures.figure("timeline", 7.6, 1.1 + 0.27 * len(rows)) as picture:
        axes = picture.subplots()
        for place, (_, each) in enumerate(rows):
            begun, end = each.started or each.ended or now, each.ended or now
            axes.barh(place, (begun - each.asked) / scale, left=(each.asked - zero) / scale, height=0.34, color=FAINT)
            axes.barh(place, (end - begun) / scale, left=(begun - zero) / scale, height=0.72, color=ENDS[_end(each.state)][0])
            if each.state in ("failed", "revoked"):
                _beside(axes, (end - zero) / scale, place, each.cause or each.state)
        axes.set_yticks(range(len(rows)), [f"{key} {each.link}.{each.attempt}" for key, each in rows], fontsize=8.5)
        axes.invert_yaxis()
        axes.margins(x=0.12, y=0.02)
        axes.set_xlim(left=0)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"{unit} since the first attempt" + (" shown" if len(rows) == MOST_ATTEMPTS else ""))
        seen = {_end(each.state) for _, each in rows}
        key = [
            Patch(color=FAINT, label="waiting for nodes"),
            *(Patch(color=c, label=t) for s, (c, t) in ENDS.items() if s in seen),
        ]
        picture.legend(handles=key, loc="outside lower center", ncols=min(4, len(key)))
        return figures.svg(picture)


def _beside(axes: Axes, x: float, y: float, text: str) -> None:
    """Write to the right of the end of a bar."""
    axes.annotate(text, (x, y), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8.5, annotation_clip=False)


def _end(state: str) -> str:
    """Return which entry of the key an attempt's state belongs to."""
    return {"submitting": "running", "queued": "running", "revoked": "unneeded"}.get(state, state if state in ENDS else "done")
