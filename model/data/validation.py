"""Tell which records make no physical sense, and why."""

from __future__ import annotations

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray

from model.data.structure import UNLABELLED, Refused, Structure
from model.neighbors import neighbor_list

LARGEST_FORCE = 1000.0
"""eV/Å; beyond it a calculation has not converged or a unit is wrong."""
LARGEST_STRESS = 10.0
"""eV/Å³, 1,600 GPa: four times the pressure in the middle of the Earth; kbar read as eV/Å³ are 1,602 times too large."""
LARGEST_ENERGY = 50.0
"""eV an atom above zero, which no published total, formation, adsorption or relative energy reaches."""
DEEPEST = (26.0, 7 / 3, 20.0)
"""a, p, b of the bound −(a Z^p + b) eV on an atom's energy: the Thomas–Fermi energy of the neutral atom, 20.9 eV · Z^(7/3)
(Lieb and Simon, Adv. Math. 23, 22 (1977)), which real atoms with all their electrons stay above, and a quarter more."""
BOND_RANGE = (0.65, 1.6)
"""Shortest distances of hydrogen over the sum of covalent radii that are a bond's; a bond in bohr taken for Å has 1.9, one in
Å converted from bohr once too often 0.53."""
CRYSTAL_RANGE = (0.62, 1.8)
"""The same for the nearest partners in crystals: 0.9 to 1.1 in metals and salts, 0.97 in diamond; in Å converted from bohr once
too often 0.48 to 0.58, in bohr taken for Å 1.8 to 2.1 but in the shortest metals, which pass."""
_APART = 2.3
"""Nearest partners beyond this are no bonds in any unit: single atoms or molecules in a large box."""
_REACH = 2.4
"""Mean radii within which crystals have their nearest partners."""
_NOBLE = (2, 10, 18, 36, 54, 86)
VALENCE_ELECTRONS = {1: 1, 6: 4, 7: 5, 8: 6}
"""Of the elements that organic molecules are made of."""
LEAST_OF_AN_ELECTRON = 12.0
"""eV by which a valence electron of H, C, N or O lowers a molecule's total energy at least: 13.6 in H, 37 to 72 in the others by
ionisation energies, 14 on average by GFN1-xTB, which has the least of all methods; a total in Hartree taken for eV has 5 in
CH4, 8 in C6H6, 11.8 in CO2."""
_FEWEST_HYDROGENS = 3
Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]
_RADII = np.where(np.isnan(covalent_radii), 2.0, covalent_radii)
SMALLEST_DISTANCE = 0.2
"""Å; no two nuclei of a sensible calculation are closer (H–H at 0.2 Å costs over 100 eV)."""


def fault(record: Structure | Refused, *, is_absolute: bool = False, requires_energy: bool = False) -> str | None:
    """Return why a record must not be used, in one line, or None.

    Args:
        record: A record.
        is_absolute: Its source counts total energies from nuclei and electrons apart.
        requires_energy: Its source labels every record by an energy: one without is damaged, and no candidate to screen.
    """
    if isinstance(record, Refused):
        return record.reason
    checks = (
        _shapes,
        _numbers,
        _labels,
        *((_has_energy,) if requires_energy else ()),
        _energy,
        *((_absolute,) if is_absolute else ()),
        _forces,
        _stress,
        _electrons,
        _distances,
    )
    return next((reason for check in checks if (reason := check(record))), None)


def _shapes(structure: Structure) -> str | None:
    atoms = (len(structure.numbers), 3)
    if structure.numbers.ndim != 1 or atoms[0] == 0:
        return f"atomic numbers have shape {structure.numbers.shape}"
    expected = {"positions": atoms, "cell": (3, 3), "pbc": (3,), "forces": atoms, "stress": (3, 3)}
    for name, shape in expected.items():
        value = getattr(structure, name)
        if value is not None and value.shape != shape:
            return f"{name} have shape {value.shape}, expected {shape}"
    return None


def _numbers(structure: Structure) -> str | None:
    wrong = structure.numbers[(structure.numbers < 1) | (structure.numbers > 118)]
    return f"atomic number {wrong[0]}" if len(wrong) else None


def _labels(structure: Structure) -> str | None:
    for name in ("positions", "cell", "forces", "stress"):
        value = getattr(structure, name)
        if value is not None and not np.isfinite(value).all():
            return f"{name} are not finite"
    for name in ("energy", "target"):
        if np.isinf(getattr(structure, name)):
            return f"{name} is not finite"
    if structure.pbc.any() and not _spans(structure):
        return "periodic along a lattice vector that is zero or depends on the others"
    return None


def _has_energy(structure: Structure) -> str | None:
    return "no energy, or not a number" if np.isnan(structure.energy) else None


def _spans(structure: Structure) -> bool:
    vectors = structure.cell[structure.pbc]
    return bool(np.linalg.matrix_rank(vectors) == len(vectors))


def _energy(structure: Structure) -> str | None:
    """A total in kcal/mol or a second conversion from Hartree is 20 times too deep, a relative energy in meV too high."""
    factor, power, least = DEEPEST
    deepest = -float((factor * structure.numbers.astype(np.float64) ** power + least).sum())
    highest = LARGEST_ENERGY * len(structure.numbers)
    if deepest <= structure.energy <= highest or np.isnan(structure.energy):
        return None
    return f"energy of {structure.energy:.6g} eV, outside {deepest:.6g} to {highest:.6g}: another unit?"


