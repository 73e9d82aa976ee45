"""Run `python -m model.data.miniature READER FOLDER`: write a miniature and print its files as one JSON line."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import yaml
from ase import Atoms
from pydantic import ValidationError

from model import registry
from model.data.miniature.base import Miniature, miniature
from model.data.miniature.structures import make
from model.outcome import CampaignError


def main() -> int:
    """Read the command line, make structures and write them."""
    parser = argparse.ArgumentParser(prog="python -m model.data.miniature", description=__doc__)
    parser.add_argument("reader", help="name of the reader whose container is written")
    parser.add_argument("folder", type=Path, help="where the files go")
    parser.add_argument("--count", type=int, default=60, help="structures that the reader takes, at least (default 60)")
    parser.add_argument("--seed", type=int, default=0, help="seed of every random choice (default 0)")
    parser.add_argument(
        "--option", action="append", default=[], metavar="KEY=VALUE", help="option of the reader; may be repeated"
    )
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # xTB's threads spin against each other on few cores
    try:
        paths = write(arguments)
    except CampaignError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(json.dumps([str(path) for path in paths]) + "\n")
    return 0


def write(arguments: argparse.Namespace) -> list[Path]:
    """Write the miniature that the command line asks for.

    Raises:
        CampaignError: No such reader, or options that it does not take.
    """
    config = _config(arguments.reader, dict(each.partition("=")[::2] for each in arguments.option))
    maker = miniature(arguments.reader)
    structures = _enough(maker, config, arguments)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    return maker.write(arguments.folder, structures, config)


def _enough(maker: Miniature, config: Any, arguments: argparse.Namespace) -> list[Atoms]:
    """Return structures of which at least as many suit the reader's options as were asked for."""
    suits = getattr(maker, "suits", lambda _atoms, _config: True)
    for times in (1, 2, 4, 8):
        structures = make(maker.FAMILY, times * arguments.count, arguments.seed)
        if sum(suits(each, config) for each in structures) >= arguments.count:
            return structures
    raise CampaignError("no structures that suit these options", f"reader '{arguments.reader}'", "Take other options.")


def _config(reader: str, given: dict[str, str]) -> Any:
    module = registry.reader(reader)
    try:
        return module.Config.model_validate({key: yaml.safe_load(value) for key, value in given.items()})
    except ValidationError as error:
        first = error.errors()[0]
        known = ", ".join(module.Config.model_fields) or "none"
        where = f"reader '{reader}', option '{'.'.join(map(str, first['loc']))}'"
        raise CampaignError(first["msg"], where, f"Known options: {known}.") from error


if __name__ == "__main__":
    sys.exit(main())
