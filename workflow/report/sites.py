"""Sites, and what a test of one has found, as text for a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from workflow.report.screen import print_table, screen
from workflow.site import Site, overlay_path
from workflow.site_facts import Figure, figures
from workflow.site_testing import SiteTest

_COLORS = {"unverified": "yellow", "FAILED": "bold red", "tested": "green"}


def print_sites(sites: list[Site], console: Console | None = None) -> None:
    """Print all sites as a table."""
    console = console or screen()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("site", ">nodes", ">devices", ">queues", ">unverified", "what"):
        table.add_column(name.lstrip(">"), justify="right" if name.startswith(">") else "left", overflow="fold")
    for site in sites:
        open_ = sum(figure.mark == "unverified" for figure in figures(site))
        numbers = (f"{site.nodes:,}", f"{site.nodes * site.node.devices:,}", str(len(site.queues)), str(open_))
        table.add_row(site.name, *numbers, Text(site.description))
    print_table(table, console)


def print_site(site: Site, console: Console | None = None) -> None:
    """Print every figure of a site with what stands behind it."""
    console = console or screen()
    console.print(Text.assemble((site.name, "bold"), f": {site.description}"))
    overlay = overlay_path(site.name)
    here = "merged in" if overlay.is_file() else "not there yet"
    console.print(f"yours: {overlay} ({here}); account: {site.account or 'none'}", soft_wrap=True, markup=False)
    for name, path in site.paths.items():
        console.print(f"  {{{name}}} = {path}", markup=False)
    found = figures(site)
    for place, figure in enumerate(found):
        console.print(Text.assemble((f"{figure.key} = ", "bold"), _text(figure.value)), soft_wrap=True)
        is_last = place + 1 == len(found) or _says(found[place + 1]) != _says(figure)
        if figure.mark and is_last:  # figures of one source in a row share its line
            console.print(Text(f"    {': '.join(_says(figure))}", _COLORS.get(figure.mark, "dim")), soft_wrap=True)


def print_test(test: SiteTest, console: Console | None = None) -> None:
    """Print what a test has found."""
    console = console or screen()
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("check", "", "what was seen"):
        table.add_column(name, overflow="fold")
    for check in test.checks:
        mark = Text("ok", "green") if check["ok"] else Text("FAILED", "bold red")
        table.add_row(check["name"], mark, Text(check["seen"]))
    print_table(table, console)
    verdict = "all is as the site file says" if test.holds else "mend your overlay, or tell the maintainers"
    console.print(f"{verdict}; kept in {test.kept} for `campaign sites show {test.site}`", soft_wrap=True, markup=False)


def _says(figure: Figure) -> tuple[str, str]:
    return figure.mark, figure.tested or figure.unverified or figure.source


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "; ".join(
            f"{key}: {{{_text(each)}}}" if isinstance(each, dict) else f"{key}: {_text(each)}" for key, each in value.items()
        )
    return ", ".join(map(_text, value)) if isinstance(value, list) else str(value)
