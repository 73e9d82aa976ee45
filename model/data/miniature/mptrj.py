"""MPtrj's JSON: materials, their frames, pymatgen structures; stress in kbar, positive under compression."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ase import Atoms

from model.data.miniature.base import crystal, energy, forces, grouped
from model.data.readers.mptrj import KBAR_EV_PER_CUBIC_ANGSTROM, Config

FAMILY = "crystals"


def write(folder: Path, structures: list[Atoms], config: Config) -> list[Path]:
    """Write the release; the energy that is not read differs by a made-up correction."""
    path = folder / "MPtrj_2022.9_full.json"
    materials = grouped(structures, lambda atoms: str(atoms.info["material"]))
    names = {f"mp-{number}": group for number, group in enumerate(materials.values(), 1)}
    tree = {
        name: {f"{name}-0-{step}": _frame(name, atoms, config) for step, atoms in enumerate(group)}
        for name, group in names.items()
    }
    path.write_text(json.dumps(tree))
    return [path]


def _frame(name: str, atoms: Atoms, config: Config) -> dict[str, Any]:
    other = energy(atoms) - 0.5 * len(atoms)
    raw, corrected = (energy(atoms), other) if config.energy == "uncorrected" else (other, energy(atoms))
    return {
        "structure": crystal(atoms),
        "uncorrected_total_energy": raw,
        "corrected_total_energy": corrected,
        "energy_per_atom": corrected / len(atoms),
        "force": forces(atoms).tolist(),
        "stress": (-atoms.get_stress(voigt=False) / KBAR_EV_PER_CUBIC_ANGSTROM).tolist(),
        "magmom": None,
        "mp_id": name,
    }
