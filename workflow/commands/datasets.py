"""`campaign datasets`: what readers know of published sets, what files hold, and whether a store is whole."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from workflow import completion
from workflow.face import examples


@click.group(
    short_help="Show data sets that can be read, and what files and stores hold.",
    epilog=examples(
        "campaign datasets list                    every set and container that a reader knows",
        "campaign datasets show ani1x              units, options, pitfalls, whom to cite",
        "campaign datasets inspect my.h5           the first records of a file",
        "campaign datasets verify runs/gfm/stages/data/stores/ani1x-0123456789ab",
    ),
)
def datasets() -> None:
    """Show which data sets can be read, what a file holds, and whether a store is whole."""


@datasets.command("list", short_help="List every data set and container that a reader knows.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(as_json: bool) -> None:
    """List every published data set and every container that a reader knows."""
    from workflow.datasets import all_datasets
    from workflow.report.datasets import print_list

    found = all_datasets()
    if as_json:
        click.echo(json.dumps([each.to_json() for each in found], indent=1, ensure_ascii=False))
    else:
        print_list(found)


@datasets.command(short_help="Show all that is known of one data set.")
@click.argument("name", shell_complete=completion.datasets)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(name: str, as_json: bool) -> None:
    """Show a data set: published units, what its energy is, the reader's options, pitfalls, licence, whom to cite."""
    from workflow.datasets import dataset
    from workflow.report.datasets import print_dataset

    found = dataset(name)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1, ensure_ascii=False))
    else:
        print_dataset(found)


def _options(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, Any]:
    import yaml

    found: dict[str, Any] = {}
    for each in given:
        key, equals, value = each.partition("=")
        if not equals:
            raise click.BadParameter(f"'{each}' is no KEY=VALUE")
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise click.BadParameter(f"the value of '{each}' is not valid YAML: put it in quotes") from error
    return found


@datasets.command(
    short_help="Show the first records of a file, a folder or a store.",
    epilog=examples(
        "campaign datasets inspect quickstart-data/emt.extxyz",
        "campaign datasets inspect quickstart-data/gfn2.h5 --reader ani1x --option level=gfn2_xtb",
    ),
)
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--reader", metavar="NAME", help="Reader to use; without it, every one is tried.", shell_complete=completion.datasets
)
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", callback=_options, help="An option of the reader.")
@click.option("-n", "--records", type=click.IntRange(1, 1000), default=3, show_default=True, help="Records to show.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def inspect(path: Path, reader: str | None, options: dict[str, Any], records: int, as_json: bool) -> None:
    """Show what PATH holds: formulas, energies in eV, forces in eV/Å, and which records would be left out."""
    from workflow.datasets import inspect as ask
    from workflow.report.datasets import print_readings

    found = ask(path, reader, options, records)
    if as_json:
        click.echo(json.dumps(found, indent=1, ensure_ascii=False))
    else:
        print_readings(found)


@datasets.command(
    short_help="Count the edges of a store's structures within a cutoff.",
    epilog=examples("campaign datasets edges runs/gfm/stages/data/stores/ani1x-0f3c --cutoff 5 --max-neighbors 20"),
)
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--cutoff", type=float, required=True, help="Å; what backbones are given.")
@click.option("--max-neighbors", type=int, help="Cap on the neighbours of an atom; without it there is none.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def edges(store: Path, cutoff: float, max_neighbors: int | None, as_json: bool) -> None:
    """Count the edges of every structure of STORE, and tell what batches filled to a budget of edges have to hold.

    The counts are kept beside the store and taken from there the next time. For large stores, start
    `python -m model.data.counting STORE --cutoff 5` as MPI ranks: they divide the shards.
    """
    from workflow.datasets import edges as ask
    from workflow.report.datasets import print_edges

    found = ask(store, cutoff, max_neighbors)
    if as_json:
        click.echo(json.dumps(found, indent=1, ensure_ascii=False))
    else:
        print_edges(found)


@datasets.command(short_help="Compare every file of a store with its manifest.")
@click.argument("store", type=click.Path(path_type=Path))
def verify(store: Path) -> None:
    """Compare size and SHA-256 of every file of STORE with its manifest; exit code 1 if any is damaged."""
    from workflow.datasets import verify as ask
    from workflow.report.datasets import print_verdict

    found = ask(store)
    print_verdict(found, str(store))
    sys.exit(1 if found["faults"] else 0)
