"""MPtrj: relaxation trajectories of the Materials Project in one JSON file of 12 GB, streamed material by material.

Layout: JSON `{mp_id: {frame_id: record}}`; a record has structure (pymatgen), uncorrected_total_energy and
corrected_total_energy (eV), energy_per_atom (eV, corrected), force (eV/Å, n × 3), stress (kbar, 3 × 3, compression
positive), magmom or null, mp_id.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from model.data.readers._crystal import crystal
from model.data.readers._forward import span_of
from model.data.readers.base import SourceInfo, attempt, find, reading, structure
from model.data.structure import Refused, Structure
from model.specs import Strict

KBAR_EV_PER_CUBIC_ANGSTROM = 1 / 1602.1766208
"""CODATA 2014, as ASE has it; 3e-9 off CODATA 2018, far below what VASP prints."""
INFO = SourceInfo(
    title="MPtrj",
    count=1_580_395,
    level_of_theory="PBE and PBE+U (VASP)",
    licence="CC BY 4.0",
    citation="Deng et al., Nat. Mach. Intell. 5, 1031 (2023), doi:10.1038/s42256-023-00716-3",
    units={"energy": "eV", "forces": "eV/Å", "length": "Å", "stress": "kbar"},
    energy_kind="total",
    role="pretraining",
    mean_atoms=31.0,
    url="https://figshare.com/articles/dataset/23713842",
    pitfalls=(
        "`energy_per_atom` is the MP2020-corrected energy: it belongs to `corrected_total_energy`, not to the raw one.",
        "Corrections jump with the oxidation states that were guessed; forces belong to the uncorrected energy.",
        "Stress is VASP's: kbar, compression positive.",
        "Frames of one material lie close together: split by material or formula, never by frame.",
    ),
)
FORWARD = ("",)


class Config(Strict):
    """Options of the reader."""

    energy: Literal["uncorrected", "corrected"] = Field(
        "uncorrected", description="The DFT total that the forces belong to, or with the MP2020 corrections."
    )
    identity: Literal["formula", "material"] = Field(
        "formula",
        description="What splits go by: the reduced formula, as in all crystal sets, or the mp_id; no mp_id is divided.",
    )


def info(config: Config) -> SourceInfo:
    """Return the facts with these options."""
    level = INFO.level_of_theory if config.energy == "uncorrected" else f"{INFO.level_of_theory}, MP2020-corrected energies"
    return replace(INFO, level_of_theory=level)


def files(paths: Sequence[Path], config: Config) -> list[Path]:  # noqa: ARG001 every reader's interface
    """Return the JSON files."""
    return find(paths, (".json",))


def count(path: Path, config: Config) -> int:  # noqa: ARG001
    """Return the number of frames of all materials."""
    with reading(path):
        return sum(len(frames) for _, frames in _materials(path))


def read(path: Path, config: Config, span: range | None = None) -> Iterator[Structure | Refused]:
    """Yield the frames of a span, material by material; one material is in memory at a time."""
    with reading(path):
        for name, material, frame in span_of(path, "mptrj", span, lambda: _frames(path)):
            yield attempt(name, _structure, material, frame, config)


def _materials(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import ijson

    with path.open("rb") as file:
        yield from ijson.kvitems(file, "", use_float=True)


def _frames(path: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for material, frames in _materials(path):
        for name, frame in frames.items():
            yield name, material, frame


def _structure(name: str, material: str, frame: dict[str, Any], config: Config) -> Structure:
    numbers, positions, box = crystal(frame["structure"])
    stress = frame.get("stress")
    labels = {
        "energy": frame[f"{config.energy}_total_energy"],
        "forces": frame.get("force"),
        "stress": None if stress is None else -KBAR_EV_PER_CUBIC_ANGSTROM * np.asarray(stress, np.float64),
    }
    identity = None if config.identity == "formula" else str(frame.get("mp_id", material))
    return structure(numbers, positions, labels, box=box, names=(name, identity))
