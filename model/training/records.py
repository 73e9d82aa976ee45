"""What a training leaves for readers beside its checkpoints: metrics, the log of steps, progress."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from model.config import Owner
from model.outcome import write_bytes
from model.owner import may_commit

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


def train_metrics(names: Sequence[str], sums: Sequence[float], counts: Sequence[float]) -> dict[str, Any]:
    """Return the mean errors of an epoch's steps by branch, each as it was before its step, and the mean loss.

    Args:
        names: Branches.
        sums: Loss, then Σ|ΔE/N| in eV/atom and Σ|ΔF| in eV/Å of each branch.
        counts: Steps, then energies and force components of each branch.
    """
    means: list[float | None] = [s / n if n else None for s, n in zip(sums, counts, strict=True)]
    milli = [None if m is None else 1000.0 * m for m in means[1:]]
    energies, forces = milli[: len(names)], milli[len(names) :]
    train: dict[str, Any] = {
        name: {"energy_mae_mev_per_atom": energy, "force_mae_mev_per_angstrom": force}
        for name, energy, force in zip(names, energies, forces, strict=True)
    }
    return train | {"loss": means[0]}


def write_metrics(folder: Path, history: Sequence[dict[str, Any]], owner: Owner | None) -> None:
    """Write all lines of `metrics.jsonl`, whole or not at all."""
    if may_commit(owner):
        write_bytes(folder / METRICS_FILE, "".join(json.dumps(line, sort_keys=True) + "\n" for line in history).encode())
