"""The ASE calculator: energy, forces and stress belong together; what the model cannot know is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from predictors import saved

from model.inference.calculator import ModelCalculator
from model.outcome import CampaignError


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return saved(tmp_path / "checkpoint")


def copper() -> Atoms:
    """Return a rattled, sheared cell of four atoms."""
    atoms = bulk("Cu", a=3.7, cubic=True)
    atoms.rattle(0.1, seed=1)
    atoms.set_cell(atoms.cell @ (np.eye(3) + [[0, 0.02, 0], [0, 0, 0.01], [0.03, 0, 0]]), scale_atoms=True)
    return atoms


def test_forces_and_stress_are_derivatives_of_the_energy(checkpoint: Path) -> None:
    atoms = copper()
    atoms.calc = ModelCalculator(checkpoint, "metal")
    assert atoms.get_forces() == pytest.approx(calculate_numerical_forces(atoms, 1e-5), abs=1e-7)
    assert atoms.get_stress() == pytest.approx(calculate_numerical_stress(atoms, 1e-5), abs=1e-8)


def test_the_energy_contains_the_references(checkpoint: Path) -> None:
    alone = Atoms("H", calculator=ModelCalculator(checkpoint, "water"))
    far = Atoms("H2", positions=[[0, 0, 0], [50, 0, 0]], calculator=ModelCalculator(checkpoint, "water"))
    assert far.get_potential_energy() == pytest.approx(2 * alone.get_potential_energy(), abs=1e-10)
    assert alone.get_potential_energy() < -10
    assert "stress" not in alone.calc.results


def test_another_charge_or_spin_is_calculated_anew(tmp_path: Path) -> None:
    charged = saved(tmp_path / "charged", charge_spin=True)
    atoms = Atoms("HO", positions=[[0, 0, 0], [1, 0, 0]], calculator=ModelCalculator(charged, "water"))
    energies = [atoms.get_potential_energy()]
    for name, value in (("charge", 1), ("spin", 2), ("spin", 4)):
        atoms.info[name] = value
        energies.append(atoms.get_potential_energy())
    assert len(set(energies)) == 4
    fresh = Atoms("HO", positions=[[0, 0, 0], [1, 0, 0]], info=atoms.info, calculator=ModelCalculator(charged, "water"))
    assert fresh.get_potential_energy() == energies[-1]


@pytest.mark.parametrize(
    "atoms", [Atoms(), Atoms("Cu", pbc=True), Atoms("Cu", cell=[3, 3, 0], pbc=True)], ids=["empty", "0", "2"]
)
def test_what_is_no_structure_is_refused(checkpoint: Path, atoms: Atoms) -> None:
    atoms.calc = ModelCalculator(checkpoint, "metal")
    with pytest.raises(CampaignError, match="no atoms|periodic along"):
        atoms.get_potential_energy()


@pytest.mark.parametrize("pbc", [(True, True, False), (False, False, True)])
def test_forces_and_stress_agree_in_mixed_periodicity(checkpoint: Path, pbc: tuple[bool, bool, bool]) -> None:
    atoms = Atoms("Cu2", positions=[[0, 0, 0], [1.3, 1.2, 1.4]], cell=np.diag([2.7, 2.6, 2.8]) + 0.1, pbc=pbc)
    atoms.calc = ModelCalculator(checkpoint, "metal")
    assert atoms.get_forces() == pytest.approx(calculate_numerical_forces(atoms, 1e-5), abs=1e-7)
    assert atoms.get_stress() == pytest.approx(calculate_numerical_stress(atoms, 1e-5), abs=1e-8)


def test_an_unknown_element_and_an_open_choice_of_branch_are_refused(checkpoint: Path) -> None:
    with pytest.raises(CampaignError, match="not trained on all elements of Si"):
        Atoms("Si", calculator=ModelCalculator(checkpoint, "metal")).get_potential_energy()
    with pytest.raises(CampaignError, match="several branches.*\n.*organic, water, metal"):
        ModelCalculator(checkpoint)
