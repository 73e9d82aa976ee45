"""Predictions of candidates: all branches by one backbone pass, blended, and one gradient of the blend for each batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model.data.block import Block, gather_ranges
from model.inference import weights as branch_weights
from model.inference.predictor import Predictor, batches
from model.inference.ranking import largest_force, spread
from model.inference.screened import FLAGS, Columns

UNKNOWN, NOT_FINITE = (FLAGS.index(reason) for reason in FLAGS[1:])


class FusedPredictor:
    """A model and the weights of its branches.

    Args:
        predictor: The model.
        blend: Folder that `blend` wrote; none: equal weights of the branches that know a structure.

    Raises:
        CampaignError: The blend was made for another model.
    """

    def __init__(self, predictor: Predictor, blend: Path | None) -> None:
        self.predictor = predictor
        self._network = None if blend is None else branch_weights.load(blend, predictor.branches, predictor.fingerprint)

    def weights(self, block: Block) -> NDArray[np.float64]:
        """Return w_b of each structure, (n, num_branches); they add up to 1, or to 0 where no branch knows the structure."""
        known = self.predictor.known(block)
        if self._network is None:
            return branch_weights.mean_weights(known)
        with torch.no_grad():
            composition = torch.from_numpy(branch_weights.composition(block))
            weights: NDArray[np.float64] = self._network(composition, torch.from_numpy(known)).numpy()
        return weights

    def columns(self, block: Block, first: int, atoms: int) -> Columns:
        """Predict consecutive candidates.

        Args:
            block: The candidates.
            first: Position of the first one in its store.
            atoms: Most atoms of a batch.
        """
        known = self.predictor.known(block)
        energy, branch_energy = np.full(len(block), np.nan), np.full((len(block), len(self.predictor.branches)), np.nan)
        forces = np.full((len(block.numbers), 3), np.nan)
        askable = np.flatnonzero(known.any(1))
        for part in batches(block.num_atoms[askable], atoms):
            rows = askable[part]
            piece = block.take(rows)
            answer = self.predictor.blend(piece, self.weights(piece))
            energy[rows], branch_energy[rows] = answer.energy.cpu().numpy(), answer.branches.t().cpu().numpy()
            forces[gather_ranges(block.offsets, rows)[0]] = answer.forces.cpu().numpy()
        return _columns(block, first, known, (energy, branch_energy, forces), self.predictor.references(block))


def _columns(
    block: Block, first: int, known: NDArray[np.bool_], answer: tuple[NDArray, NDArray, NDArray], references: NDArray[np.float64]
) -> Columns:
    energy, residuals, forces = answer
    largest = largest_force(forces, block.offsets)
    flag = np.where(known.any(1), np.where(np.isfinite(energy) & np.isfinite(largest), 0, NOT_FINITE), UNKNOWN).astype(np.uint8)
    bad, bad_atoms = flag != 0, np.repeat(flag != 0, block.num_atoms)
    encoded = block.raw_ids.tolist()
    return Columns(
        index=np.arange(first, first + len(block)),
        num_atoms=block.num_atoms,
        flag=flag,
        energy=np.where(bad, np.nan, energy),
        branch_energy=np.where(bad[:, None] | ~known, np.nan, residuals + references),
        residual_per_atom=np.where(bad, np.nan, energy / block.num_atoms),
        largest_force=np.where(bad, np.nan, largest),
        branch_spread=np.where(bad, np.nan, spread(residuals, known, block.num_atoms)),
        forces=np.where(bad_atoms[:, None], np.nan, forces),
        id_bytes=np.frombuffer(b"".join(encoded), np.uint8).copy(),
        id_lengths=np.array([len(each) for each in encoded], np.int64),
    )
