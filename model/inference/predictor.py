"""A trained model with its branches' references: energies and forces of blocks of structures, batched by atoms."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model import checkpoint
from model.checkpoint import Meta
from model.data.block import Block
from model.data.loader import collate
from model.graph import AtomGraph
from model.multitask import MultiTaskModel
from model.outcome import CampaignError
from model.precision import POLICIES
from model.prediction import Blend
from model.specs import Precision

_NUMBERS = 256


@dataclass(frozen=True)
class Predicted:
    """What one branch says about some structures.

    Attributes:
        energy: Energy as the branch's source means it: residual plus references, eV, (n,); NaN where the branch does
            not know an element.
        residual: Residual energy, eV, (n,).
        forces: eV/Å, (num_atoms, 3).
        target: What a branch predicts that predicts no energy, whose energies and forces are NaN, (n,): a scalar in the unit
            of the checkpoint's `Target`, or the probability of class 1; None for other branches.
    """

    energy: NDArray[np.float64]
    residual: NDArray[np.float64]
    forces: NDArray[np.float64]
    target: NDArray[np.float64] | None = None


class Predictor:
    """A trained model ready to predict.

    Args:
        model: The model, in evaluation mode.
        meta: Its checkpoint's meta data.
        precision: Arithmetic it runs in.
        device: Where it runs.
    """

    def __init__(self, model: MultiTaskModel, meta: Meta, precision: Precision, device: torch.device) -> None:
        self.model, self.meta, self.device = model.to(device), meta, device
        self.dtype = POLICIES[precision].dtype
        self.branches = meta.branches
        self._references = _reference_table(meta)
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)

    @classmethod
    def load(cls, folder: Path, *, precision: Precision | None = None, device: torch.device | None = None) -> Predictor:
        """Load a checkpoint, strictly.

        Args:
            folder: The checkpoint.
            precision: Arithmetic to run in; none: that of the training.
            device: Where to run; none: the CPU.

        Raises:
            CampaignError: There is no checkpoint, it is damaged, or it does not fit the model.
        """
        model, meta = checkpoint.load_model(folder, precision=precision)
        return cls(model, meta, precision or meta.precision, device or torch.device("cpu"))

    @property
    def fingerprint(self) -> str:
        """Return a hash of the weights, the same for copies of a checkpoint."""
        return fingerprint(self.meta)

    def branch(self, name: str) -> int:
        """Return the index of a branch.

        Raises:
            CampaignError: The model has none of this name.
        """
        if name not in self.branches:
            raise CampaignError(f"the model has no branch '{name}'", "branch", f"It has: {', '.join(self.branches)}.")
        return self.branches.index(name)

    def references(self, block: Block) -> NDArray[np.float64]:
        """Return each branch's reference energy of each structure, eV, (n, num_branches); NaN where it lacks an element."""
        return np.add.reduceat(self._references[block.numbers], block.offsets[:-1], axis=0)

    def known(self, block: Block) -> NDArray[np.bool_]:
        """Return which branches were trained on every element of a structure, (n, num_branches)."""
        return np.isfinite(self.references(block))

    def graph(self, block: Block, branch: int = 0) -> AtomGraph:
        """Return a block as one graph of a branch, without references taken off its labels."""
        spec = self.meta.spec
        none = [None] * len(self.branches)
        return collate([(branch, block)], spec.cutoff, spec.max_neighbors, none, self.dtype).to(self.device)

    def predict(self, block: Block, branch: str, atoms: int = 2048) -> Predicted:
        """Predict by one branch.

        Args:
            block: Structures.
            branch: Name of the branch.
            atoms: Most atoms of a batch; a larger structure is a batch of its own.
        """
        index = self.branch(branch)
        graphs = (self.graph(block.take(part), index) for part in batches(block.num_atoms, atoms))
        parts = [self.model.predict(graph, training=False) for graph in graphs]
        residual = _join([part.energy for part in parts], (0,))
        forces = _join([part.forces for part in parts], (0, 3))
        target = self.meta.statistics.targets.get(branch)
        if target is not None:
            outputs = _join([part.target for part in parts if part.target is not None], (0,))
            return Predicted(residual, residual, forces, target.restore(outputs))
        return Predicted(residual + self.references(block)[:, index] if len(block) else residual, residual, forces)

    def all_branches(self, block: Block) -> NDArray[np.float64]:
        """Return the residual energy of each structure by each branch, eV, (n, num_branches), for one batch."""
        with torch.no_grad():
            return _numpy(self.model.all_branches(self.graph(block))).T

    def blend(self, block: Block, weights: NDArray[np.float64]) -> Blend:
        """Return all branches' energies and the weighted mean with its forces, for one batch.

        Args:
            block: Structures.
            weights: w_b, (n, num_branches); functions of composition only, so that the forces are exact.
        """
        return self.model.blend(self.graph(block), torch.from_numpy(weights).to(self.device, self.dtype))


def batches(num_atoms: NDArray[np.int64], budget: int) -> list[NDArray[np.int64]]:
    """Divide structures, in their order, into batches of at most `budget` atoms; a larger one stands alone.

    Args:
        num_atoms: Atoms of each structure, (n,).
        budget: Most atoms of a batch.
    """
    found: list[list[int]] = []
    filled = budget
    for index, atoms in enumerate(num_atoms.tolist()):
        if filled + atoms > budget:
            found.append([])
            filled = 0
        found[-1].append(index)
        filled += atoms
    return [np.array(part, np.int64) for part in found]


def fingerprint(meta: Meta) -> str:
    """Return a hash of a checkpoint's weights."""
    return hashlib.sha256("".join(each["sha256"] for _, each in sorted(meta.files.items())).encode()).hexdigest()


def _reference_table(meta: Meta) -> NDArray[np.float64]:
    """Return reference energies by atomic number, eV, (256, num_branches); NaN where a branch does not know the element."""
    table = np.full((_NUMBERS, len(meta.branches)), np.nan)
    for index, name in enumerate(meta.branches):
        known = meta.references[name]
        if known is not None:
            table[list(known.energies), index] = list(known.energies.values())
    return table


def _join(parts: Sequence[Tensor], shape: tuple[int, ...]) -> NDArray[np.float64]:
    return np.concatenate([np.zeros(shape), *(_numpy(part) for part in parts)])


def _numpy(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.detach().to("cpu", torch.float64).numpy()
