"""ABX3: the csv file with its units in the header, by the csv module, and the REST service's answers by pymatgen and json."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from pymatgen.core import Lattice, Structure

FILE = "abc3_data.csv"
COMPANIONS = ("abx3_structures.json",)
OPTIONS: dict[str, object] = {}
COLUMNS = [
    "mp_id",
    "formula",
    " sites",
    "energy_per_atom (eV/atom)",
    "formation_energy (eV/atom) ",
    "band_gap (eV)",
    "bulk_modulus (GPa)",
]
ROWS = (("mp-4019", "CaTiO3", -8.25, -3.5), ("mp-20459", "SrTiO3", -8.125, -3.25), ("mp-31", "BaTiO3", -8.0, -3.75))
MODULI = "{'voigt': 163.571, 'reuss': 163.571, 'vrh': 163.571}"


def write(path: Path, energy_scale: float = 1.0) -> None:
    with path.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for name, formula, energy, formation in ROWS:
            table.writerow([name, formula, 5, energy * energy_scale, formation * energy_scale, 2.0, MODULI])
    documents = [{"material_id": name, "structure": perovskite(formula).as_dict()} for name, formula, *_ in reversed(ROWS)]
    answers = [{"data": documents[:2], "meta": {"total_doc": 2}}, {"data": documents[2:], "meta": {"total_doc": 1}}]
    (path.parent / "abx3_structures.json").write_text(json.dumps(answers))


def perovskite(formula: str) -> Structure:
    species = [formula[:2], formula[2:4], "O", "O", "O"]
    places = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return Structure(Lattice.cubic(4), species, places)


# Formation energies stay eV per atom.
EXPECTED = [
    {
        "id": name,
        "identity": identity,
        "numbers": [number, 22, 8, 8, 8],
        "positions": [[0, 0, 0], [2, 2, 2], [2, 2, 0], [2, 0, 2], [0, 2, 2]],
        "cell": [[4, 0, 0], [0, 4, 0], [0, 0, 4]],
        "pbc": [True] * 3,
        "energy": None,
        "target": target,
    }
    for name, identity, number, target in (
        ("mp-4019", "crystal:Ca1O3Ti1", 20, -3.5),
        ("mp-20459", "crystal:O3Sr1Ti1", 38, -3.25),
        ("mp-31", "crystal:Ba1O3Ti1", 56, -3.75),
    )
]
