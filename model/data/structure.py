"""One structure as it leaves a reader: physics only, in eV and Å."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UNLABELLED = -128
"""Charge or spin of a structure whose source does not state it; never a made-up 0 or 1."""


@dataclass(frozen=True, slots=True)
class Structure:
    """Atoms with cell and labels.

    Attributes:
        numbers: Atomic numbers, (num_atoms,) uint8.
        positions: Å, (num_atoms, 3) float64.
        cell: Lattice vectors as rows, Å, (3, 3) float64; zeros where there is none.
        pbc: Periodicity along each lattice vector, (3,) bool.
        energy: Energy of the structure as the source means it, eV, float64; NaN where missing.
        forces: eV/Å, (num_atoms, 3) float64, or None.
        stress: Cauchy stress, tension positive, eV/Å³, (3, 3), or None.
        charge: Total charge in e, or `UNLABELLED`.
        spin: Multiplicity 2S+1, or `UNLABELLED`.
        id: Stable id within the source.
        identity: Canonical identity that splits go by: composition and connectivity for molecules,
            prototype (reduced formula and such) for crystals.
        target: What a task predicts that is no energy with forces: a scalar, or a class as 0 and 1, in the unit that
            the source's `INFO` names; NaN where there is none.
    """

    numbers: NDArray[np.uint8]
    positions: NDArray[np.float64]
    cell: NDArray[np.float64]
    pbc: NDArray[np.bool_]
    energy: float
    forces: NDArray[np.float64] | None
    stress: NDArray[np.float64] | None
    charge: int
    spin: int
    id: str
    identity: str
    target: float = float("nan")


@dataclass(frozen=True, slots=True)
class Refused:
    """A record of which its reader could make no structure.

    Attributes:
        id: Stable id within the source.
        reason: Why, in one line.
    """

    id: str
    reason: str
