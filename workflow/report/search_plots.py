"""Figures of searches: how the objective fell with evaluations and with time, and what it costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from workflow.report import figures
from workflow.report.figures import COLORS, FAILED, MARKERS, NEUTRAL

_MOST_MARKERS = 400
"""Points drawn as markers; more are drawn as dots."""
OBJECTIVE = "objective on validation"
Row = Mapping[str, Any]


def trajectory(name: str, trials: Sequence[Row]) -> str:
    """Draw a search: objectives and the best so far, by evaluation and, where it is known, by time since its first trial."""
    times = [float(row["ended"]) for row in trials if row.get("ended")]
    begun = min((float(row["asked"]) for row in trials if row.get("asked")), default=min(times, default=0.0))
    scale, unit = figures.time_unit(max(times, default=0.0) - begun)
    clocks = {row["id"]: (float(row["ended"]) - begun) / scale for row in trials if row.get("ended")}
    with figures.figure(name, 7.6, 3.4) as picture:
        panels = picture.subplots(1, 2 if clocks else 1, sharey=True, squeeze=False)[0]
        _draw(panels[0], trials, {row["id"]: float(row["id"]) for row in trials})
        panels[0].set_xlabel("evaluation, in the order of suggestion")
        panels[0].set_ylabel(OBJECTIVE)
        figures.whole_numbers(panels[0])
        if clocks:
            _draw(panels[1], trials, clocks)
            panels[1].set_xlabel(f"{unit} since the search began")
            panels[1].set_xlim(0, 1.05 * panels[1].get_xlim()[1])  # room for markers whose times lie close together
        values = [value for row in trials if (value := objective(row)) is not None]
        if values and max(values) > 8 * min(values) > 0:
            figures.scale_log(panels[0])
        figures.legend_below(picture)
        return figures.svg(picture)


def pareto(trials: Mapping[str, Sequence[Row]], nodes: Mapping[str, int]) -> str:
    """Draw what an objective costs: against parameters and against node time, with each backbone's front.

    Args:
        trials: Trials by backbone.
        nodes: Nodes of a trial, by backbone.
    """
    longest = max((float(row.get("seconds") or 0) * nodes[name] for name, rows in trials.items() for row in rows), default=0.0)
    scale, unit = figures.time_unit(longest)
    with figures.figure("pareto", 7.6, 3.6) as picture:
        panels = picture.subplots(1, 2, sharey=True)
        for number, (name, rows) in enumerate(trials.items()):
            sizes = [(float(row["parameters"]), value) for row in rows if (value := finished(row)) and row.get("parameters")]
            costs = [(nodes[name] * float(row.get("seconds") or 0) / scale, value) for row in rows if (value := finished(row))]
            for axes, points in zip(panels, (sizes, costs), strict=True):
                _front(axes, points, name, number)
        panels[0].set_xlabel("parameters")
        panels[0].xaxis.set_major_formatter(EngFormatter(sep=""))
        panels[0].locator_params(axis="x", nbins=6)
        panels[0].set_ylabel(OBJECTIVE)
        panels[1].set_xlabel(f"node-{unit} of training")
        figures.legend_below(picture, columns=6)
        return figures.svg(picture)


def front(points: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that no other beats in both cost and objective, the cheapest first."""
    kept: list[tuple[float, float]] = []
    for cost, value in sorted(points):
        if not kept or value < kept[-1][1]:
            kept.append((cost, value))
    return kept


def objective(row: Row) -> float | None:
    """Return a trial's objective, where it has one that counts."""
    value = row.get("objective")
    return float(value) if row.get("status") in ("done", "stopped") and isinstance(value, int | float) else None


def finished(row: Row) -> float | None:
    """Return the objective of a trial that saw all its epochs."""
    return objective(row) if row.get("status") == "done" else None


def _draw(axes: Axes, trials: Sequence[Row], places: Mapping[int, float]) -> None:
    done = sorted((places[row["id"]], value) for row in trials if row["id"] in places and (value := finished(row)) is not None)
    _scatter(axes, done, "trial", COLORS[0], "full")
    early = [row for row in trials if row.get("status") == "stopped" and row["id"] in places]
    stopped = [(places[row["id"]], value) for row in early if (value := objective(row)) is not None]
    _scatter(axes, stopped, "stopped early", NEUTRAL, "none")
    if done:
        x, y = zip(*_best_so_far(done), strict=True)
        axes.step(x, y, where="post", color=COLORS[2], lw=1.8, label="best so far")
    _mark_failures(axes, trials, places)


def _best_so_far(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return where the best objective fell, and to what; the last place closes the staircase."""
    best = front(points)
    return [*best, (points[-1][0], best[-1][1])]


def _scatter(axes: Axes, points: Sequence[tuple[float, float]], label: str, color: str, fill: str) -> None:
    if not points:
        return
    x, y = zip(*points, strict=True)
    if len(points) > _MOST_MARKERS:
        figures.dots(axes, x, y, color)
        axes.plot([], [], "o", ms=4, color=color, label=label)
    else:
        axes.plot(x, y, "o", ms=4.5, color=color, fillstyle=fill, label=label)  # type: ignore[arg-type]


def _mark_failures(axes: Axes, trials: Sequence[Row], places: Mapping[int, float]) -> None:
    """Mark failed trials along the top edge, so that they take no part in the scale of the objective."""
    failed = [row for row in trials if row.get("status") == "failed" and row["id"] in places]
    for number, cause in enumerate(sorted({str(row.get("cause")) for row in failed})):
        at = [places[row["id"]] for row in failed if str(row.get("cause")) == cause]
        marker, color = ("x", "+", "1", "2", "3")[number % 5], FAILED if number % 2 == 0 else COLORS[3]
        style: dict[str, Any] = {"ms": 7, "mew": 1.6, "color": color, "transform": axes.get_xaxis_transform(), "clip_on": False}
        if len(at) > _MOST_MARKERS:
            figures.dots(axes, at, [1.03] * len(at), color, along_top=True)
            at = []
        axes.plot(at, [1.03] * len(at), marker, label=f"failed: {cause}", ls="none", **style)


def _front(axes: Axes, points: Sequence[tuple[float, float]], name: str, number: int) -> None:
    """Draw one backbone's finished trials and, as a staircase, those that none of its own beats."""
    if not points:
        return
    color, best = COLORS[number % len(COLORS)], front(points)
    x, y = zip(*points, strict=True)
    if len(points) > _MOST_MARKERS:
        figures.dots(axes, x, y, color)
    else:
        axes.plot(x, y, MARKERS[number % len(MARKERS)], ms=4.5, color=color, alpha=0.45)
    x, y = zip(*best, strict=True)
    axes.step(x, y, where="post", color=color, lw=1.6, marker=MARKERS[number % len(MARKERS)], ms=6, label=f"{name}, front")
