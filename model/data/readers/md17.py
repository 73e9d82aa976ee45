"""MD17: one NumPy archive for each molecule, a trajectory of frames in kcal/mol.

Layout: npz: R (Å, m × n × 3), E (kcal/mol, m × 1), F (kcal/mol/Å, m × n × 3), z (n), and e_unit, r_unit where stated.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from model.data.readers._forward import span_of
from model.data.readers.base import KCAL_PER_MOL_EV, SourceInfo, find, reading, structure
from model.data.structure import Structure
from model.specs import Strict

INFO = SourceInfo(
    title="MD17, uracil",
    count=133_770,
    level_of_theory="PBE+vdW-TS",
    licence="not stated in the archive; see quantum-machine.org",
    citation="Chmiela et al., Sci. Adv. 3, e1603015 (2017), doi:10.1126/sciadv.1603015",
    units={"energy": "kcal/mol", "forces": "kcal/mol/Å", "length": "Å"},
    energy_kind="total",
    is_absolute=True,
    role="finetuning",
    mean_atoms=12.0,
    url="http://www.quantum-machine.org/gdml/data/npz/md17_uracil.npz",
    target="energy",
    pitfalls=(
        "Frames of one molecule: a split by molecule leaves one part only, so by default frames are divided at random, and "
        "neighbouring ones of the trajectory stand on both sides of the split.",
        "Revised MD17 is another calculation with other keys; such a file is refused.",
        "The archive holds one molecule; the other seven are published alike and read alike.",
    ),
)
_FRAMES_AT_ONCE = 512
FORWARD = ("",)


class Config(Strict):
    """Options of the reader."""

    identity: Literal["frame", "connectivity"] = Field(
        "frame", description="What splits go by: the frame, or the molecule, which then falls into one part as a whole."
    )


def files(paths: Sequence[Path], config: Config) -> list[Path]:  # noqa: ARG001 every reader's interface
    """Return the archives."""
    return find(paths, (".npz",))


def count(path: Path, config: Config) -> int:  # noqa: ARG001
    """Return the number of frames, by the header of the positions."""
    with reading(path), _archive(path) as archive, archive.open("R.npy") as member:
        return _header(member)[0][0]


def read(path: Path, config: Config, span: range | None = None) -> Iterator[Structure]:
    """Yield the frames of a span; the arrays are unpacked frame by frame, since they may be larger than memory."""
    with reading(path):
        with _archive(path) as archive:
            _check_units(archive)
            numbers = _small(archive, "z").astype(np.uint8)
        for row, (x, e, f) in enumerate(span_of(path, "md17", span, lambda: _rows(path)), span.start if span else 0):
            labels = {"energy": np.ravel(e)[0] * KCAL_PER_MOL_EV, "forces": f * KCAL_PER_MOL_EV}
            name = f"{path.stem}/{row}"
            yield structure(numbers, x, labels, names=(name, name if config.identity == "frame" else None))


def _rows(path: Path) -> Iterator[tuple[NDArray[Any], ...]]:
    """Yield places, energy and forces of each frame."""
    with _archive(path) as archive:
        yield from zip(*(_frames(archive, name) for name in ("R", "E", "F")), strict=True)


def _archive(path: Path) -> zipfile.ZipFile:
    """Open an archive.

    Raises:
        ValueError: It lacks one of MD17's arrays.
    """
    archive = zipfile.ZipFile(path)
    lacking = {"R", "E", "F", "z"} - {name.removesuffix(".npy") for name in archive.namelist()}
    if lacking:
        archive.close()
        revised = "; this is revised MD17" if "nuclear_charges.npy" in archive.namelist() else ""
        raise ValueError(f"no array {', '.join(sorted(lacking))}{revised}")
    return archive


def _check_units(archive: zipfile.ZipFile) -> None:
    """Compare the units that an archive states, where it does, with those this reader converts from."""
    for name, unit in (("e_unit", "kcal/mol"), ("r_unit", "Ang")):
        if f"{name}.npy" in archive.namelist():
            stated = _small(archive, name).item()
            stated = stated.decode() if isinstance(stated, bytes) else str(stated)
            if stated != unit:
                raise ValueError(f"states {name} {stated}, not {unit}")


def _small(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(f"{name}.npy") as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Read the header of an array: shape and type.

    Raises:
        ValueError: Its frames do not follow each other, or it holds Python objects.
    """
    version = np.lib.format.read_magic(member)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, is_fortran, dtype = read_header(member)
    if is_fortran or dtype.hasobject or not shape:
        raise ValueError(f"an array of {dtype}, shape {shape}, which is no array of frames")
    return shape, dtype


def _frames(archive: zipfile.ZipFile, name: str) -> Iterator[NDArray[Any]]:
    """Yield the frames of one array, some hundred unpacked at a time."""
    with archive.open(f"{name}.npy") as member:
        shape, dtype = _header(member)
        size = int(np.prod(shape[1:])) * dtype.itemsize
        for start in range(0, shape[0], _FRAMES_AT_ONCE):
            rows = min(_FRAMES_AT_ONCE, shape[0] - start)
            block = member.read(rows * size)
            if start + rows == shape[0]:
                member.read(1)  # to touch the end is to check the checksum, before the last frames are believed
            yield from np.frombuffer(block, dtype).reshape(rows, *shape[1:])
