"""Where commands print: as wide as the terminal, unwrapped into a pipe or a file; tables stay readable where it is narrow."""

from __future__ import annotations

import os
from collections.abc import Iterator

from rich.console import Console
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

_WHOLE = 10_000


def screen(*, stderr: bool = False) -> Console:
    """Return the console of a command; into a pipe or a file nothing is wrapped, unless COLUMNS asks for it."""
    made = Console(highlight=False, stderr=stderr)
    if not made.is_terminal and not os.environ.get("COLUMNS"):
        made.width = _WHOLE
    return made


def print_table(table: Table, console: Console) -> None:
    """Print a table; where not even its longest words fit, each row by itself: its first cell, then the others by name."""
    if _least_width(table, console) <= console.width:
        console.print(table)
        return
    for line in _one_by_one(table):
        console.print(line, soft_wrap=True)


def _least_width(table: Table, console: Console) -> int:
    gaps = (1 if table.collapse_padding else 2) * (len(table.columns) - 1)
    return gaps + sum(_least(column, console) for column in table.columns)


def _least(column: Column, console: Console) -> int:
    """Return the width below which a column is cut: of its longest cell, or of its longest word where it may be wrapped."""
    if column.width is not None:  # its words were measured by whoever made it
        return column.width
    wide = console.options.update(width=_WHOLE)
    measured = [Measurement.get(console, wide, cell) for cell in (column.header, *column.cells)]
    return max((each.maximum if column.no_wrap else each.minimum for each in measured), default=0)


def _one_by_one(table: Table) -> Iterator[Text]:
    heads = [str(column.header) for column in table.columns]
    for row in zip(*(column.cells for column in table.columns), strict=True):
        first, *rest = (cell if isinstance(cell, Text) else Text(str(cell)) for cell in row)
        yield first
        for head, cell in zip(heads[1:], rest, strict=True):
            if cell.plain:
                yield Text.assemble(f"  {head} " if head else "  ", cell)
