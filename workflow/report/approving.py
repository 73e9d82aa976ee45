"""What is held for its cost, and what an approval has changed, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

import click
from rich.table import Table

from workflow.books import Books, Held
from workflow.journal import is_driven
from workflow.report.locate import short
from workflow.report.screen import print_table, screen
from workflow.rundir import RunDir
from workflow.stages.base import hours_text


def print_held(books: Books, held: Sequence[Held]) -> None:
    """Print the stages that wait for approval and what each may cost."""
    click.echo(_standing(books))
    if not held:
        click.echo("nothing is held")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("held", ">jobs", ">node-hours each", ">to approve"):
        table.add_column(name.lstrip(">"), justify="right" if name[0] == ">" else "left")
    for each in held:
        table.add_row(each.key, str(each.jobs), hours_text(each.job_node_hours), hours_text(each.node_hours))
    print_table(table, screen())


def print_books(books: Books) -> None:
    """Print what may be used now, what is held still, and who goes on."""
    click.echo(_standing(books))
    if left := books.held:
        click.echo(f"held still: {', '.join(each.key for each in left)}")
    driven, again = is_driven(RunDir(books.campaign.folder)), f"campaign run {short(books.campaign.path)}"
    if driven:
        click.echo("the driver that is at work goes on within seconds")
    elif driven is None:
        click.echo(f"a driver on another host goes on within seconds; if there is none: {again}")
    else:
        click.echo(f"no driver is at work; go on with: {again}")


def _standing(books: Books) -> str:
    used, total = hours_text(books.node_hours), hours_text(books.total)
    return f"{books.campaign.name}: {used} of {total} approved node-hours are used or reserved"
