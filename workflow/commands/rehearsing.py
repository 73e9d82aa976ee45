"""`campaign rehearse`: the same file in miniature on this machine."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import click

from workflow.face import examples


@click.command(
    short_help="Carry FILE through in miniature on this machine, one job killed on the way.",
    epilog=examples(
        "campaign rehearse campaigns/sc26.yaml",
        "campaign rehearse my.yaml --into /tmp/rehearsal",
    ),
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--into", type=click.Path(path_type=Path), metavar="FOLDER", help="Folder to write; default: rehearsal-FILE here.")
def rehearse(file: Path, into: Path | None) -> None:
    """Carry FILE through in miniature on this machine, before it waits in a queue.

    Every branch is written as a few made-up structures in its published container and read back; every stage runs, two
    trials of each search, two ranks on two nodes, two links of a chain; one job is killed and must resume. Neither the
    site nor the data of FILE are needed. Exit code 1 if something did not hold.
    """
    from workflow.rehearsal.rehearse import rehearse as carry_out
    from workflow.report.rehearsed import print_rehearsal

    for number in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C: the jobs of a rehearsal end with it
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    result = carry_out(file, (into or Path(f"rehearsal-{file.stem}")).absolute())
    print_rehearsal(result)
    sys.exit(0 if result.holds else 1)
