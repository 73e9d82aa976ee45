"""Make strained and rattled alloys and slabs of the metals that effective medium theory knows."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.build import bulk, fcc100, fcc111
from ase.data import atomic_numbers, reference_states
from numpy.random import Generator

METALS = ("Cu", "Ag", "Au", "Ni", "Pd", "Pt", "Al")
_SHAPES = ("primitive", "cubic", "long", "fcc111", "fcc100")


def alloy(random: Generator) -> Atoms:
    """Return one ideal random alloy of 1 to 3 metals, 8 to 18 atoms, at the mean of their lattice constants (Vegard)."""
    metals = random.choice(METALS, size=random.integers(1, 4), replace=False)
    ideal = _cell(str(random.choice(_SHAPES)), 4.0)
    symbols = random.choice(metals, size=len(ideal))
    ideal.set_chemical_symbols([str(each) for each in symbols])
    mean = np.mean([reference_states[atomic_numbers[each]]["a"] for each in symbols])
    ideal.set_cell(ideal.cell * mean / 4.0, scale_atoms=True)
    ideal.info = {"prototype": ideal.get_chemical_formula("metal")}
    return ideal


def strained(ideal: Atoms, random: Generator) -> Atoms:
    """Return a copy with its lattice changed by up to 4 %, sheared a little, and its atoms rattled by 0.02 to 0.12 Å."""
    copy = ideal.copy()
    shear = random.normal(scale=0.015, size=(3, 3))
    strain = np.eye(3) * (1 + random.uniform(-0.04, 0.04)) + (shear + shear.T) / 2
    copy.set_cell(copy.cell @ strain, scale_atoms=True)
    copy.positions += random.normal(scale=random.uniform(0.02, 0.12), size=copy.positions.shape)
    return copy


def _cell(shape: str, lattice: float) -> Atoms:
    if shape == "primitive":
        return bulk("Cu", "fcc", a=lattice) * (2, 2, 2)
    if shape == "cubic":
        return bulk("Cu", "fcc", a=lattice, cubic=True) * (2, 1, 1)
    if shape == "long":
        return bulk("Cu", "fcc", a=lattice, cubic=True) * (2, 2, 1)
    if shape == "fcc111":
        return fcc111("Cu", (2, 2, 3), a=lattice, vacuum=6.0, periodic=True)
    return fcc100("Cu", (2, 2, 4), a=lattice, vacuum=6.0, periodic=True)
