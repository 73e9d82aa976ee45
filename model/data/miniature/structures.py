"""Make labelled structures of a family within a second or two, by real physics: GFN1-xTB and effective medium theory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ase import Atoms
from ase.build import add_adsorbate, fcc111
from ase.build import molecule as g2_molecule
from ase.constraints import FixAtoms
from numpy.random import Generator

from model.data.miniature.base import Family, energy
from model.data.quickstart.alloys import METALS, alloy, strained
from model.data.quickstart.distortions import distorted
from model.data.quickstart.molecules import PRETRAINING
from model.data.quickstart.physics import ExtendedTightBinding, calculator, label

# Names of the G2 set: near their equilibrium as they come, so that nothing need be relaxed.
_MOLECULES = tuple(name for name in PRETRAINING if ":" not in name)
_CONFORMERS = ("CH3CH2OCH3", "CH3CONH2", "butadiene")
_ADSORBATES = ("O", "H", "N", "C", "")
# Molecules of a charge and a multiplicity 2S+1; the four kinds take turns.
_IONS = {
    (0, 1): "CH4 H2O NH3 CH3OH HCN H2CO C2H6 C2H4 N2 HCOOH CH3CN H3CNH2 C2H2 CO2 C3H8 CH3CHO H2CCO N2O CH3OCH3 CO",
    (1, 2): "CH4 H2O NH3 CH3OH H2CCHCN H2CO C4H4O C2H4 N2H4 HCOOH C6H6 H3CNH2 C2H2 CO2 butadiene CH3CHO H2CCO",
    (0, 2): "CH3 OH NH2 NO HCO C2H5 CN CH3O C2H3 CH3CO CCH H2COH C3H7 CH3CH2O NO2 C3H9C",
    (-1, 1): "OH NH2 NO HCO C2H5 CN CH3O C2H3 CH3CO CCH NO2 CH3CH2O",
}


def make(family: Family, count: int, seed: int = 0) -> list[Atoms]:
    """Return labelled structures; the same ones for the same arguments.

    Each has energy (eV), forces (eV/Å) and, of crystals and slabs, stress (eV/Å³), and in `info` an `id` and the name of
    its `molecule` or `material`. Molecules, ions and conformers have `charge` and `spin` (2S+1) too. Conformers have their
    number, `conformer`, of which 0 is the undistorted one, and the energy of that one, `reference_energy`. Slabs have
    tags (0 below, 1 surface, 2 adsorbate), and the atoms of tag 0 are fixed.

    Args:
        family: `molecules` and `ions` of H, C, N, O; `crystals` and `slabs` of metals; `conformers` of three molecules.
        count: How many.
        seed: Of every random choice.
    """
    random = np.random.default_rng((seed, *family.encode()))
    return _FAMILIES[family](count, random)


def _make_molecules(count: int, random: Generator) -> list[Atoms]:
    code, made = calculator("gfn1"), []
    for number in range(count):
        name = _MOLECULES[number % len(_MOLECULES)]
        atoms = distorted(g2_molecule(name), random)
        made.append(label(_named(atoms, number, molecule=name, charge=0, spin=1), code))
    return made


def _make_ions(count: int, random: Generator) -> list[Atoms]:
    made = []
    for number in range(count):
        turn, kind = divmod(number, len(_IONS))
        (charge, spin), names = list(_IONS.items())[kind]
        name = names.split()[turn % len(names.split())]
        ideal = _named(Atoms(g2_molecule(name)), number, molecule=name, charge=charge, spin=spin)
        made.append(_rattled_ion(ideal, random))
    return made


def _rattled_ion(ideal: Atoms, random: Generator, tries: int = 20) -> Atoms:
    """Return a labelled copy with its atoms displaced by 0.03 Å or so; for some open shells, some places do not converge.

    Raises:
        RuntimeError: None of `tries` places converged.
    """
    ideal.set_initial_magnetic_moments(None)
    for _ in range(tries):
        atoms = ideal.copy()
        atoms.positions += random.normal(scale=0.03, size=atoms.positions.shape)
        try:
            return label(atoms, ExtendedTightBinding("gfn1", ideal.info["charge"], ideal.info["spin"]))
        except RuntimeError:
            continue
    raise RuntimeError(f"{ideal.info['id']} does not converge")


def _make_conformers(count: int, random: Generator) -> list[Atoms]:
    code, made = calculator("gfn1"), []
    for number in range(count):
        conformer, which = divmod(number, len(_CONFORMERS))
        name = _CONFORMERS[which]
        atoms = distorted(g2_molecule(name), random) if conformer else g2_molecule(name)
        made.append(label(_named(atoms, number, molecule=name, charge=0, spin=1, conformer=conformer), code))
    references = {atoms.info["molecule"]: energy(atoms) for atoms in made if not atoms.info["conformer"]}
    for atoms in made:
        atoms.info["reference_energy"] = references[atoms.info["molecule"]]
    return made


def _make_crystals(count: int, random: Generator) -> list[Atoms]:
    code = calculator("emt")
    made: list[Atoms] = []
    while len(made) < count:
        ideal = alloy(random)
        if ideal.cell.volume < 30 * len(ideal):  # a slab has vacuum
            atoms = strained(ideal, random)
            material = atoms.get_chemical_formula("metal")
            made.append(label(_named(atoms, len(made), material=material), code, stress=True))
    return made


def _make_slabs(count: int, random: Generator) -> list[Atoms]:
    code = calculator("emt")
    made = []
    for number in range(count):
        atoms = _slab(random, _ADSORBATES[number % len(_ADSORBATES)])
        atoms.positions += random.normal(scale=0.05, size=atoms.positions.shape)
        material = atoms[atoms.get_tags() < 2].get_chemical_formula("metal")
        made.append(label(_named(atoms, number, material=material), code, stress=True))
    return made


def _slab(random: Generator, adsorbate: str) -> Atoms:
    metals = random.choice(METALS, size=2, replace=False)
    atoms = fcc111("Cu", (2, 2, 3), a=3.9, vacuum=6.0, periodic=True)
    atoms.set_chemical_symbols([str(each) for each in random.choice(metals, size=len(atoms))])
    tags = np.where(atoms.get_tags() == 1, 1, 0)
    if adsorbate:
        add_adsorbate(atoms, adsorbate, height=1.3, position="fcc")
        tags = np.append(tags, 2)
    atoms.set_tags(tags)
    atoms.set_constraint(FixAtoms(mask=tags == 0))
    return atoms


def _named(atoms: Atoms, number: int, **facts: str | int) -> Atoms:
    name = facts.get("molecule", facts.get("material"))
    atoms.info = {"id": f"{name}#{number}", **facts}
    return atoms


_FAMILIES: dict[Family, Callable[[int, Generator], list[Atoms]]] = {
    "molecules": _make_molecules,
    "ions": _make_ions,
    "crystals": _make_crystals,
    "slabs": _make_slabs,
    "conformers": _make_conformers,
}
