"""The page `reference/commands.md`: what `campaign COMMAND --help` says, for every command."""

from __future__ import annotations

from collections.abc import Iterator

import click

from workflow.cli import campaign

INTRODUCTION = """# Commands

Exit codes of every command: 0 done, 1 a stage failed (or something looked at is damaged), 2 wrong input or a refusal, 3 a stage
is held until you approve it, 4 unfinished. An error says what was found, where, and what to do; its traceback is kept in the
campaign's `traceback.log`.
"""


def page() -> str:
    """Return the page as Markdown."""
    with campaign.make_context("campaign", ["--"], resilient_parsing=True) as top:
        parts = [_section(each) for each in _all(top)]
    return "\n".join([INTRODUCTION, *parts])


def _all(top: click.Context) -> Iterator[click.Context]:
    """Yield the context of every command, those of a group behind the group."""
    command = top.command
    assert isinstance(command, click.Group)
    for name in command.list_commands(top):
        inner = command.get_command(top, name)
        assert inner is not None
        context = click.Context(inner, info_name=name, parent=top, terminal_width=100, max_content_width=100)
        yield context
        if isinstance(inner, click.Group):
            yield from _all(context)


def _section(context: click.Context) -> str:
    level = "##" if context.parent is not None and context.parent.parent is None else "###"
    return f"{level} {context.command_path}\n\n```text\n{context.command.get_help(context).rstrip()}\n```\n"
