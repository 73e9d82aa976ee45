"""What data cover: elements of all branches as a periodic table, energies and forces before and after the references."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from workflow.report import figures
from workflow.report.blocks import Block, Picture
from workflow.report.elements import SYMBOLS, place
from workflow.report.facts import StageFacts
from workflow.report.figures import COLORS, FAINT, INK
from workflow.report.provenance import Origin
from workflow.report.tables import Table, number

Branches = Mapping[str, Mapping[str, Any]]
_PANELS = (
    ("energy_ev_per_atom", "energy (eV/atom)"),
    ("residual_ev_per_atom", "after references (eV/atom)"),
    ("force_ev_per_angstrom", "force (eV/Å)"),
)
_MOST_DRAWN = 16


def coverage(stage: StageFacts, origin: Origin) -> list[Block]:
    """Return what the data of one conversion cover: a heat map, a table of energies, histograms."""
    branches: Branches = dict(sorted((stage.result.get("branches") or {}).items()))
    known = {name: facts for name, facts in branches.items() if facts.get("elements")}
    blocks = []
    if known:
        blocks.append(Block(picture=_elements(stage.key, known, origin), warning=_unreferenced(known)))
    measured = {name: facts for name, facts in branches.items() if facts.get("spreads")}
    if measured:
        blocks.append(Block(table=_table(stage.key, measured), origin=origin))
    drawn = {name: facts["spreads"] for name, facts in list(measured.items())[:_MOST_DRAWN] if len(facts["spreads"]) > 1}
    if drawn:
        blocks.append(Block(picture=_histograms(stage.key, drawn, origin)))
    return blocks


def _elements(key: str, branches: Branches, origin: Origin) -> Picture:
    atoms: Counter[str] = Counter()
    sets: Counter[str] = Counter()
    for facts in branches.values():
        atoms.update(facts["elements"])
        sets.update(dict.fromkeys(facts["elements"], 1))
    told = ", ".join(f"{symbol} {number(count)} atoms in {sets[symbol]}" for symbol, count in atoms.most_common())
    caption = (
        f"{len(atoms)} elements. The deeper the colour, the more atoms, by decades, over all data sets; below each symbol, in "
        f"how many of the {len(branches)} data sets it occurs."
    )
    alternative = f"Periodic table of {len(atoms)} elements in {len(branches)} data sets: {told}."
    return Picture(f"Elements in the data ({key})", alternative, periodic_table(key, atoms, sets), caption, origin)


def periodic_table(name: str, atoms: Mapping[str, int], sets: Mapping[str, int]) -> str:
    """Draw elements in their places, the deeper the more atoms.

    Args:
        name: Of the figure.
        atoms: Atoms of each element, by symbol.
        sets: Data sets in which each occurs.
    """
    decades = {symbol: math.log10(count) for symbol, count in atoms.items() if count > 0}
    deepest = max(decades.values(), default=0.0) or 1.0
    with figures.figure(f"elements {name}", 7.6, 4.4) as picture:
        axes = picture.subplots()
        for index, symbol in enumerate(SYMBOLS):
            row, column = place(index + 1)
            share = 0.12 + 0.63 * decades[symbol] / deepest if symbol in decades else 0.0
            axes.add_patch(Rectangle((column, row), 0.94, 0.94, facecolor=COLORS[0], alpha=share, linewidth=0))
            axes.add_patch(Rectangle((column, row), 0.94, 0.94, fill=False, edgecolor=FAINT, linewidth=0.4))
            _say(axes, column + 0.47, row + 0.3, symbol, 8, known=symbol in decades)
            if symbol in decades:
                _say(axes, column + 0.47, row + 0.72, str(sets.get(symbol, 0)), 8, known=True)
        axes.set_xlim(-0.1, 18.1)
        axes.set_ylim(9.5, -0.1)
        axes.set_aspect("equal")
        axes.set_axis_off()
        return figures.svg(picture)


def _say(axes: Axes, x: float, y: float, text: str, size: int, *, known: bool) -> None:
    axes.text(x, y, text, ha="center", va="center", fontsize=size, color=INK if known else FAINT)


def _unreferenced(branches: Branches) -> str:
    lacking = {name: facts.get("elements_without_reference") or [] for name, facts in branches.items()}
    told = "; ".join(f"{name}: {', '.join(symbols)}" for name, symbols in lacking.items() if symbols)
    return f"No structure of the training split has these elements, so they have no reference energy: {told}." if told else ""


def _table(key: str, branches: Branches) -> Table:
    columns = (
        "branch",
        ">energy (eV/atom)",
        ">its spread",
        ">spread after references",
        ">RMS force component (eV/Å)",
        ">elements",
        "without data",
        ">rank of the fit",
    )
    rows = []
    for name, facts in branches.items():
        spreads, fitted = facts["spreads"], facts.get("references") or {}
        before = spreads.get("energy_ev_per_atom") or {}
        after = fitted.get("sigma_energy_ev_per_atom")
        elements, rank = facts.get("elements") or {}, fitted.get("rank")
        lacking = ", ".join(facts.get("elements_without_reference") or [])
        rows.append(
            (
                name,
                number(before.get("mean")),
                number(before.get("std")),
                number(after),
                number(fitted.get("rms_force_ev_per_angstrom")),
                number(len(elements)),
                lacking,
                "" if rank is None else f"{rank} of {len(fitted.get('energies_ev') or {})}",
            )
        )
    return Table(f"Energies before and after per-element references ({key})", columns, tuple(rows))


def _histograms(key: str, drawn: Mapping[str, Mapping[str, Any]], origin: Origin) -> Picture:
    told = "; ".join(
        f"{name}: "
        + ", ".join(
            f"{label} {number(found['mean'])} ± {number(found['std'])}" for q, label in _PANELS if (found := spread.get(q))
        )
        for name, spread in drawn.items()
    )
    with figures.figure(f"spreads {key}", 7.6, 0.5 + 0.95 * len(drawn)) as picture:
        grid = picture.subplots(len(drawn), len(_PANELS), squeeze=False)
        for axes_row, (name, spread) in zip(grid, drawn.items(), strict=True):
            for axes, (quantity, _) in zip(axes_row, _PANELS, strict=True):
                _histogram(axes, spread.get(quantity))
            axes_row[0].set_ylabel(figures.shortened(name, 14), rotation=0, ha="right", va="center")
        for axes, (_, label) in zip(grid[-1], _PANELS, strict=True):
            axes.set_xlabel(label)
        drawing = figures.svg(picture)
    caption = (
        "Each branch: energies per atom as published, the same after the per-element references of its training split, lengths "
        "of forces; up to 20,000 structures, from quantile 0.5 % to 99.5 %."
    )
    return Picture(f"Energies and forces of the branches ({key})", f"Histograms. {told}.", drawing, caption, origin)


def _histogram(axes: Axes, found: Mapping[str, Any] | None) -> None:
    axes.set_yticks([])
    axes.grid(visible=False)
    axes.tick_params(labelsize=8)
    if not found:
        axes.set_xticks([])
        axes.text(0.5, 0.5, "none", ha="center", va="center", color=FAINT, transform=axes.transAxes)
        return
    counts = found["counts"]
    width = (found["high"] - found["low"]) / len(counts)
    edges = [found["low"] + k * width for k in range(len(counts) + 1)]
    axes.stairs(counts, edges, fill=True, color=COLORS[0], alpha=0.75)
    axes.set_ylim(bottom=0)
    axes.locator_params(axis="x", nbins=4)
