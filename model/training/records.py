"""What a training leaves for readers beside its checkpoints: metrics, the log of steps, progress."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from model.data.targets import Target
from model.outcome import write_bytes
from model.owner import may_commit
from model.specs import Owner
from model.training.branches import Data

METRICS_FILE = "metrics.jsonl"
STEPS_FILE = "steps.log"


class StepsLog:
    """Append-only count of executed steps, by process: what tests compare after kills."""

    def __init__(self, folder: Path, *, writes: bool) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        self._file = os.open(folder / STEPS_FILE, flags, 0o644) if writes else None

    def append(self, updates: int) -> None:
        """Note that this process has executed an optimizer step."""
        if self._file is not None:
            os.write(self._file, b"%d %d\n" % (os.getpid(), updates))

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)


def train_metrics(data: Data, sums: Sequence[float], counts: Sequence[float]) -> dict[str, Any]:
    """Return the mean errors of an epoch's steps by branch, each as it was before its step, and the mean loss.

    Args:
        data: The branches.
        sums: Loss, then Σ|ΔE/N| in eV/atom (or of scalars in spreads, or of cross-entropies) and Σ|ΔF| in eV/Å of each branch.
        counts: Steps, then energies (or targets) and force components of each branch.
    """
    count = len(data.names)
    means: list[float | None] = [s / n if n else None for s, n in zip(sums, counts, strict=True)]
    structures, forces = means[1 : 1 + count], means[1 + count :]
    train: dict[str, Any] = {
        name: _branch_metrics(structure, force, data.targets.get(name))
        for name, structure, force in zip(data.names, structures, forces, strict=True)
    }
    return train | {"loss": means[0]}


def _branch_metrics(structure: float | None, force: float | None, target: Target | None) -> dict[str, Any]:
    if target is None:
        energy, force = (None if mean is None else 1000.0 * mean for mean in (structure, force))
        return {"energy_mae_mev_per_atom": energy, "force_mae_mev_per_angstrom": force}
    if target.kind == "class":
        return {"kind": "class", "cross_entropy": structure}
    return {"kind": "scalar", "unit": target.unit, "target_mae": None if structure is None else target.spread * structure}


def write_metrics(folder: Path, history: Sequence[dict[str, Any]], owner: Owner | None) -> None:
    """Write all lines of `metrics.jsonl`, whole or not at all."""
    if may_commit(owner):
        write_bytes(folder / METRICS_FILE, "".join(json.dumps(line, sort_keys=True) + "\n" for line in history).encode())
