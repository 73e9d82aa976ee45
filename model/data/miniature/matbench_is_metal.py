"""Matbench mp_is_metal's file: crystals and a made-up class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms

from model.data.miniature.base import matbench
from model.data.readers.matbench_is_metal import Config

FAMILY = "crystals"


def write(folder: Path, structures: list[Atoms], config: Config) -> list[Path]:  # noqa: ARG001 every miniature's interface
    """Write the task's file."""
    return matbench(
        folder / "matbench_mp_is_metal.json.gz", "is_metal", structures, [bool(target(atoms)) for atoms in structures]
    )


def target(atoms: Atoms) -> float:
    """Return 1 for alloys that hold copper, 0 for others: a class that a model can learn, all being metals."""
    return float(np.any(atoms.numbers == 29))
