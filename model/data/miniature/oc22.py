"""OC22's slabs as ASE trajectories, with tags and fixed atoms."""

from __future__ import annotations

from pathlib import Path

from ase import Atoms
from ase.io.trajectory import Trajectory

from model.data.miniature.base import bare, grouped
from model.data.readers.oc22 import Config

FAMILY = "slabs"


def write(folder: Path, structures: list[Atoms], config: Config) -> list[Path]:  # noqa: ARG001 every miniature's interface
    """Write a trajectory for slabs of one composition with their adsorbates."""
    paths = []
    for name, group in grouped(structures, Atoms.get_chemical_formula).items():
        paths.append(folder / f"{name}.traj")
        with Trajectory(paths[-1], "w") as file:
            for atoms in group:
                file.write(bare(atoms, "energy", "forces"))
    return paths
