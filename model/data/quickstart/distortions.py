"""Distort a molecule as heat, stretched bonds and turned groups do, without breaking or making a bond."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.units import kB
from numpy.random import Generator
from numpy.typing import NDArray

from model.data.quickstart.molecules import bonds

# Springs in eV/Å² between atoms 1, 2 and 3 bonds apart: a stand-in for a Hessian, stiff along bonds, soft in torsions.
_SPRINGS = {1: 30.0, 2: 4.0, 3: 0.5}
_SOFTEST = 1.0
TEMPERATURES = (150.0, 300.0, 600.0, 1000.0)


def distorted(atoms: Atoms, random: Generator, tries: int = 50) -> Atoms:
    """Return a distorted copy with the same bonds: turned groups, then thermal displacements, then, one time in three, a stretch.

    Raises:
        RuntimeError: None of `tries` distortions kept the bonds.
    """
    before = bonds(atoms)
    for _ in range(tries):
        copy = twisted(atoms, random)
        copy.positions += thermal(copy, float(random.choice(TEMPERATURES)), random)
        if random.random() < 1 / 3:
            copy = stretched(copy, random)
        if np.array_equal(bonds(copy), before):
            return copy
    raise RuntimeError(f"no distortion of {atoms.info} keeps its bonds")


def thermal(atoms: Atoms, temperature: float, random: Generator) -> NDArray[np.float64]:
    """Draw displacements in Å from the normal modes of a network of springs at a temperature in K, (num_atoms, 3)."""
    stiffness, modes = np.linalg.eigh(_hessian(atoms))
    inner, modes = stiffness[6:], modes[:, 6:]
    width = np.sqrt(kB * temperature / np.maximum(inner, _SOFTEST))
    return (modes @ (width * random.normal(size=len(width)))).reshape(-1, 3)


def stretched(atoms: Atoms, random: Generator) -> Atoms:
    """Lengthen or shorten one bond by up to 12 %; what hangs on its far end moves along."""
    copy = atoms.copy()
    pairs = bonds(atoms)
    i, j = pairs[random.integers(len(pairs))]
    moving = _far_side(pairs, len(atoms), int(i), int(j))
    copy.positions[moving] += random.uniform(-0.08, 0.12) * (atoms.positions[j] - atoms.positions[i])
    return copy


def twisted(atoms: Atoms, random: Generator) -> Atoms:
    """Turn one side of a bond outside rings by a random angle within ±30°."""
    copy = atoms.copy()
    pairs = bonds(atoms)
    i, j = pairs[random.integers(len(pairs))]
    moving = _far_side(pairs, len(atoms), int(i), int(j))
    if 1 < len(moving) < len(atoms) - 1:
        side = copy[moving]
        side.rotate(random.uniform(-30, 30), atoms.positions[j] - atoms.positions[i], center=atoms.positions[j])
        copy.positions[moving] = side.positions
    return copy


def _hessian(atoms: Atoms) -> NDArray[np.float64]:
    apart = _bonds_apart(bonds(atoms), len(atoms))
    matrix = np.zeros((len(atoms), 3, len(atoms), 3))
    for i, j in zip(*np.triu_indices(len(atoms), 1), strict=True):
        along = atoms.positions[j] - atoms.positions[i]
        block = _SPRINGS.get(int(apart[i, j]), 0.05) * np.outer(along, along) / (along @ along)
        for a, b, sign in ((i, i, 1), (j, j, 1), (i, j, -1), (j, i, -1)):
            matrix[a, :, b, :] += sign * block
    return matrix.reshape(3 * len(atoms), -1)


def _bonds_apart(pairs: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    step = np.eye(count, dtype=np.int64)
    step[pairs[:, 0], pairs[:, 1]] = step[pairs[:, 1], pairs[:, 0]] = 1
    apart = np.full((count, count), count)
    reach = np.eye(count, dtype=np.int64)
    for distance in range(count):
        apart[(reach > 0) & (apart == count)] = distance
        reach = np.minimum(reach @ step, 1)
    return apart


def _far_side(pairs: NDArray[np.int64], count: int, near: int, far: int) -> list[int]:
    cut = pairs[~((pairs[:, 0] == near) & (pairs[:, 1] == far))]
    apart = _bonds_apart(cut, count)
    return [far] if apart[near, far] < count else [int(k) for k in np.flatnonzero(apart[far] < count)]
