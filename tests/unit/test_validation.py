"""Records that make no physical sense are refused, with the reason."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, graphene, molecule

from model import registry
from model.data.identity import identity
from model.data.readers.base import info_of
from model.data.structure import UNLABELLED, Refused, Structure
from model.data.validation import fault
from tests.structures import random_structure

MOLECULE = replace(random_structure(np.random.default_rng(3), periodic=False), charge=UNLABELLED, spin=UNLABELLED)
CRYSTAL = random_structure(np.random.default_rng(3), periodic=True)
COUNT = len(MOLECULE.numbers)
FORCE = np.eye(1, 3) * 1001.0


def moved(structure: Structure, distance: float) -> Structure:
    positions = structure.positions.copy()
    positions[1] = positions[0] + [0, 0, distance]
    return replace(structure, positions=positions)


def at_scale(factor: float) -> Structure:
    """Return ethanol with its positions in another unit, taken for Å."""
    atoms = molecule("CH3CH2OH")
    plain = {"energy": -4200.0, "forces": None, "charge": 0, "spin": 1}
    return replace(MOLECULE, numbers=atoms.numbers.astype(np.uint8), positions=factor * atoms.positions, **plain)


FAULTS = {
    "no atoms": (replace(MOLECULE, numbers=np.zeros(0, np.uint8)), "atomic numbers have shape"),
    "too many positions": (replace(MOLECULE, positions=np.zeros((COUNT + 1, 3))), "positions have shape"),
    "flat forces": (replace(MOLECULE, forces=np.zeros(3 * COUNT)), "forces have shape"),
    "Voigt stress": (replace(CRYSTAL, stress=np.zeros(6)), "stress have shape"),
    "dummy atom": (replace(MOLECULE, numbers=np.zeros(COUNT, np.uint8)), "atomic number 0"),
    "NaN position": (replace(MOLECULE, positions=MOLECULE.positions * np.nan), "positions are not finite"),
    "one NaN force": (replace(MOLECULE, forces=np.where(np.eye(COUNT, 3) > 0, np.nan, 0)), "forces are not finite"),
    "infinite energy": (replace(MOLECULE, energy=-np.inf), "energy is not finite"),
    "infinite target": (replace(MOLECULE, target=np.inf), "target is not finite"),
    "stress in kbar": (replace(CRYSTAL, stress=np.eye(3) * 40.0), "stress of 40 eV/Å³"),
    "refused by its reader": (Refused("mp-1", "two elements on one site"), "two elements on one site"),
    "flat cell": (replace(CRYSTAL, cell=np.diag([4.0, 4.0, 0.0])), "periodic along a lattice vector"),
    "absurd force": (replace(MOLECULE, forces=np.zeros((COUNT, 3)) + FORCE), "force of 1001 eV/Å"),
    "same place": (moved(MOLECULE, 0.0), "closer than"),
    "nearly the same place": (moved(MOLECULE, 0.1), "closer than"),
    "same place in a crystal": (moved(CRYSTAL, 0.0), "closer than"),
    "one lattice vector apart": (
        replace(CRYSTAL, positions=CRYSTAL.positions * 0 + [[0, 0, 0]] + np.eye(COUNT, 1) @ CRYSTAL.cell[:1]),
        "closer",
    ),
    "energy in kcal/mol": (
        replace(CRYSTAL, numbers=np.full(len(CRYSTAL.numbers), 6, np.uint8), energy=-23745.0 * len(CRYSTAL.numbers)),
        "energy of",
    ),
    "relative energy in meV": (replace(MOLECULE, energy=90.0 * COUNT), "another unit?"),
    "positions in bohr": (at_scale(1 / 0.529177), "all hydrogens at 1.9"),
    "positions scaled twice": (at_scale(0.529177), "all hydrogens at 0.5"),
    "positions in nm": (at_scale(0.1), "closer than"),
    "wrong parity": (replace(MOLECULE, numbers=np.full(COUNT, 8, np.uint8), charge=0, spin=2), "multiplicity 2 with"),
    "wrong parity, charged": (replace(MOLECULE, numbers=np.full(COUNT, 8, np.uint8), charge=1, spin=1), "multiplicity 1 with"),
    "no multiplicity": (replace(MOLECULE, numbers=np.full(COUNT, 8, np.uint8), charge=0, spin=0), "multiplicity 0"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_told(case: str) -> None:
    structure, reason = FAULTS[case]
    found = fault(structure)
    assert found is not None and reason in found


@pytest.mark.parametrize(
    "sound",
    [
        MOLECULE,
        CRYSTAL,
        replace(MOLECULE, energy=np.nan, forces=None),
        replace(MOLECULE, numbers=np.full(COUNT, 8, np.uint8), charge=1, spin=2),
        replace(MOLECULE, numbers=np.full(COUNT, 8, np.uint8), charge=0, spin=3),
        moved(MOLECULE, 0.7),
        at_scale(1.0),
        at_scale(1.35),  # stretched, as in a scan of dissociation
        replace(MOLECULE, numbers=np.full(COUNT, 92, np.uint8), energy=-763e3 * COUNT),  # all electrons
        replace(MOLECULE, energy=40.0 * COUNT),
        replace(MOLECULE, forces=np.zeros((COUNT, 3)) + FORCE * 0.99),
    ],
)
def test_a_sound_record_passes(sound: Structure) -> None:
    assert fault(sound) is None


CRYSTALS = {
    "copper": bulk("Cu"),
    "silicon": bulk("Si"),
    "salt": bulk("NaCl", "rocksalt", a=5.64),
    "caesium chloride": bulk("CsCl", "cesiumchloride", a=4.12),
    "caesium": bulk("Cs"),
    "diamond": bulk("C", cubic=True),
    "iron at 1 TPa": bulk("Fe", "fcc", a=2.75),
    "graphene under vacuum": graphene(vacuum=10.0),
    "slab": fcc111("Pt", (2, 2, 3), vacuum=10.0, periodic=True),
    "water in a box": Atoms("OH2", [[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]], cell=[12, 12, 12], pbc=True),
    "single atom in a box": Atoms("Fe", cell=[15, 15, 15], pbc=True),
    "argon": bulk("Ar"),
}


def crystal_of(atoms: Atoms, factor: float = 1.0) -> Structure:
    """Return a crystal whose lengths are in another unit, taken for Å."""
    periodic = {"cell": factor * atoms.cell.array, "pbc": atoms.pbc, "stress": None, "energy": np.nan}
    numbers = atoms.numbers.astype(np.uint8)
    return replace(
        CRYSTAL, numbers=numbers, positions=factor * atoms.positions, forces=None, charge=0, spin=UNLABELLED, **periodic
    )


@pytest.mark.parametrize("name", CRYSTALS)
def test_lengths_of_matter_pass_and_those_in_another_unit_are_told(name: str) -> None:
    assert fault(crystal_of(CRYSTALS[name])) is None
    assert fault(crystal_of(CRYSTALS[name], 1.15)) is None, "stretched, as in a curve of energy over volume"
    if name in ("single atom in a box", "argon", "iron at 1 TPa", "caesium chloride", "graphene under vacuum"):
        return  # nothing there to tell it by, or not in both directions
    for factor in (0.529177, 1 / 0.529177):
        found = fault(crystal_of(CRYSTALS[name], factor))
        assert found is not None and "bond lengths: another unit" in found


@pytest.mark.parametrize(
    ("name", "charge", "hartree"),
    [("CH4", 0, -40.5), ("C6H6", 0, -232.2), ("CO2", 0, -188.5), ("H2O", 0, -76.4), ("N2", 0, -109.5), ("NH3", 1, -56.2)],
)
def test_a_total_in_hartree_is_told_where_totals_are_absolute(name: str, charge: int, hartree: float) -> None:
    atoms = molecule(name)
    plain = {"numbers": atoms.numbers.astype(np.uint8), "positions": atoms.positions, "forces": None}
    slipped = replace(MOLECULE, energy=hartree, charge=charge, **plain)
    found = fault(slipped, is_absolute=True)
    assert found is not None and "Hartree?" in found
    assert fault(slipped) is None, "valence electrons over pseudo-atoms have no such depth"
    assert fault(replace(slipped, energy=27.2114 * hartree), is_absolute=True) is None


def test_energies_of_atomization_are_not_absolute() -> None:
    reader = registry.reader("qm9")
    assert info_of(reader, reader.Config()).is_absolute
    assert not info_of(reader, reader.Config(target="U0_atom")).is_absolute


def test_a_bare_proton_has_no_energy() -> None:
    proton = replace(MOLECULE, numbers=np.ones(1, np.uint8), positions=np.zeros((1, 3)), energy=0.0, forces=None, charge=1)
    assert fault(proton, is_absolute=True) is None


WATER = (np.array([8, 1, 1], np.uint8), np.array([[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]]))
OPEN, BULK = np.zeros(3, bool), np.ones(3, bool)


def identity_of(numbers: list[int], positions: list[list[float]] | np.ndarray, pbc: np.ndarray = OPEN) -> str:
    return identity(np.array(numbers, np.uint8), np.array(positions, float), pbc)


def test_conformers_share_an_identity() -> None:
    ethanol = molecule("CH3CH2OH")
    turned = ethanol.copy()
    carbon, oxygen = 0, 2
    hydrogen = [k for k in range(len(ethanol)) if ethanol.get_distance(k, oxygen) < 1.1 and k != oxygen][0]
    turned.set_dihedral(carbon + 1, carbon, oxygen, hydrogen, 60.0)
    turned.rattle(0.02, seed=0)
    turned.rotate(40, "x")
    mixed = turned[np.random.default_rng(0).permutation(len(turned))]
    names = {identity_of(a.numbers, a.positions) for a in (ethanol, turned, mixed)}
    assert len(names) == 1
    assert names.pop().startswith("molecule:C2H6O1:")


def test_isomers_and_fragments_do_not() -> None:
    ethanol, ether = molecule("CH3CH2OH"), molecule("CH3OCH3")
    assert identity_of(ethanol.numbers, ethanol.positions) != identity_of(ether.numbers, ether.positions)
    apart = ethanol.positions + (np.arange(len(ethanol)) == 2)[:, None] * 5.0
    assert identity_of(ethanol.numbers, apart) != identity_of(ethanol.numbers, ethanol.positions)
    two = identity_of([1, 1, 1, 1], [[0, 0, 0], [0, 0, 0.74], [9, 0, 0], [9, 0, 0.74]])
    assert two != identity_of([1, 1, 1, 1], [[0, 0, 0], [0, 0, 0.74], [0, 0, 1.48], [9, 0, 0]])


def test_crystals_go_by_reduced_formula() -> None:
    assert identity_of([29, 29, 79, 79], np.diag([1, 2, 3, 4])[:, :3], BULK) == "crystal:Au1Cu1"
    assert identity_of([79, 29], [[0, 0, 0], [2, 2, 2]], BULK) == "crystal:Au1Cu1"
    assert identity_of([79, 29], [[0, 0, 0], [2, 2, 2]]).startswith("molecule:Au1Cu1:")


def test_an_identity_never_changes_between_versions() -> None:
    assert identity(*WATER, OPEN) == "molecule:H2O1:eb50d57c1569f2f5"


def test_a_contact_is_no_fifth_bond() -> None:
    """A chlorine pressed against methane's carbon, closer than a bond but further than the hydrogens, stays a stranger."""
    methane = molecule("CH4")
    with_guest = [*methane.numbers.tolist(), 17]
    near, far = (identity_of(with_guest, [*methane.positions.tolist(), [0, 0, z]]) for z in (2.2, 9.0))
    assert near == far
    assert identity_of([6, 17], [[0, 0, 0], [0, 0, 2.2]]) != identity_of([6, 17], [[0, 0, 0], [0, 0, 9.0]])
