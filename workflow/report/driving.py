"""Drive a campaign from the terminal: live view or plain lines, and what to do after an interruption."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console, RenderableType
from rich.live import Live

from workflow.campaign import Campaign
from workflow.check import check_campaign
from workflow.driver import DONE, FAILED, UNFINISHED, run_campaign
from workflow.journal import read_events
from workflow.ledger import Ledger
from workflow.report.fault import tell_problem
from workflow.report.lines import Narrator
from workflow.report.live import View, rest_s, show
from workflow.report.locate import short
from workflow.report.screen import screen
from workflow.report.status import read_status
from workflow.report.terminal import print_results
from workflow.rundir import RunDir

logger = logging.getLogger(__name__)
WRONG_INPUT = 2
_JITTER_S = 0.1  # the view is asked for once a second, by and large
_BESIDE_THE_VIEW = ("notice", "scheduler_silent", "scheduler_answers")  # the view of stages cannot show them


def drive(campaign: Campaign, *, once: bool, resume: bool, live: bool) -> int:
    """Run the driver in this thread and show what happens; return the exit code.

    The view reads the campaign's files and nothing else: it can neither disturb the driver nor know more than
    `campaign status` on another machine.
    """
    if not _has_begun(campaign.folder) and _is_refused(campaign):
        return WRONG_INPUT
    try:
        code = (_driven_live if live else _driven_plain)(campaign, once, resume)
    except KeyboardInterrupt:
        click.echo(f"\nqueued and running jobs go on; come back with: campaign run {campaign.path}")
        code = UNFINISHED
    _sum_up(campaign, code, is_shown=live)
    return code


def _driven_live(campaign: Campaign, once: bool, resume: bool) -> int:
    console, narrator = screen(), Narrator()

    def tell(event: dict[str, Any]) -> None:
        if event["event"] in _BESIDE_THE_VIEW and (line := narrator.tell(event)) is not None:
            console.print(line, markup=False)

    picture = _Picture(campaign.folder, console)
    with Live(console=console, get_renderable=picture.look, refresh_per_second=1):
        try:
            return run_campaign(campaign, once=once, resume=resume, on_event=tell)
        finally:
            picture.look_at_the_end()


def _driven_plain(campaign: Campaign, once: bool, resume: bool) -> int:
    narrator = Narrator()
    events = read_events(RunDir(campaign.folder))
    for earlier in events:
        narrator.tell(earlier)  # so that it knows the attempts of earlier drivers by name
    if going_on := narrator.going_on(Ledger(events)):
        click.echo(going_on)

    def tell(event: dict[str, Any]) -> None:
        line = narrator.tell(event)
        if line is not None:
            click.echo(line)

    return run_campaign(campaign, once=once, resume=resume, on_event=tell)


def _is_refused(campaign: Campaign) -> bool:
    """Tell what is wrong with a campaign before its first job waits in a queue."""
    report = check_campaign(campaign.path, campaign.site.name, models=False)
    for problem in report.problems:
        tell_problem(problem)
    return bool(report.problems)


def _has_begun(folder: Path) -> bool:
    return RunDir(folder).campaign.is_file()


class _Picture:
    """Gives the newest picture; it looks less often where a look takes long, for the driver works beside it."""

    def __init__(self, folder: Path, console: Console) -> None:
        self._folder, self._console, self._view = folder, console, View()
        self._last: RenderableType = ""
        self._next_look = 0.0
        self._height: int | None = console.height - 1

    def look(self) -> RenderableType:
        """Return what to show now."""
        began = time.monotonic()
        if began >= self._next_look:
            try:
                self._last = self._view.render(read_status(self._folder), self._console.width, self._height)
            except Exception:  # a fault of the view must not end the driver; the last picture stays
                logger.exception("live view")
            ended = time.monotonic()
            self._next_look = ended + rest_s(ended - began) - _JITTER_S
        return self._last

    def look_at_the_end(self) -> None:
        """Let the last look be a new one, and whole: it stays on the terminal."""
        self._next_look, self._height = 0.0, None


def _sum_up(campaign: Campaign, code: int, *, is_shown: bool) -> None:
    if code == UNFINISHED:
        _tell_what_else_can_be_done(campaign)
        return
    if not is_shown:
        show(read_status(campaign.folder))
    if code in (DONE, FAILED):
        _report(campaign)


def _report(campaign: Campaign) -> None:
    """Tell what was found; a fault in the telling leaves the campaign's own exit code as it is."""
    try:
        from workflow.report.html import write_report

        print_results(campaign.folder)
        click.echo(f"report: {write_report(campaign.folder, None)}")
    except Exception as error:
        logger.debug("report", exc_info=True)
        click.echo(f"no report: {error!r}; try again with: campaign report {short(campaign.path)}", err=True)


def _tell_what_else_can_be_done(campaign: Campaign) -> None:
    click.echo(f"  look:       campaign status {campaign.path}")
    click.echo(f"  end it all: campaign cancel -c {campaign.path}")
