"""Small stores whose label is a scalar or a class: crystals that are dense or not, in Matbench's container."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from ase import Atoms
from stores import SPLITS

from model.config import ConvertConfig
from model.data import convert
from model.data.miniature.base import matbench
from model.outcome import Status
from model.parallel import Ranks

Label = Callable[[Atoms], float | bool]
MEV = 1000.0
_ELEMENTS = ("Cu", "Ni", "Al")


def crystals(count: int, seed: int = 0) -> list[Atoms]:
    """Return crystals of 2 to 8 atoms on rattled grids of every density."""
    rng = np.random.default_rng(seed)
    return [_crystal(rng) for _ in range(count)]


def density(atoms: Atoms) -> float:
    """Return a scalar that a model can learn and composition does not tell: 0 at 2.3 Å between neighbours, 1 at 2.9 Å."""
    return float((np.cbrt(atoms.get_volume() / len(atoms)) - 2.3) / 0.6)


def scalar_store(folder: Path, name: str, structures: list[Atoms], label: Label = density) -> Path:
    """Convert crystals with a scalar in eV/atom; returns the store."""
    folder.mkdir(parents=True, exist_ok=True)
    values = [MEV * label(atoms) for atoms in structures]
    return _store(folder, name, "jdft2d", matbench(folder / "matbench_jdft2d.json.gz", "exfoliation_en", structures, values))


def is_wide(atoms: Atoms) -> bool:
    """Return a class that a model can learn and composition does not tell."""
    return density(atoms) > 0.4


def class_source(folder: Path, structures: list[Atoms], label: Label = is_wide) -> list[Path]:
    """Write crystals with a class; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    values = [bool(label(atoms)) for atoms in structures]
    return matbench(folder / "matbench_mp_is_metal.json.gz", "is_metal", structures, values)


def class_store(folder: Path, name: str, structures: list[Atoms], label: Label = is_wide) -> Path:
    """Convert crystals with a class; returns the store."""
    return _store(folder, name, "is_metal", class_source(folder, structures, label))


def _crystal(rng: np.random.Generator) -> Atoms:
    shape = rng.integers(1, 3, 3) + [1, 0, 0]
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 3)
    length = rng.uniform(2.3, 2.9)
    atoms = Atoms(rng.choice(_ELEMENTS, len(grid)), positions=length * grid, cell=length * shape, pbc=True)
    atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
    return atoms


def _store(folder: Path, name: str, task: str, sources: list[Path]) -> Path:
    reader = {"name": f"matbench_{task}"}
    config = ConvertConfig(name=name, reader=reader, sources=tuple(sources), store=folder / name, splits=SPLITS)
    assert convert.run(config, folder, Ranks()).status is Status.DONE
    return folder / name
