"""Figures of a report as inline SVG that reads on light and dark paper alike."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from workflow.report.facts import StageFacts

_INK, _FAINT = "#010203", "#040506"  # stand-ins that the page's own colours replace
COLORS = ("#3b82f6", "#e5793a", "#2ea36b", "#b15fd0", "#c99700", "#d9485f", "#14a3b8", "#8a7f72")
CAUSES = {"oom": "#d9485f", "diverged": "#c99700", "bad_config": "#b15fd0"}
_STYLE = {
    "svg.fonttype": "none",  # text stays text: searchable, in the page's font
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _FAINT,
    "axes.titlesize": 10,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _FAINT,
    "grid.linewidth": 0.5,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 9,
}
_MOST_VECTOR_POINTS = 1500


def node_hours(stages: Sequence[StageFacts]) -> str:
    """Draw node-hours used beside those planned, stage by stage."""
    shown = [stage.status for stage in stages if stage.status.planned_node_hours or stage.status.node_hours]
    with _figure("node-hours", (7.2, 0.55 + 0.42 * len(shown))) as figure:
        axes = figure.subplots()
        places = range(len(shown))
        axes.barh(
            places, [each.planned_node_hours for each in shown], height=0.7, color=COLORS[0], alpha=0.25, label="planned, at most"
        )
        axes.barh(places, [each.node_hours for each in shown], height=0.36, color=COLORS[0], label="used")
        axes.set_yticks(places, [each.key for each in shown])
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("node-hours")
        axes.legend(loc="lower right")
        return _svg(figure, "node-hours")


def search(name: str, trials: Sequence[dict[str, Any]]) -> str:
    """Draw a search: the objective of each trial, the best so far, and failures by cause."""
    done, stopped = _objectives(trials, "done"), _objectives(trials, "stopped")
    with _figure(name, (7.2, 3.2)) as figure:
        axes = figure.subplots()
        numbers, values = [number for number, _ in done], [value for _, value in done]
        rasterized = len(done) > _MOST_VECTOR_POINTS
        axes.plot(numbers, values, "o", ms=4, color=COLORS[0], alpha=0.7, label="trial", rasterized=rasterized)
        if stopped:
            places, early = zip(*stopped, strict=True)
            axes.plot(places, early, "o", ms=4, mfc="none", mec=COLORS[7], label="stopped early", rasterized=rasterized)
        axes.step(numbers, _running_best(values), where="post", color=COLORS[2], lw=1.8, label="best so far")
        _mark_failures(axes, trials)
        if values and max(values) > 8 * min(values) > 0:
            _scale_log(axes)
        axes.set_xlabel("trial, in the order of suggestion")
        axes.set_ylabel("objective (validation, dimensionless)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _legend_beside(axes)
        return _svg(figure, name)


def curves(name: str, lines: Sequence[dict[str, Any]], metrics: dict[str, dict[str, Any]]) -> str:
    """Draw validation errors of a training for each branch, energies and forces, over epochs; baselines dashed."""
    panels = (
        ("energy_mae_mev_per_atom", "energy_baseline_mev_per_atom", "energy MAE (meV/atom)"),
        ("force_mae_mev_per_angstrom", "force_baseline_mev_per_angstrom", "force MAE (meV/Å)"),
    )
    branches = list(dict.fromkeys(branch for line in lines for branch in line.get("validation") or {}))
    with _figure(name, (7.2, 3.2)) as figure:
        for axes, (quantity, baseline, label) in zip(figure.subplots(1, 2), panels, strict=True):
            for number, branch in enumerate(branches):
                color = COLORS[number % len(COLORS)]
                points = [(line["epoch"], value) for line in lines if (value := _value(line, branch, quantity)) is not None]
                axes.plot(*zip(*points, strict=True) if points else ([], []), "-o", ms=3, lw=1.5, color=color, label=branch)
                level = metrics.get(branch, {}).get(baseline) or _value(lines[-1], branch, baseline)
                if level:
                    axes.axhline(level, ls="--", lw=1, color=color, alpha=0.7)
            _scale_log(axes)
            axes.set_xlabel("epoch")
            axes.set_ylabel(label)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _legend_beside(figure.axes[-1])
        return _svg(figure, name)


def histogram(name: str, edges: Sequence[float], counts: Sequence[float], label: str) -> str:
    """Draw how many candidates have which score."""
    with _figure(name, (7.2, 2.6)) as figure:
        axes = figure.subplots()
        axes.stairs(counts, edges, fill=True, color=COLORS[0], alpha=0.6)
        axes.set_xlabel(label)
        axes.set_ylabel("structures")
        return _svg(figure, name)


def timeline(stages: Sequence[StageFacts], now: float) -> str:
    """Draw every attempt: the wait in the queue, the run, and how it ended."""
    rows = [(stage.key, each) for stage in stages for each in stage.history.tries]
    zero = min(each.asked for _, each in rows)
    scale, unit = _time_unit(max(each.ended or now for _, each in rows) - zero)
    with _figure("timeline", (7.2, 0.7 + 0.26 * len(rows))) as figure:
        axes = figure.subplots()
        for place, (_, each) in enumerate(rows):
            begun, end = each.started or each.ended or now, each.ended or now
            axes.barh(place, (begun - each.asked) / scale, left=(each.asked - zero) / scale, height=0.5, color=_FAINT)
            axes.barh(place, (end - begun) / scale, left=(begun - zero) / scale, height=0.7, color=_color_of(each.state))
            if each.state in ("failed", "revoked"):
                axes.text((end - zero) / scale, place, f" {each.cause or each.state}", va="center", fontsize=8, color=COLORS[5])
        axes.set_yticks(range(len(rows)), [f"{key} {each.link}.{each.attempt}" for key, each in rows], fontsize=8)
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.set_xlim(left=0)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"{unit} since the first attempt (grey: waiting for nodes)")
        return _svg(figure, "timeline")


def _scale_log(axes: Axes) -> None:
    """Scale by powers, labelled with plain figures at 1, 2 and 5."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _running_best(values: Sequence[float]) -> list[float]:
    best: list[float] = []
    for value in values:
        best.append(min(value, best[-1]) if best else value)
    return best


