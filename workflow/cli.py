"""The command `campaign`: each subcommand loads what it needs and nothing more."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from workflow import __version__, completion
from workflow.commands.datasets import datasets
from workflow.commands.rehearsing import rehearse
from workflow.commands.writing import complete, init, schema
from workflow.face import Face, Where, examples

_SITE = click.option("--site", metavar="SITE", help="Site to use instead of the file's own.", shell_complete=completion.sites)
_FILE = click.argument("file", type=click.Path(path_type=Path))
_TARGET = click.argument("target", type=click.Path(path_type=Path), required=False)
_WHICH = click.option(
    "-c",
    "--campaign",
    "target",
    type=click.Path(path_type=Path),
    metavar="FILE|FOLDER",
    help="Which campaign; default: the only one here.",
)


@click.group(
    cls=Face,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples(
        "campaign init quickstart --into my.yaml   write a commented file",
        "campaign check my.yaml                    find what is wrong before anything waits in a queue",
        "campaign plan my.yaml                     see what it costs",
        "campaign run my.yaml                      carry it through",
        "campaign status my.yaml                   look, from anywhere",
        "campaign report my.yaml                   one HTML file about all of it",
    ),
)
@click.version_option(__version__, prog_name="campaign")
@click.pass_context
def campaign(ctx: click.Context) -> None:
    """Carry one YAML file through a batch system: convert, search, promote, train, fine-tune, screen.

    It goes on from wherever it is: interrupted at any moment, on any login node, it is simply run again.
    """
    ctx.obj = Where()


campaign.add_command(init)


@campaign.command(
    short_help="Find what is wrong in FILE before anything waits in a queue.",
    epilog=examples(
        "campaign check my.yaml",
        "campaign check my.yaml --site local --elsewhere",
    ),
)
@_FILE
@_SITE
@click.option("--elsewhere", is_flag=True, help="This is not the site: leave out its files and commands.")
@click.option("--no-models", is_flag=True, help="Do not build the models.")
def check(file: Path, site: str | None, elsewhere: bool, no_models: bool) -> None:
    """Find out all that can be known about FILE without a place in a queue.

    Types, names, needs, data files, readers, commands, what the site would refuse; each stage's model is built
    once without memory. All faults are told together; exit code 2 if there is any.
    """
    from workflow.check import check_campaign
    from workflow.report.terminal import print_check

    report = check_campaign(file, site, elsewhere=elsewhere, models=not no_models)
    print_check(report, str(file))
    sys.exit(2 if report.problems else 0)


@campaign.command(
    short_help="Show jobs, node-hours, queues and refusals of FILE on a site.",
    epilog=examples(
        "campaign plan my.yaml",
        "campaign plan my.yaml --site local",
    ),
)
@_FILE
@_SITE
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plan(file: Path, site: str | None, as_json: bool) -> None:
    """Show what FILE asks of a site: jobs, node-hours, queues, and what would be refused.

    Nothing is submitted. Exit code 2 if the site would refuse a stage; the block that fits is printed.
    """
    from workflow.draft import load_campaign
    from workflow.plan import make_plan
    from workflow.report.planned import print_plan, print_plan_json

    made = make_plan(load_campaign(file, site))
    (print_plan_json if as_json else print_plan)(made)
    sys.exit(2 if made.refused else 0)


def _drive_options(command: Any) -> Any:
    for option in (
        click.option("--plain", is_flag=True, help="One line for each event, no live view."),
        click.option("--once", is_flag=True, help="Do one pass: settle what ended, submit what is ready, exit."),
        _SITE,
        _FILE,
    ):
        command = option(command)
    return command


@campaign.command(
    short_help="Carry FILE through, or go on from wherever it is.",
    epilog=examples(
        "campaign run my.yaml",
        "campaign run my.yaml --once               from cron, where no process may stay",
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


@campaign.command(
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


@campaign.command(
    short_help="Show where a campaign stands; reads files only.",
    epilog=examples(
        "campaign status my.yaml",
        "campaign status runs/gfm --watch",
        "campaign status my.yaml --json | jq .state",
    ),
)
@_TARGET
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
    if watch:
        live.watch(where.folder)
    elif as_json:
        click.echo(status_json(read_status(where.folder)))
    else:
        live.show(read_status(where.folder))


@campaign.command(
    short_help="Ask a stage, or all, to end.",
    epilog=examples(
        "campaign cancel painn -c my.yaml",
        "campaign cancel -c runs/gfm --yes",
    ),
)
@click.argument("stage", required=False, shell_complete=completion.stages)
@_WHICH
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def cancel(where: Where, stage: str | None, target: Path | None, yes: bool) -> None:
    """Ask STAGE, or the whole campaign, to end: running tasks write checkpoints first.

    Where no driver lives, this command stays until they have ended. `campaign resume` goes on later.
    """
    from workflow.cancel import cancel as cancel_stages
    from workflow.report.locate import locate
    from workflow.report.status import read_status

    where.folder = locate(target)
    if not yes and not click.confirm(f"Cancel {stage or 'every stage'} of {where.folder}?"):
        raise click.Abort
    cancel_stages(where.folder, stage)
    for each in read_status(where.folder).stages:
        if stage in (None, each.key, each.key.partition("/")[0]):
            click.echo(f"{each.key}: {each.state}")


@campaign.command(
    short_help="Print the logs of a stage's newest job that had work.",
    epilog=examples(
        "campaign logs train/1 -c my.yaml",
        "campaign logs painn --task trial-3 -f",
    ),
)
@click.argument("stage", shell_complete=completion.stages)
@_WHICH
@click.option("--task", metavar="TASK", help="A task of the stage, such as a trial; default: the batch job.")
@click.option("-f", "--follow", is_flag=True, help="Go on printing what is added; Ctrl-C leaves.")
@click.option("-n", "--lines", type=int, default=50, show_default=True, help="Lines from the end of each log; 0: all.")
@click.pass_obj
def logs(where: Where, stage: str, target: Path | None, task: str | None, follow: bool, lines: int) -> None:
    """Print the logs of STAGE's newest job that had work."""
    from workflow.report.locate import locate
    from workflow.report.logs import print_logs

    where.folder = locate(target)
    print_logs(where.folder, stage, task, lines=lines, follow=follow)


@campaign.command(
    short_help="Write one HTML file about a campaign.",
    epilog=examples(
        "campaign report my.yaml",
        "campaign report runs/gfm --into ~/gfm.html",
    ),
)
@_TARGET
@click.option(
    "--into", type=click.Path(path_type=Path), metavar="FILE", help="File to write; default: report.html in the folder."
)
@click.pass_obj
def report(where: Where, target: Path | None, into: Path | None) -> None:
    """Write one HTML file about a campaign: graph, costs, searches, training curves, tables, provenance.

    It opens from disk without network, at any moment of the campaign.
    """
    from workflow.report.html import write_report
    from workflow.report.locate import locate

    where.folder = locate(target)
    click.echo(f"wrote {write_report(where.folder, into)}")


for _each in (rehearse, datasets, schema, complete):
    campaign.add_command(_each)


def main() -> None:
    """Run the command."""
    campaign(prog_name="campaign")
