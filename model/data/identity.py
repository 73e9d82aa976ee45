"""Canonical identity of a structure: what must never be divided between training and test."""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from numpy.typing import NDArray

from model.data.splits import mix

BOND = 1.25
"""Atoms closer than this times the sum of their covalent radii (Cordero et al., Dalton Trans. 2008, 2832) are bonded.
Bonds of drug-like molecules end near 1.1 times the sum and other pairs begin near 1.3, carbon next to sulphur first."""
MOST_BONDS = {1: 1, 5: 4, 6: 4, 7: 4, 8: 3, 9: 1}
"""Partners an atom of these elements keeps, the nearest ones: a contact in a strained geometry is no fifth bond of carbon."""
_ROUNDS = 8
_MOST_BONDS = np.full(256, 256)
_MOST_BONDS[list(MOST_BONDS)] = list(MOST_BONDS.values())
_SELF = np.uint64(0xD1B54A32D192ED03)


def identity(numbers: NDArray[np.uint8], positions: NDArray[np.float64], pbc: NDArray[np.bool_]) -> str:
    """Return the identity of a structure whose source names none.

    Molecules: formula and a hash of the bond graph, the same for all conformers and any order of atoms.
    Periodic structures: the reduced formula, so that all phases, cells and surfaces of one composition stay
    together: coarser than a prototype, never leaking.

    Args:
        numbers: Atomic numbers, (num_atoms,).
        positions: Å, (num_atoms, 3).
        pbc: Periodicity, (3,).
    """
    if np.any(pbc):
        return f"crystal:{_formula(numbers.tobytes(), reduced=True)}"
    return f"molecule:{_formula(numbers.tobytes())}:{connectivity(numbers, positions)}"


def connectivity(numbers: NDArray[np.uint8], positions: NDArray[np.float64]) -> str:
    """Return a Weisfeiler-Lehman hash of the bond graph, 16 hexadecimal digits.

    Each round replaces an atom's label by a hash of it and of the multiset of its neighbours' labels. Labels are
    scrambled 64-bit numbers, so the multiset is hashed by their sum modulo 2⁶⁴, which needs no sorting. Graphs
    that this cannot tell apart share an identity, and so a split.
    """
    bonded = bonds(numbers, positions)
    return _hash(numbers.tobytes(), np.packbits(bonded).tobytes())


@lru_cache(maxsize=256)
def _hash(numbers: bytes, packed: bytes) -> str:
    """Hash a bond graph; trajectories and conformers come in a row, so the last graphs are remembered."""
    atoms = np.frombuffer(numbers, np.uint8)
    bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=len(atoms) ** 2)
    bonded = bits.reshape(len(atoms), len(atoms)).astype(np.uint64)
    labels = mix(atoms.astype(np.uint64))
    for _ in range(min(_ROUNDS, len(atoms))):
        labels = mix(labels * _SELF + bonded @ labels)
    return hashlib.blake2b(np.sort(labels).tobytes(), digest_size=8).hexdigest()


def bonds(numbers: NDArray[np.uint8], positions: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return the symmetric matrix of bonds, (num_atoms, num_atoms)."""
    radii = covalent_radii[numbers]
    squares = np.einsum("ij,ij->i", positions, positions)
    distance2 = squares[:, None] + squares[None, :] - 2 * positions @ positions.T
    stretch2 = distance2 / (radii[:, None] + radii[None, :]) ** 2
    np.fill_diagonal(stretch2, np.inf)
    bonded = stretch2 < BOND**2
    most = _MOST_BONDS[numbers]
    if (bonded.sum(axis=1) > most).any():
        rank = stretch2.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
        kept = rank < most[:, None]
        bonded &= kept & kept.T
    return bonded


@lru_cache(maxsize=256)
def _formula(numbers: bytes, reduced: bool = False) -> str:
    elements, counts = np.unique(np.frombuffer(numbers, np.uint8), return_counts=True)
    divisor = math.gcd(*counts.tolist()) if reduced else 1
    parts = sorted((chemical_symbols[z], n // divisor) for z, n in zip(elements.tolist(), counts.tolist(), strict=True))
    return "".join(f"{symbol}{n}" for symbol, n in parts)
