"""Data sets, and what files and stores hold, as text for a terminal."""

from __future__ import annotations

from typing import Any

import click
import yaml
from rich.console import Console
from rich.table import Table
from rich.text import Text

from workflow.datasets import DataSet
from workflow.errors import CampaignError
from workflow.report.fault import tell_problem
from workflow.report.screen import print_table, screen

_WIDE = 110


def print_list(sets: list[DataSet], console: Console | None = None) -> None:
    """Print all data sets as a table, under a heading for each role."""
    console = console or screen()
    wide = console.width >= _WIDE
    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    table.add_column("name", no_wrap=True)
    table.add_column("title", overflow="fold", width=None if wide else 13)  # the longest words; 80 columns in all
    table.add_column("structures", justify="right", no_wrap=True)
    table.add_column("level of theory", overflow="fold", width=None if wide else 16)
    table.add_column("licence", overflow="fold", width=None if wide else 19)
    role = ""
    for each in sets:
        facts = each.facts
        if facts["role"] != role:
            role = facts["role"]
            table.add_row(Text(f"{role}:", "bold"))
        level = facts["level_of_theory"].replace("/", "/" if wide else "/\n")
        table.add_row(*map(Text, (each.name, facts["title"], _count(facts["count"]), level, facts["licence"])))
    print_table(table, console)


def print_dataset(one: DataSet, console: Console | None = None) -> None:
    """Print all that is known of a data set, the reader's options, and how a campaign file names it."""
    console = console or screen()
    console.print(Text.assemble((one.name, "bold"), f": {one.summary}"), Text())
    facts = Table(box=None, pad_edge=False, show_header=False)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in [*_facts(one.facts), *([("layout", one.layout)] if one.layout else [])]:
        facts.add_row(name, Text(value))
    console.print(facts)
    for pitfall in one.facts["pitfalls"]:
        console.print(Text.assemble(("mind: ", "yellow"), pitfall))
    console.print(_options(one) if one.options else Text("\nno options"))
    console.print(Text(f"\nIn a campaign file, under `branches` or `sources`:\n\n{_block(one)}"))


def print_readings(found: dict[str, Any]) -> None:
    """Print what stands at a path: the records of a store, or what each reader makes of files."""
    if "store" in found:
        _print_store(found)
    if (several := len(found.get("readings", []))) > 1:
        click.echo(f"{several} readers read this; compare energies and units, and name the right one with --reader.")
    for reading in found.get("readings", []):
        click.secho(f"read as {reading['reader']}", bold=True, nl=False)
        more = (
            f", and {reading['num_files'] - len(reading['files'])} more" if reading["num_files"] > len(reading["files"]) else ""
        )
        names = ", ".join(each["name"] for each in reading["files"])
        click.echo(f": {reading['num_files']} file{_s(reading['num_files'])}, {_size(reading['bytes'])}: {names}{more}")
        _print_records(reading["records"])


def print_verdict(found: dict[str, Any], path: str) -> None:
    """Print what comparing a store with its manifest has shown, damage on stderr."""
    for fault in found["faults"]:
        tell_problem(CampaignError(**fault))
    if "files" in found:
        head = f"{path}: {found['name']}, {found['structures']:,} structures in {found['shards']} shard{_s(found['shards'])}"
        damaged = len(found["faults"])
        verdict = f"{damaged} damaged" if damaged else "all as the manifest says"
        click.echo(f"{head}; {found['files']} file{_s(found['files'])}, {_size(found['bytes'])}: {verdict}")


def print_edges(found: dict[str, Any]) -> None:
    """Print edges of a store's structures: in all, on average, at quantiles, at most."""
    structures, total = found["structures"], found["edges"]
    click.secho(f"store of '{found['name']}'", bold=True, nl=False)
    click.echo(f": {total:,} edges of {structures:,} structures and {found['atoms']:,} atoms")
    several = ", ".join(f"{share} have at most {count:,}" for share, count in found["quantiles"].items())
    mean = f"{total / structures:,.1f} a structure, {total / found['atoms']:.1f} an atom"
    click.echo(f"  {mean}; of the structures {several}; the largest has {found['largest']:,}")


