"""OC20's chunks: slabs as xz-compressed extended XYZ with tags and fixed atoms, and a text file of reference energies."""

from __future__ import annotations

import io
import lzma
from pathlib import Path

import ase.io
from ase import Atoms

from model.data.miniature.base import bare, energy
from model.data.readers.oc20 import Config

FAMILY = "slabs"
_REFERENCE = -10.0
"""eV, made up: what slab and gas would have."""


def write(folder: Path, structures: list[Atoms], config: Config) -> list[Path]:
    """Write one chunk of 5,000 frames at most, as published, for each 5,000 structures."""
    return [path for number in range(0, len(structures), 5000) for path in _chunk(folder, number // 5000, structures, config)]


def _chunk(folder: Path, number: int, structures: list[Atoms], config: Config) -> list[Path]:
    paths = [folder / f"{number}.extxyz.xz", folder / f"{number}.txt.xz"]
    chunk = structures[5000 * number : 5000 * (number + 1)]
    text = io.StringIO()
    ase.io.write(text, [_frame(atoms, config) for atoms in chunk], format="extxyz")
    rows = [f"random{5000 * number + k},frame{k},{_REFERENCE}\n" for k in range(len(chunk))]
    for path, content in zip(paths, (text.getvalue(), "".join(rows)), strict=True):
        path.write_bytes(lzma.compress(content.encode()))
    return paths


def _frame(atoms: Atoms, config: Config) -> Atoms:
    copy = bare(atoms, "energy", "forces")
    copy.calc.results["energy"] = energy(atoms) + (_REFERENCE if config.energy == "adsorption" else 0.0)
    return copy
