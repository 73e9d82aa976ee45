"""Arguments and options that several subcommands take."""

from __future__ import annotations

from pathlib import Path

import click

from workflow import completion

SITE = click.option("--site", metavar="SITE", help="Site to use instead of the file's own.", shell_complete=completion.sites)
FILE = click.argument("file", type=click.Path(path_type=Path))
TARGET = click.argument("target", type=click.Path(path_type=Path), required=False)
WHICH = click.option(
    "-c",
    "--campaign",
    "target",
    type=click.Path(path_type=Path),
    metavar="FILE|FOLDER",
    help="Which campaign; default: the only one here.",
)
