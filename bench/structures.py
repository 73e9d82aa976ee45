"""Made structures of 5 to 100 atoms, 20 Å³ an atom, every second one periodic: what the benches of data and model run on."""

from __future__ import annotations

import math

import numpy as np

from model.data.block import Block, pack
from model.data.structure import Structure

SMALLEST, LARGEST = 5, 100
VOLUME = 20.0
"""Å³ of an atom."""
ELEMENTS = (1, 6, 7, 8, 14, 16, 22, 26, 29, 47)
_RATTLE = 0.15


def make_block(count: int, seed: int) -> Block:
    """Return `count` structures with energies and forces that mean nothing."""
    rng = np.random.default_rng(seed)
    return pack([_structure(rng, k) for k in range(count)])


def _structure(rng: np.random.Generator, number: int) -> Structure:
    """Return atoms on rattled places of a grid, so that none come near each other."""
    atoms = int(rng.integers(SMALLEST, LARGEST + 1))
    side, steps = (VOLUME * atoms) ** (1 / 3), math.ceil(atoms ** (1 / 3))
    places = rng.permutation(steps**3)[:atoms]
    grid = np.stack(np.unravel_index(places, (steps, steps, steps)), -1) * (side / steps)
    is_periodic = number % 2 == 1
    return Structure(
        numbers=rng.choice(np.array(ELEMENTS, np.uint8), atoms),
        positions=grid + rng.normal(scale=_RATTLE, size=(atoms, 3)),
        cell=np.eye(3) * side * is_periodic,
        pbc=np.full(3, is_periodic),
        energy=float(rng.normal(scale=atoms)),
        forces=rng.normal(size=(atoms, 3)),
        stress=None,
        charge=0,
        spin=1,
        id=f"made-{number}",
        identity=f"made-{number}",
    )