def _objectives(trials: Sequence[dict[str, Any]], status: str) -> list[tuple[int, float]]:
    found = [row for row in trials if row.get("status") == status and isinstance(row.get("objective"), int | float)]
    return [(row["id"], float(row["objective"])) for row in found]


def _mark_failures(axes: Axes, trials: Sequence[dict[str, Any]]) -> None:
    """Mark failed trials along the top edge, so that they take no part in the scale of the objective."""
    causes = sorted({str(row.get("cause")) for row in trials if row.get("status") == "failed"})
    for number, cause in enumerate(causes):
        places = [row["id"] for row in trials if row.get("status") == "failed" and str(row.get("cause")) == cause]
        color = CAUSES.get(cause, COLORS[number % len(COLORS)])
        top = axes.get_xaxis_transform()
        axes.plot(
            places, [0.98] * len(places), "x", ms=6, mew=1.6, color=color, transform=top, label=f"failed: {cause}", clip_on=False
        )


def _value(line: dict[str, Any], branch: str, quantity: str) -> float | None:
    value = ((line.get("validation") or {}).get(branch) or {}).get(quantity)
    return float(value) if isinstance(value, int | float) and value > 0 else None


def _legend_beside(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0)


def _color_of(state: str) -> str:
    return {"failed": COLORS[5], "revoked": COLORS[7], "unneeded": COLORS[7], "running": COLORS[0], "partial": COLORS[6]}.get(
        state, COLORS[2]
    )


def _time_unit(seconds: float) -> tuple[float, str]:
    return next(
        ((scale, unit) for scale, unit in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")) if seconds > 2 * scale),
        (1.0, "seconds"),
    )


@contextmanager
def _figure(name: str, size: tuple[float, float]) -> Iterator[Figure]:
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        yield Figure(figsize=size, layout="constrained")


def _svg(figure: Figure, name: str) -> str:
    """Return the figure as SVG for the inside of a page: no fixed size, the page's ink, no ids that could clash."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'<g id="[^"]*">', "<g>", text)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(
        r'<svg [^>]*?(viewBox="[^"]*")[^>]*>',
        rf'<svg \1 xmlns:xlink="http://www.w3.org/1999/xlink" role="img" aria-label="{_plain(name)}">',
        text,
    )
    return text.replace(_INK, "var(--ink)").replace(_FAINT, "var(--faint)")


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9 _./-]", "", name)
