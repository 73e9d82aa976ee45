"""nabla2DFT: an ASE sqlite database with labels in `data` and units in its metadata, written by ASE."""

from __future__ import annotations

from pathlib import Path

import ase.db
import numpy as np
from ase import Atoms

FILE = "train_2k_v2_formation_energy_w_forces.db"
OPTIONS: dict[str, object] = {}
PLACES = [[0, 0, 0], [1.5, 0, 0], [-0.25, 1.0, 0]]


def write(path: Path, energy_scale: float = 1.0) -> None:
    forces = np.array([[0.5, 0, 0], [-0.5, 0, 0.0625], [0, 0, -0.0625]])
    with ase.db.connect(path, serial=True) as database:
        for conformation, energy in ((2, -6.5), (7, -6.25)):
            data = {"energy": [energy * energy_scale], "forces": forces * energy_scale}
            database.write(Atoms("CFH", PLACES), data=data, moses_id=331314, conformation_id=conformation, smiles="[CH]F")
        units = {"energy": "Hartree", "forces": "Hartree/Ang"}
        database.metadata = {"_distance_unit": "Ang", "_property_unit_dict": units, "atomrefs": {"energy": [0.0, -0.5]}}


# Formation energies stay what they are: -6.5 Hartree = -176.874010598922 eV, -6.25 = -170.071164037425;
# 0.0625 Hartree/Å = 1.70071164037425 eV/Å.
FORCES = [[13.605693122994, 0, 0], [-13.605693122994, 0, 1.70071164037425], [0, 0, -1.70071164037425]]
EXPECTED = [
    {
        "id": name,
        "numbers": [6, 9, 1],
        "positions": PLACES,
        "energy": energy,
        "forces": FORCES,
        "identity": "molecule:C1F1H1:",
    }
    for name, energy in (("331314/2", -176.874010598922), ("331314/7", -170.071164037425))
]
