"""An ASE sqlite database under the reader's options: names of keys, unit of energy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase.db
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from model.data.miniature.base import energy, forces
from model.data.readers.ase_db import Config
from model.data.readers.base import ENERGY_UNITS

FAMILY = "molecules"
_OWN = ("energy", "forces", "stress")


def write(folder: Path, structures: list[Atoms], config: Config) -> list[Path]:
    """Write one database: labels by the row's calculator, those of other names into its data, names as keys."""
    path = folder / "rows.db"
    with ase.db.connect(path, append=False, serial=True) as database:
        for atoms in structures:
            bare = atoms.copy()
            bare.info, bare.calc = {}, None
            name = atoms.info.get("molecule", atoms.info.get("material"))
            keys = {"molecule": name, config.identity or "molecule": name}
            if config.id is not None:
                keys[config.id] = atoms.info["id"]
            results, data = _labels(atoms, config)
            if results:
                bare.calc = SinglePointCalculator(bare, **results)
            database.write(bare, key_value_pairs=keys, data=data)
    return [path]


def _labels(atoms: Atoms, config: Config) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what goes to the calculator's results, and what to the row's data."""
    if atoms.calc is None:
        return {}, {}
    scale = ENERGY_UNITS[config.energy_unit]
    given = {config.energy: energy(atoms) / scale, config.forces: forces(atoms) / scale}
    if "stress" in atoms.calc.results:
        given["stress"] = atoms.calc.results["stress"]
    charges = {key: atoms.info[name] for name, key in (("charge", config.charge), ("spin", config.spin)) if name in atoms.info}
    data = {key: value for key, value in given.items() if key not in _OWN}
    return {key: value for key, value in given.items() if key in _OWN}, data | charges
