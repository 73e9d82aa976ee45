"""Predictions beside labels as small panels of our own SVG: a report may have hundreds, which a plotting library draws slowly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from matplotlib.ticker import MaxNLocator

from workflow.report.figures import MOST_COLORS, shortened

Pairs = Sequence[Sequence[float]]
_WIDTH, _LEFT, _TOP, _BELOW, _RIGHT = 547.0, 40.0, 20.0, 34.0, 12.0
_IN_A_ROW = 4
_NARROW = 110.0  # sides of panels with room for few ticks
_WIDE, _SMALL = 6.4, 5.0  # of a letter of a title and of a tick
_SQUEEZED = 0.75  # narrowest letters that a title is drawn with


@dataclass(frozen=True)
class _Kind:
    """A kind of label: how its panel reads, and where its errors stand among a branch's metrics."""

    reading: str
    unit: str
    errors: tuple[tuple[str, str], ...]
    error_unit: str
    count: str


KINDS = {
    "energies": _Kind(
        "Energies per atom after per-element references.",
        "eV/atom",
        (("MAE", "energy_mae_mev_per_atom"), ("RMSE", "energy_rmse_mev_per_atom")),
        "meV/atom",
        "num_energies",
    ),
    "forces": _Kind(
        "Force components.",
        "eV/Å",
        (("MAE", "force_mae_mev_per_angstrom"), ("RMSE", "force_rmse_mev_per_angstrom")),
        "meV/Å",
        "num_force_components",
    ),
    "targets": _Kind("Scalars in their own unit.", "", (("MAE", "target_mae"), ("RMSE", "target_rmse")), "", "num_targets"),
    "probabilities": _Kind(
        "Share of class 1 found against share of class 0 taken for it; dashed: by chance.",
        "",
        (("ROC-AUC", "roc_auc"), ("F1", "f1")),
        "",
        "num_targets",
    ),
}


def reading(kinds: Iterable[str]) -> str:
    """Return how to read panels of these kinds."""
    return " ".join(kind.reading for name, kind in KINDS.items() if name in set(kinds))


def parity(sample: Mapping[str, Mapping[str, Pairs]], metrics: Mapping[str, Mapping[str, Any]], most: int) -> str:
    """Draw predictions beside labels for each branch, one row of panels for each kind of label; classes as ROC curves.

    Args:
        sample: Pairs of label and prediction by kind, by branch.
        metrics: Errors of all labels, by branch.
        most: Points of a panel.
    """
    columns, names = min(_IN_A_ROW, max(3, len(sample))), list(sample)
    step_x = _WIDTH / columns
    side = step_x - _LEFT - _RIGHT
    bands = [(first, kind) for first in range(0, len(names), columns) for kind in KINDS]
    parts, row = list[str](), 0
    for first, kind in bands:
        band = enumerate(names[first : first + columns])
        shown = [(place, name) for place, name in band if len(sample[name].get(kind) or ())]
        for place, name in shown:
            color = f"var(--c{(first + place) % MOST_COLORS})"
            inside = _panel(thinned(sample[name][kind], most), kind, metrics.get(name, {}), _Pen(side, color))
            title = _title(name, kind if kind != "probabilities" else "ROC curve", step_x - 8)
            x, y = _LEFT + place * step_x, _TOP + row * (side + _TOP + _BELOW)
            parts.append(f'<g transform="translate({x:.1f} {y:.1f})">{title}{inside}</g>')
        row += bool(shown)
    return f'<svg class="parity" viewBox="0 0 {_WIDTH:g} {row * (side + _TOP + _BELOW):.1f}">{"".join(parts)}</svg>'


