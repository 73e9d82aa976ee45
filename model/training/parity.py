"""A bounded sample of predictions beside their labels, for parity plots: the same whatever the number of ranks.

Energies and force components; of a branch that predicts no energy its `targets` in their unit, or the `probabilities` of class 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.data.targets import Target
from model.outcome import write_json
from model.owner import require_commit
from model.parallel import Ranks
from model.specs import Owner
from model.training.loss import Deviations

PARITY_FILE = "parity.json"
MOST = 1000
"""Energies of a branch, and force components of a branch, that are kept."""
_UNITS = {"energies": "eV/atom, after per-element references", "forces": "eV/Å, components"}
_DIGITS = 6


class Parity:
    """Keep predictions beside labels, of structures that stand evenly spaced in each branch's split.

    Args:
        split: `train`, `validation` or `test`.
    """

    def __init__(self, split: str) -> None:
        self._split, self._branch, self._ordinals, self._room = split, "", np.zeros(0, np.int64), 1
        self._target: Target | None = None
        self._scalars: dict[str, str] = {}
        self._rows: dict[tuple[str, str], list[NDArray[np.float64]]] = {}

    def expect(self, branch: str, places: NDArray[np.int64], total: int, target: Target | None = None) -> None:
        """Say what the graph holds that comes next.

        Args:
            branch: Its branch.
            places: Places of its structures in the split, (num_graphs,).
            total: Structures of the split.
            target: What the branch predicts instead of energies and forces.
        """
        self._target = target
        if target is not None and target.kind == "scalar":
            self._scalars[branch] = target.unit
        kept = min(MOST, total)
        ordinals = places * kept // total
        is_kept = (places + 1) * kept // total > ordinals
        self._branch, self._ordinals, self._room = branch, np.where(is_kept, ordinals, -1), MOST // kept

    def see(self, deviations: Deviations) -> None:
        """Take in the graph that was announced."""
        if self._target is None:
            self._see_energies_and_forces(deviations)
        else:
            self._see_targets(deviations, self._target)

    def _see_energies_and_forces(self, deviations: Deviations) -> None:
        graph = deviations.graph
        energies = _pairs(graph.energy / graph.num_atoms, deviations.energy)
        forces = _pairs(graph.forces, deviations.forces)
        first = np.concatenate([[0], np.cumsum(3 * graph.num_atoms.cpu().numpy())])
        for structure in np.flatnonzero(self._ordinals >= 0):
            ordinal = int(self._ordinals[structure])
            self._keep("energies", ordinal, energies[structure : structure + 1])
            own = forces[first[structure] : first[structure + 1]]
            count = min(len(own), self._room)
            self._keep("forces", ordinal, own[(np.arange(count) * len(own) // count + ordinal) % len(own)])

    def _see_targets(self, deviations: Deviations, target: Target) -> None:
        pairs = deviations.targets().cpu().numpy()
        pairs[:, 1] = target.restore(pairs[:, 1])
        if target.kind == "scalar":
            pairs[:, 0] = target.restore(pairs[:, 0])
        for structure in np.flatnonzero(self._ordinals >= 0):
            kind = "targets" if target.kind == "scalar" else "probabilities"
            self._keep(kind, int(self._ordinals[structure]), pairs[structure : structure + 1])

    def write(self, folder: Path, ranks: Ranks, owner: Owner | None) -> str:
        """Join all ranks' samples; rank 0 writes them. Returns the file's name."""
        told = ranks.allgather((self._scalars, {key: np.concatenate(rows) for key, rows in self._rows.items()}))
        if ranks.is_first:
            require_commit(owner)
            gathered, scalars = [rows for _, rows in told], {name: unit for units, _ in told for name, unit in units.items()}
            units: dict[str, Any] = _UNITS | ({"targets": scalars} if scalars else {})
            branches: dict[str, dict[str, list[list[float]]]] = {}
            for branch, kind in dict.fromkeys(key for part in gathered for key in part):
                rows = np.concatenate([part[branch, kind] for part in gathered if (branch, kind) in part])
                branches.setdefault(branch, {})[kind] = _in_order(rows)
            write_json(folder / PARITY_FILE, {"split": self._split, "units": units, "branches": branches})
        ranks.barrier()
        return PARITY_FILE

    def _keep(self, kind: str, ordinal: int, pairs: NDArray[np.float64]) -> None:
        rows = np.concatenate([np.full((len(pairs), 1), float(ordinal)), pairs], 1)
        self._rows.setdefault((self._branch, kind), []).append(rows[np.isfinite(pairs).all(1)])


def _pairs(labels: Tensor, deviations: Tensor) -> NDArray[np.float64]:
    """Return labels beside predictions, (n, 2) float64; NaN where there is no label."""
    columns = torch.stack([labels.reshape(-1), (labels + deviations).reshape(-1)], 1)
    return columns.detach().to("cpu", torch.float64).numpy()


def _in_order(rows: NDArray[np.float64]) -> list[list[float]]:
    """Return (ordinal, label, prediction) as [label, prediction] in the order of the split, however ranks divided it."""
    ordered = rows[np.argsort(rows[:, 0], kind="stable"), 1:]
    return [[float(f"{value:.{_DIGITS}g}") for value in pair] for pair in ordered.tolist()]
