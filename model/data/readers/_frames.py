"""Frames of trajectories as ASE writes them (extended XYZ, `.traj`), with the forces of the file, whatever is fixed."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO, StringIO
from pathlib import Path
from typing import IO, Any

from model.data.readers._archive import TARS, members
from model.data.readers._names import place
from model.data.readers.ase_db import tensor
from model.data.readers.base import attempt, structure
from model.data.readers.extxyz import next_frame, open_text, parse
from model.data.structure import Refused, Structure

Lines = list[str]
Make = Callable[[], Structure | Refused]
_UNPACK: dict[str, Callable[[bytes], bytes]] = {".xz": lzma.decompress, ".gz": gzip.decompress}


def records(path: Path, suffixes: tuple[str, ...]) -> Iterator[Make]:
    """Yield what makes each frame's structure, of a trajectory or of an archive's: frames that are passed over cost little.

    Ids are the name of the trajectory and the number in it.

    Raises:
        ValueError: No frames, or cut short.
    """
    if not path.name.endswith(TARS):
        yield from _records(path.name, path)
        return
    found = False
    for name, content in members(path, suffixes):
        found = True
        yield from _records(name, content)
    if not found:
        raise ValueError(f"no file in it ends in {' or '.join(suffixes)}")


def frames(file: IO[str]) -> Iterator[Lines]:
    """Yield the lines of each frame of an extended XYZ file.

    Raises:
        ValueError: It holds none, or was cut within a frame.
    """
    lines = next_frame(file)
    if not lines:
        raise ValueError("no frame")
    while lines:
        yield lines
        lines = next_frame(file)


def from_lines(name: str, lines: Lines) -> Structure | Refused:
    """Return the structure of one frame's lines, eV and Å; see `from_atoms`."""
    return attempt(name, _from_lines, lines)


def _from_lines(name: str, lines: Lines) -> Structure | Refused:
    return from_atoms(name, parse(lines))


def from_atoms(name: str, atoms: Any) -> Structure | Refused:
    """Return the structure of ASE's atoms, eV and Å; refused without energy or forces, which every frame of its source has."""
    labels = results(atoms)
    missing = [label for label in ("energy", "forces") if labels[label] is None]
    if missing:
        return Refused(name, f"no {' and no '.join(missing)}")
    return structure(atoms.numbers, atoms.positions, labels, box=(atoms.cell.array, atoms.pbc), names=(name, None))


def results(atoms: Any) -> dict[str, Any]:
    """Return energy (eV), forces (eV/Å; of fixed atoms too) and stress (eV/Å³) of the calculator, None where it has none."""
    given = {} if atoms.calc is None else atoms.calc.results
    return {"energy": given.get("energy"), "forces": given.get("forces"), "stress": tensor(given.get("stress"))}


@contextmanager
def trajectory(source: Path | bytes) -> Iterator[Any]:
    """Open an ASE trajectory: a sequence of atoms that are read one by one.

    Raises:
        ValueError: Not in ASE's own format (its predecessor was a pickle, and is never opened), or without frames.
    """
    from ase.io.trajectory import TrajectoryReader

    with source.open("rb") if isinstance(source, Path) else BytesIO(source) as file:
        if file.read(8) != b"- of Ulm":
            raise ValueError("no ASE trajectory (ULM)")
        file.seek(0)
        atoms = TrajectoryReader(file)
        if not len(atoms):
            raise ValueError("no frame")
        yield atoms


def _records(name: str, source: Path | bytes) -> Iterator[Make]:
    named = place(Path(name) if isinstance(source, bytes) else source)
    if name.endswith(".traj"):
        with trajectory(source) as atoms:
            yield from (partial(_frame, f"{named}/{number}", atoms, number) for number in range(len(atoms)))
    else:
        with open_text(source) if isinstance(source, Path) else StringIO(_text(name, source)) as file:
            yield from (partial(from_lines, f"{named}/{number}", lines) for number, lines in enumerate(frames(file)))


def _frame(name: str, frames: Any, number: int) -> Structure | Refused:
    return attempt(name, from_atoms, frames[number])  # to read fails with the file, to understand with the record


def _text(name: str, content: bytes) -> str:
    unpack = _UNPACK.get(name[-3:])
    return (unpack(content) if unpack else content).decode()
