"""`campaign sites`: which facilities are known, what stands behind their figures, and a test on two of their nodes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from workflow import completion
from workflow.face import examples


@click.group(
    short_help="Show and test the facilities that campaigns can run on.",
    epilog=examples(
        "campaign sites list                       every site, and how much of it is unverified",
        "campaign sites show frontier              every figure with its source",
        "campaign sites test frontier              two nodes, some minutes: is it as the file says?",
    ),
)
def sites() -> None:
    """Show which facilities are known, what stands behind each figure, and test one on two of its nodes."""


@sites.command("list", short_help="List the sites.")
def list_() -> None:
    """List the sites that ship and those of the folder CAMPAIGN_SITES.

    Exit code 2 if a site's file, or your overlay of it, is broken; the others are listed all the same.
    """
    from workflow.errors import CampaignError
    from workflow.report.fault import tell_problem
    from workflow.report.sites import print_sites
    from workflow.site import load_site, site_names

    sound, broken = [], []
    for name in site_names():
        try:
            sound.append(load_site(name))
        except CampaignError as error:
            broken.append((name, error))
    print_sites(sound)
    for name, problem in broken:
        click.echo(f"{name}: not listed, its file or your overlay is broken", err=True)
        tell_problem(problem)
    sys.exit(2 if broken else 0)


@sites.command(short_help="Show every figure of SITE with its source.", epilog=examples("campaign sites show aurora"))
@click.argument("site", shell_complete=completion.sites)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(site: str, as_json: bool) -> None:
    """Show every figure of SITE, your overlay merged in, with who says so; what nobody confirms is marked."""
    from workflow.report.sites import print_site
    from workflow.site import load_site
    from workflow.site_facts import figures

    loaded = load_site(site)
    if as_json:
        click.echo(json.dumps([{**vars(each), "mark": each.mark} for each in figures(loaded)], indent=1, ensure_ascii=False))
    else:
        print_site(loaded)


@sites.command(
    short_help="Run a two-node job on SITE and tell what is not as its file says.",
    epilog=examples(
        "campaign sites test local",
        "campaign sites test aurora --queue debug",
        "campaign sites test frontier --into /lustre/orion/abc123/scratch/me/site-test",
    ),
)
@click.argument("site", shell_complete=completion.sites)
@click.option("--queue", metavar="QUEUE", help="Queue of the site; default: the first that takes the job.")
@click.option(
    "--into", type=click.Path(path_type=Path), metavar="FOLDER", help="Folder of the test; default: site-test-SITE here."
)
def test(site: str, queue: str | None, into: Path | None) -> None:
    """Run a two-node job on SITE: account, queue, ranks, cores, devices, node-local path, broadcast, network, signals.

    Nodes must be able to write to the folder. What is found is kept beside your overlay and shown by `campaign sites
    show`. Exit code 1 if something is not as the site file says.
    """
    from workflow.report.lines import Narrator
    from workflow.report.sites import print_test
    from workflow.site_testing import test_site

    narrator = Narrator()

    def tell(event: dict[str, object]) -> None:
        if (line := narrator.tell(event)) is not None:
            click.echo(line)

    found = test_site(site, (into or Path(f"site-test-{site}")).absolute(), queue, tell=tell)
    print_test(found)
    sys.exit(0 if found.holds else 1)