def _absolute(structure: Structure) -> str | None:
    """A total in Hartree taken for eV is 27 times too shallow; other elements are only taken to lower it."""
    electrons = sum(VALENCE_ELECTRONS.get(int(number), 0) for number in structure.numbers)
    if structure.charge != UNLABELLED:
        electrons -= max(structure.charge, 0)
    highest = -LEAST_OF_AN_ELECTRON * max(electrons, 0)
    if structure.energy <= highest or np.isnan(structure.energy):
        return None
    return f"total energy of {structure.energy:.6g} eV, above {highest:.6g} for {electrons} valence electrons: Hartree?"


def _forces(structure: Structure) -> str | None:
    if structure.forces is None:
        return None
    largest = float(np.sqrt((structure.forces**2).sum(axis=1).max()))
    return f"force of {largest:.6g} eV/Å, over {LARGEST_FORCE:g}" if largest > LARGEST_FORCE else None


def _stress(structure: Structure) -> str | None:
    largest = 0.0 if structure.stress is None else float(np.abs(structure.stress).max())
    return f"stress of {largest:.6g} eV/Å³, over {LARGEST_STRESS:g}" if largest > LARGEST_STRESS else None


def _electrons(structure: Structure) -> str | None:
    """A multiplicity 2S+1 needs electrons of the other parity: with n electrons, n + 2S is even."""
    if UNLABELLED in (structure.charge, structure.spin):
        return None
    electrons = int(structure.numbers.sum(dtype=np.int64)) - structure.charge
    if structure.spin < 1 or electrons < structure.spin - 1 or (electrons + structure.spin - 1) % 2:
        return f"multiplicity {structure.spin} with {electrons} electrons"
    return None


def _distances(structure: Structure) -> str | None:
    positions, periodic = structure.positions, structure.pbc.any()
    if not periodic and len(positions) <= 512:
        apart = positions[:, None] - positions[None]
        distance2 = np.einsum("ijk,ijk->ij", apart, apart)
        np.fill_diagonal(distance2, np.inf)
        close = bool((distance2 < SMALLEST_DISTANCE**2).any())
        slip = None if close else _slipped_length(structure.numbers, distance2)
    else:  # one list tells both: to look for closer ones alone would cost as much
        near = _pairs(structure, _REACH * float(_RADII[structure.numbers].mean()) if periodic else SMALLEST_DISTANCE)
        close = bool((near[2] < SMALLEST_DISTANCE).any())
        slip = None if close or not periodic else _slipped_lattice(structure, near)
    return f"two atoms closer than {SMALLEST_DISTANCE:g} Å" if close else slip


def _slipped_lattice(structure: Structure, near: Pairs) -> str | None:
    """Tell a crystal in another unit of length: no atom of it has its nearest partner at a distance of matter.

    One that has is soon found; then nothing more is looked for. Noble gases have no bonds to go by.
    """
    if np.isin(structure.numbers, _NOBLE).any():
        return None
    radii = _RADII[structure.numbers]
    if _has_matter(_nearest(radii, near)):
        return None
    nearest = _nearest(radii, _pairs(structure, 2 * _APART * float(radii.max())))
    if _has_matter(nearest):
        return None
    low, high = CRYSTAL_RANGE
    if (nearest < low).all() or ((nearest > high) & (nearest < _APART)).all():
        return f"nearest partners of all atoms at {np.median(nearest):.2f} bond lengths: another unit of length?"
    return None


def _nearest(radii: NDArray[np.float64], pairs: Pairs) -> NDArray[np.float64]:
    """Return the distance of each atom's nearest partner over the sum of their radii, (num_atoms,); infinite without one."""
    first, second, lengths = pairs
    nearest = np.full(len(radii), np.inf)
    np.minimum.at(nearest, first, lengths / (radii[first] + radii[second]))
    return nearest


def _has_matter(nearest: NDArray[np.float64]) -> bool:
    low, high = CRYSTAL_RANGE
    return bool(((nearest >= low) & (nearest <= high)).any())


def _pairs(structure: Structure, reach: float) -> Pairs:
    """Return the pairs of atoms within some Å, images counted: both atoms, (num_pairs,), and their distances."""
    cell, offsets = structure.cell, np.array([0, len(structure.numbers)])
    pairs, shifts = neighbor_list(structure.positions, offsets, cell[None], structure.pbc[None], reach)
    apart = structure.positions[pairs[0]] + shifts @ cell - structure.positions[pairs[1]]
    return pairs[1], pairs[0], np.linalg.norm(apart, axis=1)


def _slipped_length(numbers: NDArray[np.uint8], distance2: NDArray[np.float64]) -> str | None:
    """Tell a molecule in another unit of length by its hydrogens: none of three or more has a partner at a bond's distance.

    Args:
        numbers: Atomic numbers, (num_atoms,).
        distance2: Squared distances, Å², (num_atoms, num_atoms), infinite on the diagonal.
    """
    hydrogens = np.flatnonzero(numbers == 1)
    if len(hydrogens) < _FEWEST_HYDROGENS:
        return None
    sums = _RADII[1] + _RADII[numbers]
    nearest = np.sqrt((distance2[hydrogens] / sums**2).min(axis=1))
    low, high = BOND_RANGE
    if (nearest > high).all() or (nearest < low).all():
        return f"nearest partners of all hydrogens at {np.median(nearest):.2f} bond lengths: another unit of length?"
    return None
