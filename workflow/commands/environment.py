"""`campaign env`: the Python environment that tasks run in, packed for the nodes."""

from __future__ import annotations

from pathlib import Path

import click

from workflow import completion
from workflow.face import examples


@click.group(
    "env",
    short_help="Pack the Python environment for the nodes.",
    epilog=examples("campaign env build --site frontier         pack what tasks import; unpacked on every node at stage-in"),
)
def env() -> None:
    """Pack the Python environment that tasks run in, so that ten thousand ranks do not import from one file system."""


@env.command(
    short_help="Pack this environment into one archive with its lock and hash.",
    epilog=examples(
        "campaign env build",
        "campaign env build --site frontier --into /lustre/orion/abc123/proj-shared/env",
    ),
)
@click.option("--site", metavar="SITE", shell_complete=completion.sites, help="Site that it is for; its modules are looked for.")
@click.option("--into", type=click.Path(path_type=Path), metavar="FOLDER", help="Where to; default: here.")
def build(site: str | None, into: Path | None) -> None:
    """Pack what tasks import into one archive, with the versions in it and its SHA-256 beside it as JSON.

    What it leaves out, such as the interpreter and the packages of the site's modules, is said. Stage-in brings it to
    every node once `archive:` in your overlay of the site names it.
    """
    from workflow.environment import build as pack
    from workflow.site import load_site, overlay_path

    archive = pack((into or Path()).absolute(), load_site(site) if site else None)
    click.echo(f"wrote {archive.path}: {len(archive.packages)} packages, {archive.size / 1e6:,.0f} MB, sha256 {archive.sha256}")
    for each in archive.left_out:
        click.echo(f"left out: {each}")
    click.echo(f"to use it: `archive: {archive.path}` in {overlay_path(site or 'SITE')}")
