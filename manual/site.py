"""The pages `reference/site.md`, every key of a site file, and `facilities/figures.md`, the figures of those that ship."""

from __future__ import annotations

from typing import Any

import yaml

from manual.keys import Links, table
from workflow.keys import records_of
from workflow.site import Site, packaged

INTRODUCTION = """# The site file

A facility is one file, `<name>.yaml`: in the package, or in a folder of your own that the environment variable
`CAMPAIGN_SITES` names (it comes first). What is yours alone (account, paths) goes into an overlay,
`~/.config/campaign/sites/<name>.yaml`, whose keys are merged over the file's, mapping by mapping.
[A worked example](../extending/site.md). Which figures of the sites that ship are verified:
[figures and sources](../facilities/figures.md).
"""
FIGURES = """# Figures and sources

What the site files say of queues and limits, where each figure comes from, and **what no manual at hand confirms**. The manuals
were read in 2026; a facility changes its rules when it must. `campaign sites test SITE` checks on the machine itself what can be
checked, and your overlay corrects what has changed.
"""


def page() -> str:
    """Return every key of a site file as Markdown."""
    records = _records()
    links: Links = {record: f"#{record.__name__.lower()}" for record in records}
    parts = [
        f"## {each.__name__}\n\n{(each.__doc__ or '').partition(chr(10))[0]}\n\n{table(each, links=links)}" for each in records
    ]
    return "\n".join([INTRODUCTION, f"## The file\n\n{table(Site, links)}", *parts])


def figures() -> str:
    """Return the queues, limits, sources and unverified figures of every site that ships."""
    paths = sorted(packaged("sites").glob("*.yaml"))
    return "\n".join([FIGURES, *(_figures(path.stem, yaml.safe_load(path.read_text())) for path in paths)])


def _records() -> list[Any]:
    return [each for each in records_of(Site) if each is not Site]


def _figures(name: str, site: dict[str, Any]) -> str:
    queues = ["| queue | nodes | most hours | remarks | source |", "|---|---|---|---|---|", *map(_queue, site["queues"])]
    text = [f"## {name}\n\n{site['description']}.\n", *queues, ""]
    if site.get("limits"):
        text += [
            "| queues | for each | running | waiting with priority | in any state | source |",
            "|---|---|---|---|---|---|",
        ]
        text += [*map(_limit, site["limits"]), ""]
    text += _listed("Where figures come from", site.get("sources", {}))
    return "\n".join([*text, *_listed("Not verified", site.get("unverified", {}))])


def _queue(queue: dict[str, Any]) -> str:
    remarks = ["only where a stage names it"] if queue.get("asked_for") else []
    remarks += [] if queue.get("chains", True) else ["no chains"]
    remarks += [f"no job under {60 * queue['min_walltime_h']:.0f} minutes"] if queue.get("min_walltime_h") else []
    nodes = f"{queue.get('min_nodes', 1):,}–{queue['max_nodes']:,}"
    cells = [f"`{queue['name']}`", nodes, f"{queue['max_walltime_h']:g}", ", ".join(remarks), queue.get("source", "")]
    return "| " + " | ".join(cells) + " |"


def _limit(limit: dict[str, Any]) -> str:
    names = ", ".join(f"`{each}`" for each in limit.get("queues", ())) or "all"
    counts = [str(limit.get(key, "")) for key in ("running", "eligible", "submitted")]
    return "| " + " | ".join([names, limit.get("per", "user"), *counts, limit.get("source", "")]) + " |"


def _listed(title: str, entries: dict[str, str]) -> list[str]:
    if not entries:
        return []
    return [f"**{title}**\n", *(f"- `{key}`: {text}" for key, text in entries.items()), ""]
