"""A trained model as an ASE calculator: energy, forces and stress by one branch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from model.data.block import Block, pack
from model.data.structure import UNLABELLED, Structure
from model.inference.predictor import Predictor
from model.outcome import CampaignError
from model.specs import Precision


class ModelCalculator(Calculator):  # type: ignore[misc]  # ASE ships no types
    """Energy (eV), forces (eV/Å) and, for periodic structures, stress (eV/Å³, tension positive).

    `atoms.info["charge"]` and `atoms.info["spin"]` (multiplicity) are taken where the model is conditioned on them.

    Args:
        checkpoint: Folder of a checkpoint.
        branch: Branch to answer by; may be left out where the model has one.
        precision: Arithmetic; fp64 makes forces smooth enough for optimizers and dynamics.

    Raises:
        CampaignError: There is no such checkpoint or branch, it predicts no energy, or forces come from a head of their own.
    """

    implemented_properties = ("energy", "free_energy", "forces", "stress")

    def __init__(self, checkpoint: Path, branch: str | None = None, precision: Precision = "fp64") -> None:
        super().__init__()
        self.predictor = Predictor.load(checkpoint, precision=precision)
        if branch is None and len(self.predictor.branches) > 1:
            raise CampaignError("the model has several branches", "branch", f"Choose one: {', '.join(self.predictor.branches)}.")
        if self.predictor.meta.spec.forces == "head":
            raise CampaignError(
                "forces of this model are no derivative of its energy", "forces", "Train with `forces: gradient`."
            )
        self.branch = self.predictor.branch(branch or self.predictor.branches[0])
        if targets := self.predictor.model.targets:
            what = f"branches that predict no energy: {', '.join(targets)}"
            raise CampaignError(what, "checkpoint", "Take a model whose branches all predict energies.")

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """Return what changed since the last calculation; ASE itself does not look at charge and spin in `info`."""
        changes: list[str] = super().check_state(atoms, tol)
        before = {} if self.atoms is None else self.atoms.info
        return changes + [name for name in ("charge", "spin") if atoms.info.get(name) != before.get(name)]

    def calculate(self, atoms: Atoms | None = None, properties: Any = ("energy",), system_changes: Any = all_changes) -> None:
        """Fill `results`.

        Raises:
            CampaignError: The branch was not trained on one of the elements, or the structure is none.
        """
        super().calculate(atoms, properties, system_changes)
        _require_structure(self.atoms)
        block = block_of(self.atoms)
        reference = float(self.predictor.references(block)[0, self.branch])
        if not np.isfinite(reference):
            name, known = self.predictor.branches[self.branch], "Choose a branch that knows them."
            raise CampaignError(f"branch '{name}' was not trained on all elements of {self.atoms.symbols}", "branch", known)
        energy, forces, virial = self._evaluate(block)
        self.results = {"energy": energy + reference, "free_energy": energy + reference, "forces": forces}
        if self.atoms.cell.rank == 3:
            self.results["stress"] = full_3x3_to_voigt_6_stress(virial / self.atoms.get_volume())

    def _evaluate(self, block: Block) -> tuple[float, np.ndarray, np.ndarray]:
        """Return the residual energy, forces, and dE/dε of a symmetric strain ε of positions and cell."""
        graph = self.predictor.graph(block, self.branch)
        strain = torch.zeros(3, 3, dtype=self.predictor.dtype, device=self.predictor.device, requires_grad=True)
        positions = graph.positions.clone().requires_grad_(True)
        deform = torch.eye(3, dtype=strain.dtype, device=strain.device) + (strain + strain.T) / 2
        energy = self.predictor.model.all_branches(graph.with_(positions=positions @ deform, cell=graph.cell @ deform))[
            self.branch, 0
        ]
        by_position, by_strain = torch.autograd.grad(energy, [positions, strain])
        return float(energy.detach()), -by_position.cpu().double().numpy(), by_strain.cpu().double().numpy()


def _require_structure(atoms: Atoms) -> None:
    vectors = np.asarray(atoms.cell)[atoms.pbc]
    if not len(atoms):
        raise CampaignError("there are no atoms", "atoms", "Give at least one.")
    if np.linalg.matrix_rank(vectors) < len(vectors):
        what = "periodic along a lattice vector that is zero or depends on the others"
        raise CampaignError(what, "atoms.cell", "Set the cell, or `pbc` to False there.")


def block_of(atoms: Atoms) -> Block:
    """Return an ASE structure as a block of one, without labels."""
    return pack(
        [
            Structure(
                numbers=atoms.numbers.astype(np.uint8),
                positions=atoms.get_positions(),
                cell=np.asarray(atoms.cell) if atoms.pbc.any() else np.zeros((3, 3)),
                pbc=atoms.pbc.copy(),
                energy=float("nan"),
                forces=None,
                stress=None,
                charge=int(atoms.info.get("charge", UNLABELLED)),
                spin=int(atoms.info.get("spin", UNLABELLED)),
                id="",
                identity="",
            )
        ]
    )
