"""What every miniature has, and what their writers share."""

from __future__ import annotations

import csv
import gzip
import importlib
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

Family = Literal["molecules", "ions", "crystals", "slabs", "conformers"]


class Miniature(Protocol):
    """A module of this folder; its name is that of the reader whose container it writes.

    A module may also have `target(atoms) -> float`: what the reader gives as label of a structure, its energy or the
    target of a scalar or class (without one, that is the energy), and `suits(atoms, config) -> bool`: whether the
    reader takes a structure that is written (without one, it takes all).
    """

    FAMILY: Family

    def write(self, folder: Path, structures: list[Atoms], config: Any) -> list[Path]:
        """Write structures into the published container, as its publisher does, and return its files.

        Args:
            folder: Where the files go; exists.
            structures: With a calculator that knows energy (eV) and forces (eV/Å), as `structures.make` gives them.
            config: Options of the reader that will read them.
        """


def miniature(reader: str) -> Miniature:
    """Import the miniature of a reader."""
    return cast(Miniature, importlib.import_module(f"model.data.miniature.{reader}"))


def grouped(structures: list[Atoms], key: Callable[[Atoms], str]) -> dict[str, list[Atoms]]:
    """Return structures by a key, keys in order of their text."""
    groups: dict[str, list[Atoms]] = defaultdict(list)
    for atoms in structures:
        groups[key(atoms)].append(atoms)
    return dict(sorted(groups.items()))


def by_number(atoms: Atoms) -> Atoms:
    """Return a copy with atoms in order of their numbers, so that isomers can share one list of them."""
    order = np.argsort(atoms.numbers, kind="stable")
    copy = atoms[order]
    copy.calc = SinglePointCalculator(copy, energy=energy(atoms), forces=forces(atoms)[order])
    return copy


def energy(atoms: Atoms) -> float:
    """Return the energy, eV."""
    return float(atoms.calc.results["energy"])


def forces(atoms: Atoms) -> np.ndarray:
    """Return the forces, eV/Å, (num_atoms, 3); those of fixed atoms too."""
    return np.asarray(atoms.calc.results["forces"], np.float64)


def bare(atoms: Atoms, *labels: str) -> Atoms:
    """Return a copy without names, whose calculator knows these labels only; tags and fixed atoms stay."""
    copy = atoms.copy()
    copy.info = {}
    copy.calc = SinglePointCalculator(copy, **{name: atoms.calc.results[name] for name in labels})
    return copy


def crystal(atoms: Atoms, **properties: np.ndarray) -> dict[str, Any]:
    """Return a crystal as pymatgen's `Structure.as_dict()` has it.

    Args:
        atoms: Periodic.
        properties: Values for each site, (num_atoms, ...).
    """
    sites = [
        {
            "species": [{"element": symbol, "occu": 1}],
            "abc": fractions.tolist(),
            "xyz": place.tolist(),
            "label": symbol,
            "properties": {name: values[number].tolist() for name, values in properties.items()},
        }
        for number, (symbol, fractions, place) in enumerate(
            zip(atoms.get_chemical_symbols(), atoms.get_scaled_positions(wrap=False), atoms.positions, strict=True)
        )
    ]
    lattice = {"matrix": atoms.cell.array.tolist(), "pbc": atoms.pbc.tolist(), "volume": atoms.cell.volume}
    return {"@module": "pymatgen.core.structure", "@class": "Structure", "charge": 0, "lattice": lattice, "sites": sites}


def aselmdb(path: Path, rows: list[Atoms]) -> list[Path]:
    """Write an `.aselmdb` of rows and make its folder."""
    import ase.db

    path.parent.mkdir(parents=True, exist_ok=True)
    with ase.db.connect(path, append=False) as database:
        for atoms in rows:
            database.write(atoms)
    return [path]


def matbench(path: Path, column: str, structures: list[Atoms], targets: Sequence[float | bool]) -> list[Path]:
    """Write a Matbench task: a DataFrame of structures and targets as compressed JSON."""
    rows = [[crystal(atoms), value] for atoms, value in zip(structures, targets, strict=True)]
    frame = {"index": list(range(len(rows))), "columns": ["structure", column], "data": rows}
    path.write_bytes(gzip.compress(json.dumps(frame).encode()))
    return [path]


def table(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a csv file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([header, *rows])
