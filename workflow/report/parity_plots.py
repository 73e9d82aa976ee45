"""Predictions beside labels as small panels of our own SVG: a report may have hundreds, which a plotting library draws slowly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from matplotlib.ticker import MaxNLocator

from workflow.report.figures import MOST_COLORS

KINDS = (
    ("energies", "energy_mae_mev_per_atom", "energy_rmse_mev_per_atom", "meV/atom", "num_energies", "eV/atom"),
    ("forces", "force_mae_mev_per_angstrom", "force_rmse_mev_per_angstrom", "meV/Å", "num_force_components", "eV/Å"),
)
_WIDTH, _LEFT, _TOP, _BELOW, _RIGHT = 547.0, 40.0, 20.0, 34.0, 12.0
_IN_A_ROW = 4


def parity(sample: Mapping[str, Mapping[str, Sequence[Any]]], metrics: Mapping[str, Mapping[str, Any]], most: int) -> str:
    """Draw predictions beside labels for each branch: energies per atom, and force components below them.

    Args:
        sample: Pairs of label and prediction by kind (`energies`, eV/atom; `forces`, eV/Å), by branch.
        metrics: Errors of all labels, by branch.
        most: Points of a panel.
    """
    columns, names = min(_IN_A_ROW, max(3, len(sample))), list(sample)
    step_x = _WIDTH / columns
    side = step_x - _LEFT - _RIGHT
    step_y = side + _TOP + _BELOW
    bands = [(first, kind) for first in range(0, len(names), columns) for kind in KINDS]
    parts, row = list[str](), 0
    for first, kind in bands:
        band = enumerate(names[first : first + columns])
        shown = [(place, name) for place, name in band if len(sample[name].get(kind[0]) or ())]
        for place, name in shown:
            errors, color = _errors(metrics.get(name, {}), kind), f"var(--c{(first + place) % MOST_COLORS})"
            inside = _panel(thinned(sample[name][kind[0]], most), side, color, kind[5], errors)
            title = f'<text y="-6" class="title">{escape(name)}: {kind[0]}</text>'
            x, y = _LEFT + place * step_x, _TOP + row * step_y
            parts.append(f'<g transform="translate({x:.1f} {y:.1f})">{title}{inside}</g>')
        row += bool(shown)
    return f'<svg class="parity" viewBox="0 0 {_WIDTH:g} {row * step_y:.1f}">{"".join(parts)}</svg>'


def thinned(pairs: Sequence[Any], most: int) -> Sequence[Any]:
    """Return at most so many of the pairs, evenly spaced."""
    return [pairs[number * len(pairs) // most] for number in range(most)] if len(pairs) > most else pairs


def _panel(pairs: Sequence[Any], side: float, color: str, unit: str, errors: Sequence[str]) -> str:
    values = [float(value) for pair in pairs for value in pair]
    margin = 0.04 * (max(values) - min(values)) or 0.5
    low, high = min(values) - margin, max(values) + margin
    scale = side / (high - low)
    ticks = [float(tick) for tick in MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high) if low <= tick <= high]
    dots = "".join(f"M{(x - low) * scale:.1f} {side - (y - low) * scale:.1f}h0" for x, y in pairs)
    lines = "".join(_tick(tick, (tick - low) * scale, side) for tick in ticks)
    told = "".join(
        f'<text x="6" y="{13 + 11 * number}" class="small">{escape(line)}</text>' for number, line in enumerate(errors)
    )
    axis = f'<text x="{side / 2:.1f}" y="{side + 26:.1f}" class="middle">label ({unit})</text>'
    up = f'<text transform="translate(-30 {side / 2:.1f}) rotate(-90)" class="middle">prediction</text>'
    return (
        f'{lines}<path class="frame" d="M0 0V{side:.1f}H{side:.1f}"/><path class="diagonal" d="M0 {side:.1f}L{side:.1f} 0"/>'
        f'<path class="dots" stroke="{color}" d="{dots}"/>{told}{axis}{up}'
    )


def _tick(value: float, place: float, side: float) -> str:
    text = f"{value:.6g}".replace("-", "−")
    return (
        f'<path class="grid" d="M{place:.1f} 0V{side:.1f}M0 {side - place:.1f}H{side:.1f}"/>'
        f'<text x="{place:.1f}" y="{side + 13:.1f}" class="middle small">{text}</text>'
        f'<text x="-4" y="{side - place + 3:.1f}" class="end small">{text}</text>'
    )


def _errors(found: Mapping[str, Any], kind: Iterable[str]) -> Sequence[str]:
    """Return the errors of all labels, not of the sample alone."""
    _, mae, rmse, unit, count, _ = kind
    if found.get(mae) is None:
        return ()
    return f"MAE {found[mae]:.3g}, RMSE {found.get(rmse) or 0:.3g}", f"{unit}, N = {int(found.get(count) or 0):,}"
