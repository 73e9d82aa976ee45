"""Draw the graph of stages as inline SVG, left to right, each stage in the colour of its state."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from workflow.report.status import StageStatus

_SIGNS = {"done": "✓", "failed": "✗", "cancelled": "✗", "held": "‖", "retrying": "‖", "waiting": "○", "ready": "○"}
_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 148, 46, 32, 14, 6


def draw_graph(stages: Sequence[StageStatus]) -> str:
    """Return the picture; stages stand in the column of their depth."""
    columns = _columns(stages)
    tallest = max((len(column) for column in columns), default=0)
    places = {
        stage.key: (_MARGIN + x * (_WIDTH + _GAP_X), _MARGIN + round((y + (tallest - len(column)) / 2) * (_HEIGHT + _GAP_Y)))
        for x, column in enumerate(columns)
        for y, stage in enumerate(column)
    }
    width = 2 * _MARGIN + len(columns) * (_WIDTH + _GAP_X) - _GAP_X
    height = 2 * _MARGIN + tallest * (_HEIGHT + _GAP_Y) - _GAP_Y
    edges = [_edge(places[need], places[key]) for key, needs in _shown_needs(stages).items() for need in needs]
    boxes = [_box(stage, *places[stage.key]) for stage in stages]
    head = f'<svg class="graph" viewBox="0 0 {width} {height}" style="max-width:{width}px;min-width:{round(0.72 * width)}px">'
    return "".join([head, *edges, *boxes, "</svg>"])


def _columns(stages: Sequence[StageStatus]) -> list[list[StageStatus]]:
    depth: dict[str, int] = {}
    for stage in stages:  # needed ones come first
        depth[stage.key] = 1 + max((depth[need] for need in stage.needs if need in depth), default=-1)
    return [[stage for stage in stages if depth[stage.key] == level] for level in range(max(depth.values(), default=-1) + 1)]


def _shown_needs(stages: Sequence[StageStatus]) -> dict[str, list[str]]:
    """Return each stage's needs without those that another of its needs rests on already: they would cross the boxes."""
    below: dict[str, set[str]] = {}
    shown: dict[str, list[str]] = {}
    for stage in stages:
        needs = [need for need in stage.needs if need in below]
        implied = set().union(*(below[need] for need in needs))
        below[stage.key] = implied | set(needs)
        shown[stage.key] = [need for need in needs if need not in implied]
    return shown


def _edge(start: tuple[int, int], end: tuple[int, int]) -> str:
    x0, y0, x1, y1 = start[0] + _WIDTH, start[1] + _HEIGHT // 2, end[0], end[1] + _HEIGHT // 2
    bend = _GAP_X // 2 + max(0, x1 - x0 - _GAP_X) // 4
    return f'<path class="edge" d="M{x0} {y0} C{x0 + bend} {y0} {x1 - bend} {y1} {x1} {y1}"/>'


def _box(stage: StageStatus, x: int, y: int) -> str:
    size = f'x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="7"'
    nodes = f", {stage.nodes} node{'s' * (stage.nodes != 1)}" if stage.nodes else ""
    name = stage.key if len(stage.key) <= 15 else f"{stage.key[:14]}…"
    title = escape(f"{stage.key}: {stage.kind}, {stage.state}")
    return (
        f'<g class="stage {escape(stage.state)}"><title>{title}</title><rect {size}/>'
        f'<text x="{x + 10}" y="{y + 19}" class="name">{escape(name)}</text>'
        f'<text x="{x + _WIDTH - 8}" y="{y + 19}" class="sign">{_SIGNS.get(stage.state, "▶")}</text>'
        f'<text x="{x + 10}" y="{y + 36}">{escape(f"{stage.kind}{nodes}"[:22])}</text></g>'
    )
