"""Matbench mp_is_metal: a DataFrame of pymatgen structures and booleans as gzip-compressed JSON."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from monty.json import MontyEncoder
from pandas import DataFrame
from pymatgen.core import Lattice, Structure

FILE = "matbench_mp_is_metal.json.gz"
OPTIONS: dict[str, object] = {}


def write(path: Path, energy_scale: float = 1.0) -> None:
    """A class has no unit to slip: with a scale, the classes are exchanged."""
    salt = Structure(Lattice.cubic(5.5), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    iron = Structure(Lattice.cubic(2.75), ["Fe", "Fe"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    metals = [False, True] if energy_scale == 1 else [True, False]
    frame = DataFrame({"structure": [salt, iron], "is_metal": metals})
    path.write_bytes(gzip.compress(json.dumps(frame.to_dict(orient="split"), cls=MontyEncoder).encode()))


EXPECTED = [
    {
        "id": name,
        "identity": identity,
        "numbers": numbers,
        "positions": [[0, 0, 0], [side / 2] * 3],
        "cell": [[side, 0, 0], [0, side, 0], [0, 0, side]],
        "pbc": [True] * 3,
        "energy": None,
        "target": target,
    }
    for name, identity, numbers, side, target in (
        ("mb-mp-is-metal-000001", "crystal:Cl1Na1", [11, 17], 5.5, 0.0),
        ("mb-mp-is-metal-000002", "crystal:Fe1", [26, 26], 2.75, 1.0),
    )
]
