"""Tell what a file, a folder or a store holds: its first records as a reader understands them, as JSON on stdout.

`python -m model.data.inspection PATH [--reader NAME] [--options JSON] [--records N]`; `campaign datasets inspect` shows it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from ase.formula import Formula
from pydantic import ValidationError

from model import registry
from model.arguments import positive
from model.data.block import Block
from model.data.readers.base import info_of
from model.data.store import MANIFEST, Store
from model.data.structure import UNLABELLED, Refused, Structure
from model.data.validation import fault
from model.outcome import CampaignError

_FILES_SHOWN = 10


def main(argv: Sequence[str] | None = None) -> int:
    """Print what is found; the exit code is 1 where nothing can be read."""
    parser = argparse.ArgumentParser(prog="python -m model.data.inspection", description=__doc__)
    parser.add_argument("path", type=Path, help="file, folder or store")
    parser.add_argument("--reader", help="name of a reader; without it, every one is tried")
    parser.add_argument("--options", type=json.loads, default={}, help="the reader's options, a JSON mapping")
    parser.add_argument("--records", type=positive, default=3, help="how many records to show")
    given = parser.parse_args(argv)
    try:
        found = inspect(given.path, given.reader, given.options, given.records)
    except CampaignError as error:
        found = {"what": error.what, "where": error.where, "remedy": error.remedy}
    sys.stdout.write(json.dumps(found) + "\n")
    return int("what" in found)


def inspect(path: Path, reader: str | None, options: dict[str, Any], records: int) -> dict[str, Any]:
    """Return what stands at a path.

    Args:
        path: A source file, a folder of them, or a store.
        reader: Name of a reader; none: every reader whose first record can be read.
        options: Its options; only with a reader.
        records: How many records to describe.

    Returns:
        `path`, and either `store` (the manifest) with `records`, or `readings`: for each reader its name, `files`,
        `num_files`, `bytes` and `records`.

    Raises:
        CampaignError: No such path, or no reader reads what is there.
    """
    if not path.exists():
        raise CampaignError("no such file or folder", str(path), "Give a source file, a folder of them, or a store.")
    if reader is None and (path / MANIFEST).is_file():
        return {"path": str(path), **_store(path, records)}
    if reader is not None:
        return {"path": str(path), "readings": [_reading(path, reader, options, records)]}
    readings, refused = _readings(path, records)
    if not readings:
        raise CampaignError("no reader reads what is there", str(path), "\n".join(refused))
    return {"path": str(path), "readings": readings}


def _readings(path: Path, records: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Return what each reader makes of a path, and why the others make nothing of it."""
    found, refused = [], []
    for name in registry.readers():
        try:
            reading = _reading(path, name, {}, records)
        except CampaignError as error:
            refused.append(f"{name}: {error.what}")
            continue
        found += [reading] if reading["records"] else []
        refused += [] if reading["records"] else [f"{name}: no records"]
    return found, refused


def _reading(path: Path, name: str, options: dict[str, Any], records: int) -> dict[str, Any]:
    reader: Any = registry.reader(name)
    config = _config(reader, name, options)
    files = reader.files([path], config)
    first = itertools.islice(reader.read(files[0], config, range(records)), records)
    about = [{"name": str(file.relative_to(path)) if file != path else file.name, "bytes": file.stat().st_size} for file in files]
    return {
        "reader": name,
        "files": about[:_FILES_SHOWN],
        "num_files": len(files),
        "bytes": sum(each["bytes"] for each in about),
        "records": [describe(structure, **info_of(reader, config).checks) for structure in first],
    }


def _config(reader: Any, name: str, options: dict[str, Any]) -> Any:
    try:
        return reader.Config.model_validate(options)
    except ValidationError as error:
        first = error.errors()[0]
        known = ", ".join(reader.Config.model_fields) or "none"
        where = f"reader {name}, option {'.'.join(str(part) for part in first['loc'])}"
        raise CampaignError(first["msg"], where, f"Known options: {known}.") from error


def _store(path: Path, records: int) -> dict[str, Any]:
    store = Store.open(path)
    block = store.read(0, min(records, store.num_structures))
    kept = {key: value for key, value in store.manifest.items() if key not in ("shards", "files", "sources")}
    about = {**kept, "num_shards": len(store.manifest["shards"]), "num_sources": len(store.manifest["sources"])}
    return {"store": about, "records": [describe(_row(block, number)) for number in range(len(block))]}


def _row(block: Block, number: int) -> Structure:
    atoms = slice(*block.offsets[number : number + 2].tolist())
    forces, stress = block.forces[atoms], block.stress[number]
    return Structure(
        numbers=block.numbers[atoms],
        positions=block.positions[atoms],
        cell=block.cell[number],
        pbc=block.pbc[number],
        energy=float(block.energy[number]),
        forces=None if np.isnan(forces).any() else forces,
        stress=None if np.isnan(stress).any() else stress,
        charge=int(block.charge[number]),
        spin=int(block.spin[number]),
        id=str(block.ids[number]),
        identity=f"{block.identity[number]:016x}",
        target=float(block.target[number]),
    )


def describe(structure: Structure | Refused, **checks: bool) -> dict[str, Any]:
    """Return a record's facts as JSON values: formula, energy in eV, largest force in eV/Å, and what is wrong with it.

    Args:
        structure: The record.
        checks: What its source is held to; see `SourceInfo.checks`.
    """
    if isinstance(structure, Refused):
        return {"id": structure.id, "fault": structure.reason}
    forces = structure.forces
    largest = None if forces is None or not np.isfinite(forces).all() else float(np.sqrt((forces**2).sum(axis=1).max(initial=0)))
    return {
        "id": structure.id,
        "identity": structure.identity,
        "formula": _formula(structure),
        "num_atoms": len(structure.numbers),
        "pbc": structure.pbc.tolist(),
        "cell_lengths_angstrom": [round(float(each), 6) for each in np.linalg.norm(structure.cell, axis=1)],
        "energy_ev": None if np.isnan(structure.energy) else structure.energy,
        "largest_force_ev_per_angstrom": largest,
        "has_stress": structure.stress is not None,
        "target": None if np.isnan(structure.target) else structure.target,
        "charge": None if structure.charge == UNLABELLED else structure.charge,
        "spin": None if structure.spin == UNLABELLED else structure.spin,
        "fault": fault(structure, **checks),
    }


def _formula(structure: Structure) -> str:
    known = structure.numbers[structure.numbers < len(chemical_symbols)].tolist()
    return str(Formula.from_list([chemical_symbols[z] for z in known]).format("metal" if structure.pbc.any() else "hill"))


if __name__ == "__main__":
    sys.exit(main())
