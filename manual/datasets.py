"""The page `reference/datasets.md`: every data set and container that a reader knows."""

from __future__ import annotations

from manual.keys import table
from model.registry import reader
from workflow.datasets import DataSet, all_datasets

INTRODUCTION = """# Data sets

Made from the readers. `campaign datasets list` and `show NAME` tell the same in a terminal; `campaign datasets inspect PATH`
shows the first records of a file. Readers convert to eV, Å, eV/Å and eV/Å³; nothing else does.
"""
_ROLES = {"pretraining": "To train on", "finetuning": "To fine-tune on", "container": "Containers that anyone may fill"}


def page() -> str:
    """Return the page as Markdown."""
    sets = all_datasets()
    head = "| name | title | structures | level of theory | label | licence |\n|---|---|---|---|---|---|\n"
    parts = [INTRODUCTION]
    for role, title in _ROLES.items():
        chosen = [each for each in sets if each.facts["role"] == role]
        if chosen:
            parts.append(f"## {title}\n\n{head}" + "\n".join(map(_row, chosen)) + "\n")
    return "\n".join([*parts, "## Each of them\n", *map(_section, sets)])


def label(one: DataSet) -> str:
    """Return what the set labels: the kind of its energy, or a scalar or class in the energy's place."""
    facts = one.facts
    if facts["energy_kind"] != "none":
        return f"{facts['energy_kind']} energy"
    return ", ".join(filter(None, (facts["target"], facts["units"].get("target"))))


def _row(one: DataSet) -> str:
    facts = one.facts
    count = "" if facts["count"] is None else f"{facts['count']:,}"
    cells = [
        f"[{one.name}](#{one.name})",
        facts["title"],
        count,
        facts["level_of_theory"],
        label(one),
        facts["licence"],
    ]
    return "| " + " | ".join(cells) + " |"


def _section(one: DataSet) -> str:
    facts = one.facts
    units = ", ".join(f"{name} {unit}" for name, unit in facts["units"].items())
    url = f" [Published here]({facts['url']})." if facts["url"] else ""
    lines = [f"### {one.name}\n", f"{one.summary}\n", f"Published units: {units}. Cite {facts['citation']}.{url}\n"]
    lines += [f"Layout: {one.layout}\n"] if one.layout else []
    lines += [*(f"- {each}" for each in facts["pitfalls"]), ""]
    return "\n".join([*lines, table(reader(one.name).Config, {}), ""])
