"""Extended XYZ, plain or compressed: energy and stress from the comment line, forces from a column.

Layout: per frame the number of atoms; a comment of `key=value` with Properties, and of crystals Lattice (Å) and pbc; a line
for each atom, its place in Å.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from pydantic import Field

from model.data.readers._forward import span_of
from model.data.readers.ase_db import tensor
from model.data.readers.base import ENERGY_UNITS, EnergyUnit, SourceInfo, attempt, find, reading, structure
from model.data.structure import Refused, Structure
from model.specs import Strict

INFO = SourceInfo(
    title="Extended XYZ",
    count=None,
    level_of_theory="",
    licence="that of the file's author",
    citation="Larsen et al., J. Phys.: Condens. Matter 29, 273002 (2017), and the file's author",
    units={"energy": "option energy_unit", "forces": "energy_unit/Å", "length": "Å"},
    energy_kind="as given",
    version=2,
)
FORWARD = (".gz", ".bz2", ".xz")


class Config(Strict):
    """Options of the reader."""

    energy: str = Field("energy", description="Key of the energy in the comment line.")
    forces: str = Field("forces", description="Name of the forces' column.")
    energy_unit: EnergyUnit = Field("eV", description="Unit of energies; of forces per Å. Stress is eV/Å³ always.")
    charge: str = Field("charge", description="Key of the total charge; unlabelled where a frame has none.")
    spin: str = Field("spin", description="Key of the multiplicity 2S+1; unlabelled where a frame has none.")
    identity: str | None = Field(None, description="Key that names the molecule or material; none: from its bonds or formula.")
    id: str | None = Field(None, description="Key of a stable id; none: file name and frame number.")


def info(config: Config) -> SourceInfo:
    """Return the facts with these options: units as they are given."""
    units = {"energy": config.energy_unit, "forces": f"{config.energy_unit}/Å", "length": "Å"}
    return replace(INFO, units=units)


def files(paths: Sequence[Path], config: Config) -> list[Path]:  # noqa: ARG001 every reader's interface
    """Return the files, plain or compressed by gzip, bzip2 or xz."""
    return find(paths, tuple(f"{stem}{packed}" for stem in (".extxyz", ".xyz") for packed in ("", ".gz", ".bz2", ".xz")))


def count(path: Path, config: Config) -> int:  # noqa: ARG001
    """Return the number of frames; lines are read, but not understood."""
    with reading(path), open_text(path) as file:
        frames = 0
        while next_frame(file):
            frames += 1
        return frames


def read(path: Path, config: Config, span: range | None = None) -> Iterator[Structure | Refused]:
    """Yield the frames of a span; forces are those of the file, whatever constraints it names."""
    with reading(path):
        for frame, lines in enumerate(span_of(path, "extxyz", span, lambda: _frames(path)), span.start if span else 0):
            yield attempt(f"{path.name}/{frame}", _structure, frame, lines, config)


def _frames(path: Path) -> Iterator[list[str]]:
    with open_text(path) as file:
        yield from itertools.takewhile(bool, iter(lambda: next_frame(file), None))


def open_text(path: Path) -> IO[str]:
    """Open a file, decompressing it where its name says so."""
    from ase.io.formats import open_with_compression

    file: IO[str] = open_with_compression(str(path), "r")
    return file


def next_frame(file: IO[str]) -> list[str]:
    """Return the lines of the next frame; none at the end of the file, blank lines there included.

    Raises:
        ValueError: The file ends within the frame or within a line, the frame's first line is no number, or frames follow a
            blank line.
    """
    first = file.readline()
    if not first.strip():
        if any(line.strip() for line in file):
            raise ValueError("a blank line between frames")
        return []
    lines = [first, *(file.readline() for _ in range(int(first) + 1))]
    if not lines[-1].strip():
        raise ValueError(f"ends within a frame of {int(first)} atoms")
    if not lines[-1].endswith("\n"):
        # A number that lost its last figures is a number still.
        raise ValueError(f"ends within a line, {lines[-1][:60]!r}: where nothing is missing but the line's end, add it")
    return lines


def parse(lines: list[str]) -> Any:
    """Return the ASE atoms of the lines of one frame."""
    from ase.io.extxyz import read_xyz

    return next(read_xyz(StringIO("".join(lines)), 0))


def _structure(name: str, frame: int, lines: list[str], config: Config) -> Structure:
    atoms = parse(lines)
    given = {**atoms.info, **atoms.arrays, **(atoms.calc.results if atoms.calc is not None else {})}
    scale = ENERGY_UNITS[config.energy_unit]
    energy, forces = given.get(config.energy), given.get(config.forces)
    labels = {
        "energy": None if energy is None else float(energy) * scale,
        "forces": None if forces is None else np.asarray(forces, np.float64) * scale,
        "stress": tensor(given.get("stress")),
        "charge": given.get(config.charge),
        "spin": given.get(config.spin),
    }
    identity = None if config.identity is None else str(_required(given, config.identity, frame))
    key = name if config.id is None else str(_required(given, config.id, frame))
    return structure(atoms.numbers, atoms.positions, labels, box=(atoms.cell.array, atoms.pbc), names=(key, identity))


def _required(given: dict[str, Any], key: str, frame: int) -> Any:
    if key not in given:
        raise KeyError(f"frame {frame} has no '{key}'")
    return given[key]
