"""Transition1x: a path of frames for each reaction, its ends and its top again in subgroups, the split as links; h5py."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

FILE = "Transition1x.h5"
OPTIONS: dict[str, object] = {}
# HCN to HNC: hydrogen walks from carbon to nitrogen.
PATH = [
    [[0, 0, 0], [1.125, 0, 0], [-1.0625, 0, 0]],
    [[0, 0, 0], [1.125, 0, 0], [0.25, 1.125, 0]],
    [[0, 0, 0], [1.125, 0, 0], [2.125, 0, 0]],
]
ENERGIES = [-2541.25, -2539.0, -2540.75]
FORCE = [[0, 0.5, 0], [0.25, 0, 0], [-0.25, -0.5, 0]]


def write(path: Path, energy_scale: float = 1.0) -> None:
    with h5py.File(path, "w") as file:
        for reaction, shift in (("rxn0001", 0.0), ("rxn0007", -1.0)):
            group = file.create_group(f"data/C1H1N1/{reaction}")
            _fill(group, [0, 1, 2], shift, energy_scale)
            for name, frame in (("reactant", 0), ("transition_state", 1), ("product", 2)):
                _fill(group.create_group(name), [frame], shift, energy_scale)
        file["train/C1H1N1"] = h5py.SoftLink("/data/C1H1N1")
        file.create_group("val")
        file.create_group("test/C1H1N1")
        file["test/C1H1N1/rxn0007"] = h5py.SoftLink("/data/C1H1N1/rxn0007")


def _fill(group: h5py.Group, frames: list[int], shift: float, scale: float) -> None:
    group["atomic_numbers"] = np.array([6, 7, 1])
    group["positions"] = np.array(PATH, float)[frames]
    group["wB97x_6-31G(d).energy"] = (np.array(ENERGIES)[frames] + shift) * scale
    group["wB97x_6-31G(d).forces"] = np.array([FORCE] * len(frames)) * scale


# eV and eV/Å as published. All frames of a reaction carry the identity of its reactant.
EXPECTED = [
    {
        "id": f"C1H1N1/{reaction}/{frame}",
        "numbers": [6, 7, 1],
        "positions": PATH[frame],
        "energy": ENERGIES[frame] + shift,
        "forces": FORCE,
        "identity": "molecule:C1H1N1:",
    }
    for reaction, shift in (("rxn0001", 0.0), ("rxn0007", -1.0))
    for frame in range(3)
]
