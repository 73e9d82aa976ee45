"""Neighbour lists agree with ASE's, whatever the batch, and come in one order."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.neighborlist import neighbor_list as ase_neighbor_list

from model.neighbors import neighbor_list

CUTOFF = 5.0


def graph_of(batch: list[Atoms], cutoff: float = CUTOFF, cap: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.cumsum([0, *(len(a) for a in batch)])
    positions = np.concatenate([a.positions for a in batch])
    cell, pbc = np.array([a.cell.array for a in batch]), np.array([a.pbc for a in batch])
    return neighbor_list(positions, offsets, cell, pbc, cutoff, cap)


def edges_of(batch: list[Atoms], cutoff: float = CUTOFF, cap: int | None = None) -> list[tuple[int, ...]]:
    pairs, shifts = graph_of(batch, cutoff, cap)
    return [(*map(int, p), *map(int, s)) for p, s in zip(pairs.T, shifts, strict=True)]


def expected(batch: list[Atoms], cutoff: float = CUTOFF) -> list[tuple[int, ...]]:
    edges, first = [], 0
    for atoms in batch:
        receiver, sender, shift = ase_neighbor_list("ijS", atoms, cutoff)
        edges += [(int(j) + first, int(i) + first, *map(int, s)) for i, j, s in zip(receiver, sender, shift, strict=True)]
        first += len(atoms)
    return sorted(edges, key=lambda e: (e[1], e[0], *e[2:]))


def rattled(atoms: Atoms, seed: int = 0) -> Atoms:
    atoms = atoms.copy()
    atoms.rattle(0.1, seed=seed)
    return atoms


def far_outside_its_cell() -> Atoms:
    atoms = rattled(bulk("Cu", cubic=True))
    atoms.positions[1] += 3 * atoms.cell[0] - 2 * atoms.cell[2]
    return atoms


def slab_without_third_vector() -> Atoms:
    slab = rattled(fcc111("Cu", (2, 2, 2), vacuum=6.0))
    slab.cell[2] = 0
    slab.pbc = [True, True, False]
    return slab


def wire() -> Atoms:
    return Atoms(
        "CH2", [[0, 0, 0], [0, 0.9, 0.6], [0, -0.9, 0.6]], cell=[[2.5, 0, 0], [0, 0, 0], [0, 0, 0]], pbc=[True, False, False]
    )


CASES = {
    "molecule": lambda: rattled(molecule("CH3CH2OH")),
    "lone atom": lambda: Atoms("He", [[7.0, 8.0, 9.0]]),
    "one-atom cell, smaller than the cutoff": lambda: bulk("Cu"),
    "skewed cell": lambda: rattled(Atoms("NaCl", [[0, 0, 0], [1.5, 1.5, 1.5]], cell=[[4, 0, 0], [3, 3, 0], [1, 2, 4]], pbc=True)),
    "far outside its cell": far_outside_its_cell,
    "slab with vacuum, periodic": lambda: rattled(fcc111("Al", (2, 2, 3), vacuum=8.0, periodic=True)),
    "mixed pbc, cell given": lambda: rattled(fcc111("Al", (2, 1, 3), vacuum=8.0)),
    "mixed pbc, vector missing": slab_without_third_vector,
    "wire": wire,
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("cutoff", [2.0, 5.0, 7.3])
def test_agrees_with_ase(case: str, cutoff: float) -> None:
    atoms = CASES[case]()
    edges = edges_of([atoms], cutoff)
    assert edges == expected([atoms], cutoff)
    assert len(edges) or case == "lone atom" or cutoff == 2.0


def test_a_batch_is_its_structures_side_by_side() -> None:
    batch = [make() for make in CASES.values()] * 2
    assert edges_of(batch) == expected(batch)


def test_many_molecules_go_through_several_calls() -> None:
    batch = [rattled(molecule("C6H6"), seed) for seed in range(800)]  # 9,600 atoms
    pairs, shifts = graph_of(batch, 3.0)
    one, _ = graph_of([batch[-1]], 3.0)
    last = pairs[:, pairs[1] >= 799 * 12] - 799 * 12
    assert np.array_equal(last, one)
    assert not shifts.any()
    assert np.all(np.diff(pairs[1]) >= 0)


def test_shifts_give_the_vectors_within_the_cutoff() -> None:
    atoms = far_outside_its_cell()
    (sender, receiver), shifts = graph_of([atoms])
    vectors = atoms.positions[sender] - atoms.positions[receiver] + shifts @ atoms.cell.array
    assert np.linalg.norm(vectors, axis=1).max() < CUTOFF
    assert np.abs(shifts).max() > 2  # the stray atom's neighbours are several cells away


def test_the_cap_keeps_the_nearest() -> None:
    atoms = rattled(bulk("Cu", cubic=True) * (2, 2, 2))
    every, capped = edges_of([atoms]), edges_of([atoms], cap=7)
    lengths = {
        e: np.linalg.norm(atoms.positions[e[0]] - atoms.positions[e[1]] + np.array(e[2:]) @ atoms.cell.array) for e in every
    }
    for receiver in range(len(atoms)):
        mine = sorted((e for e in every if e[1] == receiver), key=lengths.__getitem__)
        assert sorted(mine[:7]) == sorted(e for e in capped if e[1] == receiver)
    assert capped == sorted(capped, key=lambda e: (e[1], e[0], *e[2:]))


@pytest.mark.parametrize("apart", [2.5, 2.5000005, 2.50000051, 2.5000015])
def test_moving_all_atoms_moves_no_tie(apart: float) -> None:
    """Twelve neighbours at one distance but for rounding, also where it is half a millionth of an Å off a round figure."""
    metal = bulk("Cu", "fcc", a=apart * np.sqrt(2), cubic=True) * (3, 3, 3)
    kept = edges_of([metal], 2.7, cap=5)
    for shift in (0.37, 1.1, -0.73, 12.3):
        moved = metal.copy()
        moved.positions += shift
        assert edges_of([moved], 2.7, cap=5) == kept
    (central, *_) = {e[1] for e in kept}
    every = [e for e in edges_of([metal], 2.7) if e[1] == central]
    assert [e for e in kept if e[1] == central] == sorted(every, key=lambda e: (e[0], *e[2:]))[:5]


def test_ties_under_the_cap_go_to_the_lower_sender_then_shift() -> None:
    """The twelve neighbours of a perfect crystal are equally far but for rounding."""
    atoms = bulk("Cu", cubic=True)
    full = [e for e in expected([atoms], 2.7) if e[1] == 0]
    assert len(full) == 12
    assert [e for e in edges_of([atoms], 2.7, cap=5) if e[1] == 0] == full[:5]


def test_nothing_gives_nothing() -> None:
    pairs, shifts = neighbor_list(np.zeros((0, 3)), np.zeros(1, int), np.zeros((0, 3, 3)), np.zeros((0, 3), bool), CUTOFF, 3)
    assert pairs.shape == (2, 0)
    assert shifts.shape == (0, 3)
