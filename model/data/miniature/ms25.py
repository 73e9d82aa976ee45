"""MS25's folders: a system, its `set1`, and in it the published parts as ASE trajectories."""

from __future__ import annotations

from pathlib import Path

from ase import Atoms
from ase.io.trajectory import Trajectory

from model.data.miniature.base import bare
from model.data.readers.ms25 import Config

FAMILY = "crystals"


def write(folder: Path, structures: list[Atoms], config: Config) -> list[Path]:
    """Write the parts that are read, of the system that is read; alloys stand for all systems."""
    place = folder / (config.system or "HEA") / "set1"
    place.mkdir(parents=True, exist_ok=True)
    paths = [place / f"{part}.traj" for part in config.parts]
    for number, path in enumerate(paths):
        with Trajectory(path, "w") as file:
            for atoms in structures[number :: len(paths)]:
                file.write(bare(atoms, "energy", "forces"))
    return paths