def _print_store(found: dict[str, Any]) -> None:
    store = found["store"]
    source = store["source"]
    click.secho(f"store of '{store['name']}'", bold=True, nl=False)
    click.echo(f": {source['title']}, {source['level_of_theory'] or 'level of theory not stated'}, {source['licence']}")
    counts = ", ".join(f"{name} {count:,}" for name, count in store["split_counts"].items())
    labels = ", ".join(f"{name} {count:,}" for name, count in store["labels"].items())
    click.echo(f"  {store['structures']:,} structures, {store['atoms']:,} atoms, {store['rejected']:,} records left out")
    click.echo(f"  splits: {counts}; with labels: {labels}")
    click.echo(f"  made by reader {store['reader']['name']} from {store['num_sources']} file{_s(store['num_sources'])}")
    _print_records(found["records"])


def _print_records(records: list[dict[str, Any]]) -> None:
    for record in records:
        click.echo(f"  {record['id']}: {_record(record)}")
        if record["fault"]:
            click.secho(f"    would be left out: {record['fault']}", fg="yellow")


def _record(record: dict[str, Any]) -> str:
    if "formula" not in record:
        return "no structure"
    form = "periodic" if any(record["pbc"]) else "molecule"
    parts = [f"{record['formula']}, {record['num_atoms']} atom{_s(record['num_atoms'])}, {form}"]
    energy, force = record["energy_ev"], record["largest_force_ev_per_angstrom"]
    parts.append("no energy" if energy is None else f"{energy:.4f} eV ({energy / record['num_atoms']:.4f} eV/atom)")
    parts.append("no forces" if force is None else f"largest force {force:.3f} eV/Å")
    parts += ["stress"] if record["has_stress"] else []
    parts += [f"target {record['target']:g}"] if record["target"] is not None else []
    parts += [f"charge {record['charge']:+d}"] if record["charge"] is not None else []
    parts += [f"multiplicity {record['spin']}"] if record["spin"] is not None else []
    return "; ".join(parts)


def _facts(facts: dict[str, Any]) -> list[tuple[str, str]]:
    units = ", ".join(f"{name} in {unit}" for name, unit in facts["units"].items())
    rows = [
        ("title", facts["title"]),
        ("role", facts["role"]),
        ("structures", _count(facts["count"])),
        ("atoms, mean", "" if facts["mean_atoms"] is None else f"{facts['mean_atoms']:g}"),
        ("level of theory", facts["level_of_theory"]),
        ("published units", units),
        ("reader version", str(facts["version"])),
        ("energy is", facts["energy_kind"]),
        ("target", ", ".join(filter(None, (facts["target"], facts["units"].get("target"))))),
        ("licence", facts["licence"]),
        ("cite", facts["citation"]),
        ("published at", facts["url"]),
    ]
    return [(name, value) for name, value in rows if value]


def _options(one: DataSet) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", title="\noptions", title_justify="left", title_style="bold")
    table.add_column("key", no_wrap=True)
    for name in ("takes", "default", "what it does"):
        table.add_column(name, overflow="fold")
    for each in one.options:
        default = "none" if each.default is None else yaml.safe_dump(each.default, default_flow_style=True).splitlines()[0]
        table.add_row(*map(Text, (each.name, each.type, default, each.description)))
    return table


def _block(one: DataSet) -> str:
    fields: dict[str, Any] = {"reader": one.name, "path": "{data}/" + one.name}
    if one.options:
        fields["options"] = {one.options[0].name: one.options[0].default}
    text: str = yaml.safe_dump({one.name: fields}, default_flow_style=None, sort_keys=False, width=120)
    return "".join(f"  {line}\n" for line in text.splitlines())


def _count(count: int | None) -> str:
    return "" if count is None else f"{count:,}"


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def _s(count: int) -> str:
    return "s" * (count != 1)
