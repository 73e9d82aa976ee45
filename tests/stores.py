"""Small stores for tests: rattled clusters of metals, labelled by EMT, written by the real converter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.emt import EMT
from ase.io import write

from model.config import ConvertConfig
from model.data import convert
from model.outcome import Status
from model.parallel import Ranks
from model.specs import Splits

SPLITS = Splits(seed=1, validation=0.2, test=0.2)


def emt_store(folder: Path, name: str, elements: tuple[str, ...], count: int, *, seed: int = 0, scale: float = 1.0) -> Path:
    """Make a store of `count` clusters of 3 to 9 atoms, every third one in a periodic box; returns its folder."""
    rng = np.random.default_rng(seed)
    source = folder / f"{name}.extxyz"
    write(source, [_cluster(rng, elements, scale, periodic=k % 3 == 0, name=f"{name}{k}") for k in range(count)])
    config = ConvertConfig(
        name=name,
        reader={"name": "extxyz", "identity": "identity"},
        sources=(source,),
        store=folder / name,
        splits=SPLITS,
    )
    task = folder / f"{name}.task"
    task.mkdir()
    assert convert.run(config, task, Ranks()).status is Status.DONE
    return folder / name


def _cluster(rng: np.random.Generator, elements: tuple[str, ...], scale: float, *, periodic: bool, name: str) -> Atoms:
    number = int(rng.integers(3, 10))
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3), -1).reshape(-1, 3)[rng.permutation(27)[:number]]
    atoms = Atoms(rng.choice(elements, number), positions=2.6 * grid + rng.normal(scale=0.15, size=(number, 3)))
    if periodic:
        atoms.set_cell(np.diag([8.0, 8.5, 9.0]))
        atoms.pbc = True
    atoms.calc = EMT()
    labelled = atoms.copy()
    labelled.info |= {"energy": scale * atoms.get_potential_energy(), "identity": name}
    labelled.arrays["forces"] = scale * atoms.get_forces()
    return labelled
