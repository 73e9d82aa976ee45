"""Drive a campaign from the terminal: live view or plain lines, and what to do after an interruption."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console, RenderableType
from rich.live import Live

from workflow.campaign import Campaign
from workflow.driver import run_campaign
from workflow.report.lines import Narrator
from workflow.report.live import View, show
from workflow.report.status import read_status

logger = logging.getLogger(__name__)
UNFINISHED = 4


def drive(campaign: Campaign, *, once: bool, resume: bool, live: bool) -> int:
    """Run the driver in this thread and show what happens; return the exit code.

    The view reads the campaign's files and nothing else: it can neither disturb the driver nor know more than
    `campaign status` on another machine.
    """
    try:
        code = _driven_live(campaign, once, resume) if live else _driven_plain(campaign, once, resume)
    except KeyboardInterrupt:
        _tell_how_to_come_back(campaign)
        return UNFINISHED
    _sum_up(campaign, code)
    return code


def _driven_live(campaign: Campaign, once: bool, resume: bool) -> int:
    with Live(console=Console(highlight=False), get_renderable=_picture(campaign.folder), refresh_per_second=1):
        return run_campaign(campaign, once=once, resume=resume)


def _driven_plain(campaign: Campaign, once: bool, resume: bool) -> int:
    narrator = Narrator()

    def tell(event: dict[str, Any]) -> None:
        line = narrator.tell(event)
        if line is not None:
            click.echo(line)

    return run_campaign(campaign, once=once, resume=resume, on_event=tell)


def _picture(folder: Path) -> Callable[[], RenderableType]:
    view, last = View(), list[RenderableType]([""])

    def look() -> RenderableType:
        try:
            last[0] = view.render(read_status(folder))
        except Exception:  # a fault of the view must not end the driver; the last picture stays
            logger.exception("live view")
        return last[0]

    return look


def _sum_up(campaign: Campaign, code: int) -> None:
    status = read_status(campaign.folder)
    if code in (0, 1):
        from workflow.report.html import write_report

        show(status)
        click.echo(f"report: {write_report(campaign.folder, None)}")
    elif code == UNFINISHED:
        click.echo(f"unfinished; go on: campaign run {campaign.path}   look: campaign status {campaign.path}")
    else:
        show(status)


def _tell_how_to_come_back(campaign: Campaign) -> None:
    click.echo("\nThe driver has left; queued and running jobs go on to their end.")
    click.echo(f"  come back:  campaign run {campaign.path}")
    click.echo(f"  look:       campaign status {campaign.path}")
    click.echo(f"  end it all: campaign cancel -c {campaign.path}")
