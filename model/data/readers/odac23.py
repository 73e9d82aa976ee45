"""ODAC23: one extended XYZ file for each trajectory, in a compressed tar of 232 GB that is read as a stream, or unpacked.

Layout: `extxyz_*.tar.gz` or unpacked: one extended XYZ a trajectory, a frame with species, pos (Å), move_mask, forces
(eV/Å), energy (eV).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from model.data.readers._archive import loose_or_packed
from model.data.readers._forward import span_of
from model.data.readers._frames import records
from model.data.readers.base import SourceInfo, reading
from model.data.structure import Refused, Structure
from model.specs import Strict

INFO = SourceInfo(
    title="ODAC23",
    count=38_000_000,  # "more than 38 million"
    level_of_theory="PBE+D3 (VASP)",
    licence="CC BY 4.0",
    citation="Sriram et al., ACS Cent. Sci. 10, 923 (2024), doi:10.1021/acscentsci.3c01629",
    units={"energy": "eV", "forces": "eV/Å", "length": "Å"},
    energy_kind="total",
    role="pretraining",
    mean_atoms=200.0,
    url="https://fair-chem.github.io/dac/datasets/odac.html",
    pitfalls=(
        "Forces of fixed atoms are in the file; ASE zeroes them unless told not to.",
        "Unpacked, the set is a file for each trajectory: read the tar instead where the file system is slow with many files.",
        "A tar is converted by one rank, whatever their number: unpack it, then its files are converted in parallel.",
        "Superseded by ODAC25, which is published as `.aselmdb`.",
        "Charge 0 and spin 1 are a convention of some readers, not labels.",
    ),
)
_SUFFIXES = (".extxyz",)
FORWARD = ("",)


class Config(Strict):
    """Options of the reader: none."""


def files(paths: Sequence[Path], config: Config) -> list[Path]:  # noqa: ARG001 every reader's interface
    """Return the archives, or the trajectories of unpacked ones."""
    return loose_or_packed(paths, _SUFFIXES)


def count(path: Path, config: Config) -> int:  # noqa: ARG001
    """Return the number of frames; lines are read, but not understood."""
    with reading(path):
        return sum(1 for _ in records(path, _SUFFIXES))


def read(path: Path, config: Config, span: range | None = None) -> Iterator[Structure | Refused]:  # noqa: ARG001
    """Yield the frames of a span; forces are those of the file, of fixed atoms too."""
    with reading(path):
        for make in span_of(path, "odac23", span, lambda: records(path, _SUFFIXES)):
            yield make()
