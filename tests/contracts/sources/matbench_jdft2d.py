"""Matbench jdft2d: a DataFrame of pymatgen structures as gzip-compressed JSON, as monty and pandas write it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from monty.json import MontyEncoder
from pandas import DataFrame
from pymatgen.core import Lattice, Structure

FILE = "matbench_jdft2d.json.gz"
OPTIONS: dict[str, object] = {}
CELL = [[3, 0, 0], [-1.5, 2.5, 0], [0, 0, 25]]
TARGETS = (63.5, 134.25)  # meV/atom


def write(path: Path, energy_scale: float = 1.0) -> None:
    layer = Structure(Lattice(CELL), ["Hf", "Te", "Te"], [[0, 0, 0.5], [0.5, 0.2, 0.56], [0.5, 0.2, 0.44]])
    frame = DataFrame({"structure": [layer, layer], "exfoliation_en": [target * energy_scale for target in TARGETS]})
    path.write_bytes(gzip.compress(json.dumps(frame.to_dict(orient="split"), cls=MontyEncoder).encode()))


# 1 meV = 0.001 eV. 0.5 · (3, 0, 0) + 0.2 · (-1.5, 2.5, 0) = (1.2, 0.5, 0); 0.56 · 25 = 14, 0.44 · 25 = 11.
EXPECTED = [
    {
        "id": f"mb-jdft2d-{number:03d}",
        "identity": "crystal:Hf1Te2",
        "numbers": [72, 52, 52],
        "positions": [[0, 0, 12.5], [1.2, 0.5, 14], [1.2, 0.5, 11]],
        "cell": CELL,
        "pbc": [True] * 3,
        "energy": None,
        "target": target,
    }
    for number, target in enumerate((0.0635, 0.13425), 1)
]
