"""OC20: a chunk of extended XYZ with tags and fixed atoms by ASE, xz-compressed beside its text file."""

from __future__ import annotations

import io
import lzma
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

FILE = "0.extxyz.xz"
COMPANIONS = ("0.txt.xz",)
OPTIONS: dict[str, object] = {}
CELL = [[5, 0, 0], [0, 5, 0], [0, 0, 20]]
PLACES = [[0, 0, 5], [2.5, 2.5, 5], [0, 0, 7], [0, 0, 8.2]]
FORCES = [[0.75, 0, 0], [0, 0, -0.25], [0.5, 0, 0], [-0.5, 0, 0.125]]
ROWS = ("random1124061,frame88,-262.5", "random7,frame0,-260.25", "random7,frame9,-260.25")
ENERGIES = (-264.5, -261.0, -261.125)


def write(path: Path, energy_scale: float = 1.0) -> None:
    text = io.StringIO()
    ase.io.write(text, [slab(energy, energy_scale) for energy in ENERGIES], format="extxyz")
    path.write_bytes(lzma.compress(text.getvalue().encode()))
    (path.parent / "0.txt.xz").write_bytes(lzma.compress("".join(f"{row}\n" for row in ROWS).encode()))


def slab(energy: float, scale: float) -> Atoms:
    """Bulk, surface and adsorbate: tags 0, 1, 2; the bulk is fixed and its forces are not zero."""
    atoms = Atoms("CuCuCO", PLACES, cell=CELL, pbc=True, tags=[0, 1, 2, 2], constraint=FixAtoms([0]))
    results = {"energy": energy * scale, "free_energy": energy * scale - 0.5, "forces": np.array(FORCES) * scale}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


# Raw totals in eV, as published.
EXPECTED = [
    {
        "id": name,
        "identity": "crystal:C1Cu2O1",
        "numbers": [29, 29, 6, 8],
        "positions": PLACES,
        "cell": CELL,
        "pbc": [True] * 3,
        "energy": energy,
        "forces": FORCES,
    }
    for name, energy in zip(("random1124061/frame88", "random7/frame0", "random7/frame9"), ENERGIES, strict=True)
]
