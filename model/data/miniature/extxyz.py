"""Extended XYZ under the reader's options: names of keys and columns, unit of energy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase.io
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from model.data.miniature.base import energy, forces
from model.data.readers.base import ENERGY_UNITS
from model.data.readers.extxyz import Config

FAMILY = "crystals"


def write(folder: Path, structures: list[Atoms], config: Config) -> list[Path]:
    """Write one file, 8 decimals a number; a structure without labels has none there."""
    path = folder / "frames.extxyz"
    ase.io.write(path, [_frame(atoms, config) for atoms in structures], format="extxyz")
    return [path]


def _frame(atoms: Atoms, config: Config) -> Atoms:
    frame = atoms.copy()
    given: dict[str, Any] = {name: frame.info.pop(name) for name in ("charge", "spin") if name in frame.info}
    frame.info |= {getattr(config, name): value for name, value in given.items()}
    name = frame.info.get("molecule", frame.info.get("material"))
    if config.identity is not None:
        frame.info[config.identity] = name
    if config.id is not None:
        frame.info[config.id] = atoms.info["id"]
    if atoms.calc is not None:
        _label(frame, atoms, config)
    return frame


def _label(frame: Atoms, atoms: Atoms, config: Config) -> None:
    scale = ENERGY_UNITS[config.energy_unit]
    results = {key: value for key, value in atoms.calc.results.items() if key == "stress"}
    named = {config.energy: energy(atoms) / scale, config.forces: forces(atoms) / scale}
    results |= {key: value for key, value in named.items() if key in ("energy", "forces")}
    frame.info |= {key: value for key, value in named.items() if key == config.energy and key not in results}
    if config.forces not in results:
        frame.arrays[config.forces] = named[config.forces]
    frame.calc = SinglePointCalculator(frame, **results)
