"""Figures of trainings: errors over epochs, and where the time went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from workflow.report import figures
from workflow.report.figures import COLORS, DASHES, MARKERS
from workflow.report.timings import PHASES

Line = Mapping[str, Any]
Metrics = Mapping[str, Mapping[str, Any]]
_CURVES = (
    ("energy_mae_mev_per_atom", "energy_baseline_mev_per_atom", "energy MAE (meV/atom)"),
    ("force_mae_mev_per_angstrom", "force_baseline_mev_per_angstrom", "force MAE (meV/Å)"),
)
_MOST_MARKED = 60


def curves(name: str, lines: Sequence[Line], metrics: Metrics) -> str:
    """Draw validation errors of a training for each branch, energies and forces, over epochs; baselines dashed."""
    branches = list(dict.fromkeys(branch for line in lines for branch in line.get("validation") or {}))
    rows = -(-len(branches) // 6)
    with figures.figure(name, 7.6, 3.2 + 0.22 * rows) as picture:
        for axes, (quantity, baseline, label) in zip(picture.subplots(1, 2), _CURVES, strict=True):
            for number, branch in enumerate(branches):
                points = [(line["epoch"], value) for line in lines if (value := _value(line, branch, quantity)) is not None]
                style = {"ls": DASHES[number // len(COLORS) % len(DASHES)], "color": COLORS[number % len(COLORS)]}
                marker = MARKERS[number % len(MARKERS)] if len(points) <= _MOST_MARKED else ""
                x, y = zip(*points, strict=True) if points else ((), ())
                axes.plot(x, y, marker=marker, ms=3.5, lw=1.5, label=branch, **style)
                level = metrics.get(branch, {}).get(baseline) or _value(lines[-1], branch, baseline)
                if level:
                    axes.axhline(level, ls=(0, (6, 4)), lw=0.9, color=style["color"], alpha=0.8)
            figures.scale_log(axes)
            axes.set_xlabel("epoch")
            axes.set_ylabel(label)
            figures.whole_numbers(axes)
        figures.legend_below(picture, columns=6)
        return figures.svg(picture)


def phases(rows: Sequence[tuple[str, Mapping[str, float]]]) -> str:
    """Draw where the time of each stage's tasks went, as shares of rank 0's time.

    Args:
        rows: Name of a stage, and seconds by phase (those of `PHASES`).
    """
    with figures.figure("phases", 7.6, 1.1 + 0.42 * len(rows)) as picture:
        axes = picture.subplots()
        left = np.zeros(len(rows))
        totals = np.array([max(sum(spent.values()), 1e-9) for _, spent in rows])
        for number, phase in enumerate(PHASES):
            widths = 100 * np.array([spent.get(phase, 0.0) for _, spent in rows]) / totals
            axes.barh(range(len(rows)), widths, left=left, height=0.66, color=COLORS[number], label=phase)
            left += widths
        axes.set_yticks(range(len(rows)), [name for name, _ in rows])
        axes.invert_yaxis()
        axes.set_xlim(0, 100)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("% of the tasks' time, on rank 0")
        figures.legend_below(picture)
        return figures.svg(picture)


def _value(line: Line, branch: str, quantity: str) -> float | None:
    value = ((line.get("validation") or {}).get(branch) or {}).get(quantity)
    return float(value) if isinstance(value, int | float) and value > 0 else None
