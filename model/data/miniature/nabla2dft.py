"""The container of nabla2DFT: an ASE sqlite database, labels in `row.data`, Hartree and Hartree/Å."""

from __future__ import annotations

from pathlib import Path

import ase.db
from ase import Atoms

from model.data.miniature.base import energy, forces
from model.data.readers.base import HARTREE_EV
from model.data.readers.nabla2dft import Config

FAMILY = "molecules"
_UNITS = {"energy": "Hartree", "forces": "Hartree/Ang"}


def write(folder: Path, structures: list[Atoms], config: Config) -> list[Path]:  # noqa: ARG001 every miniature's interface
    """Write one database; what is published there as formation energy is the structure's energy."""
    path = folder / "train_2k_v2_formation_energy_w_forces.db"
    names = sorted({atoms.info["molecule"] for atoms in structures})
    with ase.db.connect(path, append=False, serial=True) as database:
        for number, atoms in enumerate(structures):
            data = {"energy": [energy(atoms) / HARTREE_EV], "forces": forces(atoms) / HARTREE_EV}
            keys = {"moses_id": names.index(atoms.info["molecule"]), "conformation_id": number}
            database.write(Atoms(atoms.numbers, atoms.positions), data=data, key_value_pairs=keys)
        database.metadata = {"_distance_unit": "Ang", "_property_unit_dict": _UNITS}
    return [path]
