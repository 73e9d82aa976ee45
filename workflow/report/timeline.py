"""When the jobs of a simulated run wait and work, as a picture of letters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.text import Text

from workflow.simulation.history import History, JobPast

WAITS, WORKS, NODE_DIES, LOST = "─", "━", "╋", "✘"
LEGEND = f"{WAITS} a job waits   {WORKS} one is at work   {NODE_DIES} a node of it dies   {LOST} a failure ends it"
_STYLES = {WAITS: "dim", WORKS: "cyan", NODE_DIES: "bold yellow", LOST: "bold red"}
_RANK = {" ": 0, WAITS: 1, WORKS: 2, NODE_DIES: 3, LOST: 4}
_MOST_ROWS = 24
_TICKS = 6
_STEPS = (1, 2, 5)


@dataclass(frozen=True)
class Unit:
    """A unit of time for people.

    Attributes:
        name: Its plural.
        hours: Its length.
    """

    name: str
    hours: float


UNITS = (Unit("days", 24.0), Unit("hours", 1.0), Unit("minutes", 1 / 60))


def unit_for(hours: float) -> Unit:
    """Return the largest unit of which a time has at least two."""
    return next((unit for unit in UNITS if hours >= 2 * unit.hours), UNITS[-1])


def timeline(history: History, width: int) -> Iterator[Text]:
    """Give a line for each stage instance, or for each stage where there are too many, below a line of times."""
    rows = _rows(history)
    label = max(len(name) for name in rows) + 2
    cells = max(width - label, 10)
    cell_h = history.ended / 3600 / cells
    yield _axis(label, cells, cell_h)
    for name, jobs in rows.items():
        yield Text.assemble(name.ljust(label), _bar(jobs, cells, 3600 * cell_h), no_wrap=True, overflow="crop")


def _rows(history: History) -> dict[str, list[JobPast]]:
    rows = {key: history.of([key]) for key in history.works}
    rows = {key: jobs for key, jobs in rows.items() if jobs}
    if len(rows) <= _MOST_ROWS:
        return rows
    folded: dict[str, list[JobPast]] = {}
    for key, jobs in rows.items():
        folded.setdefault(key.partition("/")[0], []).extend(jobs)
    return folded


def _bar(jobs: Sequence[JobPast], cells: int, cell_s: float) -> Text:
    """Return the cells of a line; what matters most in a cell is shown there."""
    shown = [" "] * cells

    def mark(begin: float, end: float, letter: str) -> None:
        first = min(int(begin / cell_s), cells - 1)
        for place in range(first, max(min(round(end / cell_s), cells), first + 1)):
            shown[place] = max(shown[place], letter, key=_RANK.__getitem__)

    for job in jobs:
        if job.started > job.eligible:
            mark(job.eligible, job.started, WAITS)
        mark(job.started, job.ended, WORKS)
        for t in job.failed_at:
            mark(t, t, NODE_DIES)
        if job.how == "lost":
            mark(job.ended, job.ended, LOST)
    return Text.assemble(*((letter, _STYLES.get(letter, "")) for letter in shown))


def _axis(label: int, cells: int, cell_h: float) -> Text:
    """Return a line with times over the cells that they stand for."""
    unit = unit_for(cells * cell_h)
    cell = cell_h / unit.hours
    step = _round_step(cells * cell / _TICKS)
    line, number = [" "] * (cells + 1), 0
    while (place := round(number * step / cell)) < cells:
        text = f"{number * step:g}"
        if place + len(text) <= cells:
            line[place : place + len(text)] = text
        number += 1
    return Text(unit.name.ljust(label) + "".join(line).rstrip(), "dim")


def _round_step(least: float) -> float:
    """Return the smallest of 1, 2, 5, 10, 20, … that is not less; of 0.1, 0.2, … for a fraction."""
    scale = 1e-3
    while True:
        for step in _STEPS:
            if step * scale >= least:
                return step * scale
        scale *= 10
