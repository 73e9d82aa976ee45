"""Wiggle150's container: one XYZ file of many frames, `<label> <energy>` in the comment line, kcal/mol."""

from __future__ import annotations

from pathlib import Path

from ase import Atoms

from model.data.miniature.base import energy
from model.data.readers.base import KCAL_PER_MOL_EV
from model.data.readers.wiggle150 import Config

FAMILY = "conformers"


def write(folder: Path, structures: list[Atoms], config: Config) -> list[Path]:  # noqa: ARG001 every miniature's interface
    """Write the file; conformer 0 of a molecule is its reference, `_00`."""
    path = folder / "ct5c00015_si_003.xyz"
    path.write_text("".join(_frame(atoms) for atoms in structures))
    return [path]


def target(atoms: Atoms) -> float:
    """Return the energy above the molecule's reference conformer, eV."""
    return energy(atoms) - float(atoms.info["reference_energy"])


def _frame(atoms: Atoms) -> str:
    label = f"{atoms.info['molecule']}_{atoms.info['conformer']:02d}"
    lines = [f"{len(atoms)}", f"{label} {energy(atoms) / KCAL_PER_MOL_EV:.8f}"]
    places = zip(atoms.symbols, atoms.positions, strict=True)
    lines += [f"{symbol:2} {x:15.8f} {y:15.8f} {z:15.8f}" for symbol, (x, y, z) in places]
    return "\n".join(lines) + "\n"
