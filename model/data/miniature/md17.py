"""MD17's container: one NumPy archive for each molecule, kcal/mol and kcal/mol/Å."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms

from model.data.miniature.base import energy, forces, grouped
from model.data.readers.base import KCAL_PER_MOL_EV
from model.data.readers.md17 import Config

FAMILY = "conformers"


def write(folder: Path, structures: list[Atoms], config: Config) -> list[Path]:  # noqa: ARG001 every miniature's interface
    """Write an archive for each molecule."""
    paths = []
    for molecule, frames in grouped(structures, lambda atoms: str(atoms.info["molecule"])).items():
        path = folder / f"md17_{molecule}.npz"
        np.savez(
            path,
            E=np.array([[energy(each)] for each in frames]) / KCAL_PER_MOL_EV,
            F=np.array([forces(each) for each in frames]) / KCAL_PER_MOL_EV,
            R=np.array([each.positions for each in frames]),
            z=frames[0].numbers.astype(np.uint8),
            name=np.array(molecule),
            type=np.array("d"),
            theory=np.array("GFN1-xTB"),
        )
        paths.append(path)
    return paths
