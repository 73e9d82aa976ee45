"""Matbench jdft2d's file: crystals and a made-up exfoliation energy in meV/atom."""

from __future__ import annotations

from pathlib import Path

from ase import Atoms

from model.data.miniature.base import energy, matbench
from model.data.readers.matbench_jdft2d import Config

FAMILY = "crystals"


def write(folder: Path, structures: list[Atoms], config: Config) -> list[Path]:  # noqa: ARG001 every miniature's interface
    """Write the task's file."""
    return matbench(
        folder / "matbench_jdft2d.json.gz", "exfoliation_en", structures, [1e3 * target(atoms) for atoms in structures]
    )


def target(atoms: Atoms) -> float:
    """Return the energy per atom, eV/atom, which stands for the exfoliation energy."""
    return energy(atoms) / len(atoms)