def thinned(pairs: Sequence[Any], most: int) -> Sequence[Any]:
    """Return at most so many of the pairs, evenly spaced."""
    return [pairs[number * len(pairs) // most] for number in range(most)] if len(pairs) > most else pairs


def roc(pairs: Pairs) -> list[tuple[float, float]]:
    """Return the ROC curve of pairs of class (0 or 1) and probability of 1: (false, true positives), both as shares."""
    positives = sum(label for label, _ in pairs)
    negatives = len(pairs) - positives
    curve, false, true = [(0.0, 0.0)], 0.0, 0.0
    ordered = sorted(pairs, key=lambda pair: -pair[1])
    for place, (label, probability) in enumerate(ordered):
        true, false = true + label, false + 1 - label
        if place + 1 == len(ordered) or ordered[place + 1][1] != probability:
            curve.append((false / max(negatives, 1), true / max(positives, 1)))
    return curve


@dataclass(frozen=True)
class _Pen:
    side: float
    color: str


def _panel(pairs: Pairs, kind: str, found: Mapping[str, Any], pen: _Pen) -> str:
    side, is_curve = pen.side, kind == "probabilities"
    points = roc(pairs) if is_curve else pairs
    low, high = (0.0, 1.0) if is_curve else _ends(pairs)
    scale = side / (high - low)
    is_narrow = side < _NARROW
    few = MaxNLocator(nbins=3 if is_narrow else 5, steps=[1, 2, 5, 10] if is_narrow else [1, 2, 2.5, 5, 10])
    ticks = [float(tick) for tick in few.tick_values(low, high) if low <= tick <= high]
    lines = _ticks(ticks, [(tick - low) * scale for tick in ticks], side)
    places = [f"{(x - low) * scale:.1f} {side - (y - low) * scale:.1f}" for x, y in points]
    path = f"M{'L'.join(places)}" if is_curve else "".join(f"M{place}h0" for place in places)
    unit = KINDS[kind].unit or str(found.get("unit") or "")
    across, up = ("false positives", "true positives") if is_curve else (f"label ({unit})" if unit else "label", "prediction")
    told = _words(_told(found, kind), (0.3 * side, side - 34) if is_curve else (6.0, 13.0))
    return (
        f'{lines}<path class="frame" d="M0 0V{side:.1f}H{side:.1f}"/><path class="diagonal" d="M0 {side:.1f}L{side:.1f} 0"/>'
        f'<path class="{"curve" if is_curve else "dots"}" stroke="{pen.color}" d="{path}"/>{told}'
        f'<text x="{side / 2:.1f}" y="{side + 26:.1f}" class="middle">{escape(across)}</text>'
        f'<text transform="translate(-30 {side / 2:.1f}) rotate(-90)" class="middle">{up}</text>'
    )


def _words(lines: Sequence[str], start: tuple[float, float]) -> str:
    x, y = start
    return "".join(
        f'<text x="{x:.1f}" y="{y + 11 * row:.1f}" class="small">{escape(line)}</text>' for row, line in enumerate(lines)
    )


def _ends(pairs: Pairs) -> tuple[float, float]:
    values = [float(value) for pair in pairs for value in pair]
    margin = 0.04 * (max(values) - min(values)) or 0.5
    return min(values) - margin, max(values) + margin


def _title(name: str, kind: str, room: float) -> str:
    """Return the title of a panel, squeezed into its room; a name that is too long for that loses its middle."""
    most = int(room / (_WIDE * _SQUEEZED)) - len(kind) - 2
    short = shortened(name, most)
    text, whole = f"{short}: {kind}", f"<title>{escape(name)}</title>" if short != name else ""
    squeezed = f' textLength="{room:.0f}" lengthAdjust="spacingAndGlyphs"' if len(text) * _WIDE > room else ""
    return f'<text x="{4 - _LEFT:g}" y="-6" class="title"{squeezed}>{escape(text)}{whole}</text>'


def _ticks(values: Sequence[float], places: Sequence[float], side: float) -> str:
    """Draw grid lines and their labels; a label that would touch the one before it is left out."""
    parts, free = list[str](), -_LEFT
    for value, place in zip(values, places, strict=True):
        text = f"{value:.6g}".replace("-", "−")
        half = len(text) * _SMALL / 2
        parts.append(f'<path class="grid" d="M{place:.1f} 0V{side:.1f}M0 {side - place:.1f}H{side:.1f}"/>')
        parts.append(f'<text x="-4" y="{side - place + 3:.1f}" class="end small">{text}</text>')
        if place - half >= free:
            parts.append(f'<text x="{place:.1f}" y="{side + 13:.1f}" class="middle small">{text}</text>')
            free = place + half + _SMALL
    return "".join(parts)


def _told(found: Mapping[str, Any], kind: str) -> Sequence[str]:
    """Return the errors of all labels, not of the sample alone."""
    about = KINDS[kind]
    unit = about.error_unit or str(found.get("unit") or "")
    errors = [f"{name} {_figure(found[key])}" for name, key in about.errors if found.get(key) is not None]
    if not errors:
        return ()
    return f"{errors[0]} {unit}".strip(), *errors[1:], f"N = {int(found.get(about.count) or 0):,}"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
