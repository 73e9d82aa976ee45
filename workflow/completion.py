"""What a shell offers behind `campaign …`: stages of the campaign at hand, templates, sites, data sets.

The protocol is click's own. A shell must never see an error here: what cannot be found out is not offered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")
Offer = Callable[[click.Context, click.Parameter, str], list[str]]


def script(command: click.Command, shell: str) -> str:
    """Return the text that a shell reads to complete `campaign`."""
    kind = get_completion_class(shell)
    assert kind is not None  # SHELLS are click's
    return str(kind(command, {}, "campaign", "_CAMPAIGN_COMPLETE").source())


def _offering(names: Callable[[click.Context], Iterable[str]]) -> Offer:
    def offer(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001 click's signature
        try:
            return [name for name in names(ctx) if name.startswith(incomplete)]
        except Exception:  # a shell's line is no place for a fault in a file
            return []

    return offer


def _stages(ctx: click.Context) -> list[str]:
    """Return the stages of the campaign that the line names, or of the only one here; running or not."""
    from model.outcome import read_json
    from workflow.report.locate import locate
    from workflow.rundir import RunDir

    target: Path | None = ctx.params.get("target")
    resolved: Any = read_json(RunDir(locate(target)).campaign)
    if resolved is not None:
        return [str(each["key"]) for each in resolved["instances"]]
    from workflow.draft import load_campaign

    return [each.key for each in load_campaign(target).instances()] if target is not None else []


def _templates(_: click.Context) -> Iterable[str]:
    from workflow.templates import templates

    return templates()


def _sites(_: click.Context) -> Iterable[str]:
    from workflow.site import site_names

    return site_names()


def _readers(_: click.Context) -> Iterable[str]:
    from model.registry import readers

    return readers()


stages, templates, sites, datasets = map(_offering, (_stages, _templates, _sites, _readers))
"""Callbacks for `shell_complete=` of an argument or option."""
