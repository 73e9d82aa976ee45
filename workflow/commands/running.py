"""Subcommands that carry a campaign on, and look at one that is under way."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from workflow import completion
from workflow.commands.options import FILE, SITE, TARGET, WHICH
from workflow.face import Where, examples


def _drive_options(command: Any) -> Any:
    for option in (
        click.option("--plain", is_flag=True, help="One line for each event, no live view."),
        click.option(
            "--once", is_flag=True, help="Do one pass: settle what ended, submit what is ready, see that what runs lives, exit."
        ),
        SITE,
        FILE,
    ):
        command = option(command)
    return command


@click.command(
    short_help="Carry FILE through, or go on from wherever it is.",
    epilog=examples(
        "campaign run my.yaml",
        "campaign run my.yaml --once               from cron, where no process may stay; a minute or two if a job runs",
        "nohup campaign run my.yaml --plain &      on a login node, for days",
        exit_codes=True,
    ),
)
@_drive_options
@click.pass_obj
def run(where: Where, file: Path, site: str | None, once: bool, plain: bool) -> None:
    """Carry FILE through, or go on from wherever it is.

    On a terminal a live view is shown. Ctrl-C ends the view and the driver, never a job.
    """
    _drive(where, file, site, once=once, plain=plain, resume=False)


@click.command(
    short_help="Go on, and try failed stages again from their checkpoints.",
    epilog=examples(
        "campaign resume my.yaml",
        exit_codes=True,
    ),
)
@_drive_options
@click.pass_obj
def resume(where: Where, file: Path, site: str | None, once: bool, plain: bool) -> None:
    """Go on like `run`, and try failed or cancelled stages again from their checkpoints."""
    _drive(where, file, site, once=once, plain=plain, resume=True)


def _drive(where: Where, file: Path, site: str | None, *, once: bool, plain: bool, resume: bool) -> None:
    from workflow.draft import load_campaign
    from workflow.report.driving import drive

    loaded = load_campaign(file, site)
    where.folder = loaded.folder
    sys.exit(drive(loaded, once=once, resume=resume, live=not plain and sys.stdout.isatty()))


@click.command(
    short_help="Show where a campaign stands; reads files only.",
    epilog=examples(
        "campaign status my.yaml",
        "campaign status runs/gfm --watch",
        "campaign status my.yaml --json | jq .state",
    ),
)
@TARGET
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--watch", is_flag=True, help="Keep looking until the campaign ends; Ctrl-C leaves.")
@click.pass_obj
def status(where: Where, target: Path | None, as_json: bool, watch: bool) -> None:
    """Show where a campaign stands; reads files only, disturbs nobody.

    TARGET is the campaign's YAML file or its folder; left out, it is the only campaign here.
    """
    from workflow.report import live
    from workflow.report.locate import locate
    from workflow.report.status import read_status, status_json

    where.folder = locate(target)
    file = target if target is not None and target.is_file() else None
    if watch:
        live.watch(where.folder, file)
    elif as_json:
        click.echo(status_json(read_status(where.folder, file)))
    else:
        live.show(read_status(where.folder, file))


@click.command(
    short_help="Let what is held for its cost go on.",
    epilog=examples(
        "campaign approve                          list what is held; approve it after asking",
        "campaign approve train/1 -c my.yaml       let this stage go on to its end",
        "campaign approve --node-hours 250         raise what all stages may use together",
    ),
)
@click.argument("stage", required=False, shell_complete=completion.stages)
@WHICH
@click.option("--node-hours", type=float, metavar="N", help="Raise the approved total to N; what is added is STAGE's, if given.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def approve(where: Where, stage: str | None, target: Path | None, node_hours: float | None, yes: bool) -> None:
    """Let STAGE, whose next job would cost more than the budget leaves, go on to its end.

    Without STAGE, list what is held with its cost, and approve all of it after asking. An approval is kept: a driver at
    work takes it in within seconds, else the next `campaign run` does. It covers no repetition of failed jobs.
    """
    from workflow.books import Books
    from workflow.report.approving import print_books, print_held
    from workflow.report.locate import locate_of_stage

    where.folder = locate_of_stage("approve [STAGE]", stage, target)
    books = Books(where.folder)
    for line in books.passed_over:
        click.echo(line, err=True)
    if node_hours is not None:
        books.raise_to(node_hours, stage)
    else:
        held = books.held if stage is None else books.held_of(stage)
        print_held(books, held)
        if not held:
            return
        if stage is None and not yes and not click.confirm("Approve all of it?"):
            raise click.Abort
        for each in held:
            books.approve(each)
    print_books(books)


@click.command(
    short_help="Ask a stage, or all, to end.",
    epilog=examples(
        "campaign cancel painn -c my.yaml          this stage, with all its variants",
        "campaign cancel -c my.yaml                every stage",
        "campaign cancel -c runs/gfm --yes         without asking",
    ),
)
@click.argument("stage", required=False, shell_complete=completion.stages)
@WHICH
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def cancel(where: Where, stage: str | None, target: Path | None, yes: bool) -> None:
    """Ask STAGE, or the whole campaign, to end: running tasks write checkpoints first.

    Where no driver lives, this command stays until they have ended. `campaign resume` goes on later. Of what has ended there is
    nothing to cancel, and it says so.
    """
    from workflow.cancel import cancel as cancel_stages
    from workflow.graph import belongs
    from workflow.instances import keys_among
    from workflow.report.locate import locate_of_stage
    from workflow.report.status import OVER, read_status

    where.folder = locate_of_stage("cancel [STAGE]", stage, target)
    known = {each.key: each for each in read_status(where.folder).stages}
    asked = [known[key] for key in keys_among(list(known), stage, "cancel")] if known else []
    if asked and all(each.state in OVER and not each.reserved_node_hours for each in asked):
        click.echo(f"nothing to cancel: {', '.join(f'{each.key} is {each.state}' for each in asked)}")
        return
    if not yes and not click.confirm(f"Cancel {stage or 'every stage'} of {where.folder}?"):
        raise click.Abort
    cancel_stages(where.folder, stage)
    for each in read_status(where.folder).stages:
        if stage is None or belongs(each.key, stage):
            click.echo(f"{each.key}: {each.state}")


@click.command(
    short_help="Print the logs of a stage's newest job that had work.",
    epilog=examples(
        "campaign logs train/1 -c my.yaml",
        "campaign logs painn --task trial-3 -f     of the only campaign here",
    ),
)
@click.argument("stage", shell_complete=completion.stages)
@WHICH
@click.option("--task", metavar="TASK", help="A task of the stage, such as a trial; default: the batch job.")
@click.option("-f", "--follow", is_flag=True, help="Go on printing what is added; Ctrl-C leaves.")
@click.option(
    "-n", "--lines", type=click.IntRange(min=0), default=50, show_default=True, help="Lines from the end of each log; 0: all."
)
@click.pass_obj
def logs(where: Where, stage: str, target: Path | None, task: str | None, follow: bool, lines: int) -> None:
    """Print the logs of STAGE's newest job that had work."""
    from workflow.report.locate import locate_of_stage
    from workflow.report.logs import print_logs

    where.folder = locate_of_stage("logs STAGE", stage, target)
    print_logs(where.folder, stage, task, lines=lines, follow=follow)
