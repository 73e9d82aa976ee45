"""The frame of the command: help with examples, and errors told as what, where, remedy."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

_EXIT_CODES = "\n\nExit codes: 0 done, 1 a stage failed, 2 wrong input, 3 held, 4 unfinished."


@dataclass
class Where:
    """Where a traceback would go.

    Attributes:
        folder: The campaign's folder, as soon as it is known.
        debug: Print the traceback of every error.
    """

    folder: Path | None = None
    debug: bool = False


def examples(*lines: str, exit_codes: bool = False) -> str:
    """Return help text that keeps its line breaks."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines) + (_EXIT_CODES if exit_codes else "")


class Face(click.Group):
    """The group that tells errors as what, where, remedy, and ends with exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand; an error ends with code 2, its traceback in a file."""
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.ClickException, click.Abort):
            raise
        except Exception as error:  # the last one to know what to say
            if isinstance(error, OSError) and error.errno == errno.EPIPE:  # the reader of a pipe may leave
                raise
            from workflow.report.fault import tell

            tell(error, ctx.obj.folder, debug=ctx.obj.debug)
            ctx.exit(2)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 click's signature
        """Return the subcommands in the order of use, not of the alphabet."""
        return list(self.commands)
