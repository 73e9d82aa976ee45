"""The command `campaign`: each subcommand loads what it needs and nothing more."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from workflow import __version__
from workflow.commands.datasets import datasets
from workflow.commands.environment import env
from workflow.commands.options import FILE, SITE, TARGET
from workflow.commands.rehearsing import rehearse
from workflow.commands.running import approve, cancel, logs, resume, run, status
from workflow.commands.simulating import simulate
from workflow.commands.sites import sites
from workflow.commands.writing import complete, init, schema
from workflow.face import Face, Where, examples


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
@click.option("--debug", is_flag=True, help="Print the traceback of an error.")
@click.pass_context
def campaign(ctx: click.Context, debug: bool) -> None:
    """Carry one YAML file through a batch system: convert, search, promote, train, fine-tune, screen.

    It goes on from wherever it is: interrupted at any moment, on any login node, it is simply run again.
    """
    ctx.obj = Where(debug=debug)


campaign.add_command(init)


@campaign.command(
    short_help="Find what is wrong in FILE before anything waits in a queue.",
    epilog=examples(
        "campaign check my.yaml",
        "campaign check my.yaml --site local --elsewhere",
    ),
)
@FILE
@SITE
@click.option("--elsewhere", is_flag=True, help="This is not the site: leave out its files and commands.")
@click.option("--no-models", is_flag=True, help="Do not build the models.")
def check(file: Path, site: str | None, elsewhere: bool, no_models: bool) -> None:
    """Find out all that can be known about FILE without a place in a queue.

    Types, names, needs, data files, readers, commands, what the site would refuse; each stage's model is built
    once without memory. All faults are told together; exit code 2 if there is any.
    """
    from workflow.check import check_campaign
    from workflow.report.terminal import print_check, sign_of_life

    with sign_of_life(f"checking {file}") as tell:
        report = check_campaign(file, site, elsewhere=elsewhere, models=not no_models, tell=tell)
    print_check(report, str(file))
    sys.exit(2 if report.problems else 0)


@campaign.command(
    short_help="Show jobs, node-hours, queues and refusals of FILE on a site.",
    epilog=examples(
        "campaign plan my.yaml",
        "campaign plan my.yaml --site local",
        "campaign plan my.yaml --scripts scripts    see what would be submitted",
    ),
)
@FILE
@SITE
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--scripts", type=click.Path(path_type=Path), metavar="FOLDER", help="Write batch scripts and launcher calls there."
)
def plan(file: Path, site: str | None, as_json: bool, scripts: Path | None) -> None:
    """Show what FILE asks of a site: jobs, node-hours, queues, and what would be refused.

    Nothing is submitted. Exit code 2 if the site would refuse a stage; the block that fits is printed.
    """
    from workflow.draft import load_campaign
    from workflow.plan import make_plan
    from workflow.report.planned import print_plan, print_plan_json

    loaded = load_campaign(file, site)
    made = make_plan(loaded)
    (print_plan_json if as_json else print_plan)(made)
    if scripts is not None and not made.refused:
        from workflow.preview import write_previews

        click.echo(f"wrote {len(write_previews(loaded, scripts))} files into {scripts}")
    sys.exit(2 if made.refused else 0)


for _each in (simulate, run, resume, status, approve, cancel, logs):
    campaign.add_command(_each)


@campaign.command(
    short_help="Write one HTML file about a campaign, its tables as CSV, or its provenance as an RO-Crate.",
    epilog=examples(
        "campaign report my.yaml",
        "campaign report runs/gfm --into ~/gfm.html",
        "campaign report my.yaml --tables             CSV files and tables.json",
        "campaign report runs/gfm --ro-crate --into ~/gfm-crate",
    ),
)
@TARGET
@click.option("--ro-crate", is_flag=True, help="Export the provenance as an RO-Crate: a folder.")
@click.option("--tables", is_flag=True, help="Write the tables of results as CSV files, and all in tables.json: a folder.")
@click.option(
    "--into",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="File, or with --ro-crate and --tables folder, to write; default: report.html, ro-crate, tables in the campaign's.",
)
@click.pass_obj
def report(where: Where, target: Path | None, ro_crate: bool, tables: bool, into: Path | None) -> None:
    """Write one HTML file about a campaign: graph, costs, searches, training curves, tables, provenance.

    TARGET is the campaign's YAML file or its folder; left out, it is the only campaign here. The report opens from disk
    without network, at any moment of the campaign; before it has begun, it shows the plan of the file.
    An RO-Crate holds the report, the journal and the receipts, and names every output with its size and SHA-256.
    """
    from workflow.report.locate import locate

    if ro_crate and tables:
        raise click.UsageError("--ro-crate and --tables write different folders: give one of them at a time.")
    where.folder = locate(target)
    if tables:
        from workflow.report.written import write_tables

        click.echo(f"wrote {write_tables(where.folder, into)}")
        return
    if ro_crate:
        from workflow.report.crate import write_crate

        click.echo(f"wrote {write_crate(where.folder, into)}")
        return
    from workflow.report.html import write_report

    click.echo(f"wrote {write_report(where.folder, into, target if target and target.is_file() else None)}")


for _each in (rehearse, sites, env, datasets, schema, complete):
    campaign.add_command(_each)


def main() -> None:
    """Run the command."""
    campaign(prog_name="campaign")
