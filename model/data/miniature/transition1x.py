"""Transition1x's container: HDF5, formulas, in them reactions as paths, and the authors' split as links; eV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from model.data.miniature.base import energy, forces, grouped
from model.data.readers.transition1x import Config

FAMILY = "molecules"
_LEVEL = "wB97x_6-31G(d)"
_PARTS = ("train",) * 6 + ("val", "test")


def write(folder: Path, structures: list[Atoms], config: Config) -> list[Path]:  # noqa: ARG001 every miniature's interface
    """Write the file: geometries of one molecule are a path, its ends reactant and product, its top the transition state.

    Formulas go to train, val and test in turns of six, one and one.
    """
    import h5py

    path = folder / "Transition1x.h5"
    with h5py.File(path, "w") as file:
        for number, (formula, group) in enumerate(grouped(structures, Atoms.get_chemical_formula).items()):
            for reaction, frames in enumerate(grouped(group, lambda atoms: str(atoms.info["molecule"])).values()):
                _fill(file.create_group(f"data/{formula}/rxn{reaction:04d}"), frames)
            file[f"{_PARTS[number % len(_PARTS)]}/{formula}"] = h5py.SoftLink(f"/data/{formula}")
        for part in set(_PARTS):
            file.require_group(part)
    return [path]


def _fill(reaction: Any, frames: list[Atoms]) -> None:
    top = max(frames, key=energy)
    ends = {"reactant": frames[:1], "product": frames[-1:], "transition_state": [top]}
    for name, part in {"": frames, **ends}.items():
        group = reaction.require_group(name) if name else reaction
        group["atomic_numbers"] = frames[0].numbers
        group["positions"] = np.array([each.positions for each in part])
        group[f"{_LEVEL}.energy"] = np.array([energy(each) for each in part])
        group[f"{_LEVEL}.forces"] = np.array([forces(each) for each in part])
