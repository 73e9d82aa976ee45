"""Label structures with real physics codes: GFN1-xTB and GFN2-xTB by tblite, and ASE's effective medium theory."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.singlepoint import SinglePointCalculator
from ase.optimize import BFGS
from ase.units import Bohr, Debye, Hartree

METHODS = {"gfn1": "GFN1-xTB", "gfn2": "GFN2-xTB"}


class ExtendedTightBinding(Calculator):  # type: ignore[misc]  # ASE ships no types
    """GFN1-xTB or GFN2-xTB of a molecule, as an ASE calculator.

    Args:
        method: `gfn1` or `gfn2`.
        charge: Total charge in e.
        spin: Multiplicity 2S+1.
    """

    implemented_properties = ("energy", "forces")

    def __init__(self, method: str, charge: int = 0, spin: int = 1) -> None:
        """Keep the method; the code itself is set up with the first molecule."""
        super().__init__()
        self._method, self._molecule = method, ()
        self._state = {"charge": float(charge), "uhf": spin - 1}
        self._code: Any = None

    def calculate(self, atoms: Atoms | None = None, properties: Any = ("energy",), system_changes: Any = all_changes) -> None:
        """Fill `results` with energy in eV and forces in eV/Å.

        Raises:
            RuntimeError: The self-consistent cycle did not converge.
        """
        super().calculate(atoms, properties, system_changes)
        answer = self._code_of(self.atoms).singlepoint()
        self.results = {
            "energy": float(answer.get("energy")) * Hartree,
            "forces": -np.asarray(answer.get("gradient")) * (Hartree / Bohr),
        }

    def _code_of(self, atoms: Atoms) -> Any:
        from tblite.interface import Calculator as Tblite

        molecule = tuple(atoms.numbers)
        if molecule != self._molecule:
            self._molecule = molecule
            self._code = Tblite(METHODS[self._method], atoms.numbers, atoms.positions / Bohr, **self._state)
            self._code.set("verbosity", 0)
        self._code.update(atoms.positions / Bohr)
        return self._code


def calculator(method: str) -> Calculator:
    """Return the ASE calculator of `gfn1`, `gfn2` or `emt`."""
    if method == "emt":
        from ase.calculators.emt import EMT

        return EMT()
    return ExtendedTightBinding(method)


def label(atoms: Atoms, code: Calculator, *, stress: bool = False) -> Atoms:
    """Return a copy that carries energy (eV), forces (eV/Å; of fixed atoms too) and stress (eV/Å³) of `code`, frozen."""
    copy = atoms.copy()
    copy.calc = code
    results = {"energy": copy.get_potential_energy(), "forces": copy.get_forces(apply_constraint=False)}
    if stress:
        results["stress"] = copy.get_stress(apply_constraint=False)
    copy.calc = SinglePointCalculator(copy, **results)
    return copy


def frontier(atoms: Atoms) -> tuple[float, float, float]:
    """Return highest occupied and lowest empty orbital energy (Hartree) and dipole (Debye) of a neutral molecule, GFN1-xTB."""
    from tblite.interface import Calculator as Tblite

    code = Tblite(METHODS["gfn1"], atoms.numbers, atoms.positions / Bohr)
    code.set("verbosity", 0)
    answer = code.singlepoint()
    orbitals, occupied = answer.get("orbital-energies"), np.asarray(answer.get("orbital-occupations")) > 0.5
    dipole = float(np.linalg.norm(answer.get("dipole"))) * Bohr / Debye
    return float(orbitals[occupied].max()), float(orbitals[~occupied].min()), dipole


def relax(atoms: Atoms, method: str, force: float = 0.1, steps: int = 100) -> Atoms:
    """Return a copy whose forces are below `force` in eV/Å, or that has taken `steps` steps."""
    copy = atoms.copy()
    copy.calc = calculator(method)
    BFGS(copy, logfile=None).run(fmax=force, steps=steps)
    copy.calc = None
    return copy
