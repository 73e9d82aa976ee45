"""ANI-1x's container: HDF5 with a group for each formula, Hartree and Hartree/Å."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms

from model.data.miniature.base import by_number, energy, forces, grouped
from model.data.readers.ani1x import Config
from model.data.readers.base import HARTREE_EV

FAMILY = "molecules"


def write(folder: Path, structures: list[Atoms], config: Config) -> list[Path]:
    """Write the release with one level's labels; positions are float32 and forces too, as published."""
    import h5py

    path = folder / "ani1x-release.h5"
    with h5py.File(path, "w") as file:
        for formula, group in grouped([by_number(each) for each in structures], Atoms.get_chemical_formula).items():
            data = file.create_group(formula)
            data["atomic_numbers"] = group[0].numbers.astype(np.uint8)
            data["coordinates"] = np.array([each.positions for each in group], np.float32)
            data[f"{config.level}.energy"] = np.array([energy(each) for each in group]) / HARTREE_EV
            data[f"{config.level}.forces"] = np.array([forces(each) for each in group], np.float32) / np.float32(HARTREE_EV)
    return [path]
