"""Structures, blocks and stores for tests of data."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from model.config import ConvertConfig
from model.data import convert
from model.data.block import Block, pack
from model.data.store import Store
from model.data.structure import UNLABELLED, Structure
from model.parallel import Ranks
from model.specs import Splits


def random_structure(random: np.random.Generator, name: str = "x", periodic: bool | None = None) -> Structure:
    """Return 1 to 12 atoms at least 0.9 Å apart with labels drawn at random."""
    periodic = bool(random.integers(2)) if periodic is None else periodic
    count = int(random.integers(1, 13))
    grid = np.array([(i, j, k) for i in range(3) for j in range(3) for k in range(2)], float)
    places = grid[random.permutation(len(grid))[:count]] * 1.6 + random.uniform(-0.3, 0.3, (count, 3))
    cell = np.diag([5.0, 5.2, 3.6]) + random.uniform(-0.4, 0.4, (3, 3)) if periodic else np.zeros((3, 3))
    return Structure(
        numbers=random.choice(np.array([1, 6, 7, 8, 29], np.uint8), count),
        positions=places,
        cell=cell,
        pbc=np.full(3, periodic),
        energy=float(random.normal()),
        forces=random.normal(size=(count, 3)),
        stress=random.normal(size=(3, 3)) if periodic else None,
        charge=0 if periodic else int(random.integers(-1, 2)),
        spin=UNLABELLED if periodic else 1,
        id=name,
        identity=f"identity of {name}",
        target=0.5 * count if periodic else float("nan"),
    )


def random_block(count: int, seed: int = 0, periodic: bool | None = None) -> Block:
    """Return a block of random structures with ids `0`, `1`, …"""
    random = np.random.default_rng(seed)
    return pack([random_structure(random, str(k), periodic) for k in range(count)])


def labelled(atoms: Atoms, energy: float, forces: np.ndarray) -> Atoms:
    """Attach labels as ASE's own files carry them."""
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    return atoms


def store_of(folder: Path, frames: list[Atoms], name: str = "branch", **options: object) -> Store:
    """Convert frames through an extended XYZ file, by the real command, into `folder/store`."""
    folder.mkdir(parents=True, exist_ok=True)
    ase.io.write(folder / "frames.extxyz", frames, format="extxyz")
    splits = options.pop("splits", Splits())
    shard = options.pop("shard", 100_000)
    config = ConvertConfig(
        name=name,
        reader={"name": "extxyz", **options},
        sources=(folder / "frames.extxyz",),
        store="store",
        shard=shard,
        splits=splits,
    )
    convert.run(config, folder, Ranks())
    return Store.open(folder / "store")
