"""A rehearsal as a table for a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from workflow.rehearsal.rehearse import FILE, Rehearsal
from workflow.report.screen import print_table, screen


def print_rehearsal(rehearsal: Rehearsal, console: Console | None = None) -> None:
    """Print every stage as it went, and what was shown."""
    console = console or screen()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("stage", "kind", "state", ">jobs", ">seconds", "what"):
        table.add_column(name.lstrip(">"), justify="right" if name.startswith(">") else "left", overflow="fold")
    for row in rehearsal.rows:
        state = Text(row.state or "not reached", "green" if row.state == "done" else "bold red")
        table.add_row(row.key, row.kind, state, str(row.jobs), f"{row.seconds:.1f}", row.note)
    print_table(table, console)
    alike: dict[str, list[str]] = {}
    for stage, what in rehearsal.left_out.items():
        alike.setdefault("; ".join(what), []).append(stage)
    for told, stages in alike.items():
        console.print(f"left out of {', '.join(stages)}: {told}", soft_wrap=True, markup=False)
    for proof in rehearsal.proofs:
        mark = Text("yes " if proof.holds else "NO  ", "green" if proof.holds else "bold red")
        console.print(Text.assemble(mark, f"{proof.what}: {proof.seen}"), soft_wrap=True)
    console.print(
        f"{rehearsal.seconds:.0f} s; look closer: campaign report {rehearsal.folder / FILE}", soft_wrap=True, markup=False
    )
