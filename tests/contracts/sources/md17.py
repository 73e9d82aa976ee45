"""MD17: a NumPy archive of one molecule, written by NumPy; energies stand in a column."""

from __future__ import annotations

from pathlib import Path

import numpy as np

FILE = "md17_uracil.npz"
OPTIONS: dict[str, object] = {}
FRAMES = 5
PLACES = [[[0, 0, 0], [0.75 + 0.03125 * k, 0.5, 0], [-0.75, 0.5, 0]] for k in range(FRAMES)]


def write(path: Path, energy_scale: float = 1.0) -> None:
    forces = np.array([[[0, 100.0 * k, 0], [-50.0, 0, 0], [50.0, -100.0 * k, 0]] for k in range(FRAMES)])
    energies = np.array([[-48000.0 - k] for k in range(FRAMES)])
    np.savez(
        path,
        E=energies * energy_scale,
        F=forces * energy_scale,
        R=np.array(PLACES),
        z=np.array([8, 1, 1], np.uint8),
        name=np.array(b"uracil"),
        type=np.array(b"d"),
        theory=np.array(b"pbe+vdw-ts"),
        md5=np.array(b"0"),
    )


# 1 kcal/mol = 4184 J/mol / (6.02214076e23 /mol · 1.602176634e-19 J/eV) = 0.0433641039 eV, so -48000 kcal/mol = -2081.477 eV.
KCAL = 4184 / (6.02214076e23 * 1.602176634e-19)
EXPECTED = [
    {
        "id": f"md17_uracil/{k}",
        "numbers": [8, 1, 1],
        "positions": PLACES[k],
        "energy": (-48000 - k) * KCAL,
        "forces": [[0, 100 * k * KCAL, 0], [-50 * KCAL, 0, 0], [50 * KCAL, -100 * k * KCAL, 0]],
        "identity": f"md17_uracil/{k}",
    }
    for k in range(FRAMES)
]
