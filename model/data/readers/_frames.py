"""Frames of trajectories as ASE writes them (extended XYZ, `.traj`), with the forces of the file, whatever is fixed."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import IO, Any

from model.data.readers._archive import TARS, members
from model.data.readers.ase_db import tensor
from model.data.readers.base import structure
from model.data.readers.extxyz import next_frame, open_text, parse
from model.data.structure import Structure

Lines = list[str]


def frames(file: IO[str]) -> Iterator[Lines]:
    """Yield the lines of each frame of an extended XYZ file.

    Raises:
        ValueError: It holds none, or was cut within a frame.
    """
    lines = next_frame(file)
    if not lines:
        raise ValueError("no frame")
    while lines:
        if not lines[-1].endswith("\n"):
            raise ValueError(f"ends within a line: {lines[-1][:60]}")
        yield lines
        lines = next_frame(file)


def packed_frames(path: Path, suffixes: tuple[str, ...]) -> Iterator[tuple[str, Lines]]:
    """Yield id (name of the trajectory and number in it) and lines of each frame of a file, or of an archive of such files.

    Raises:
        ValueError: No frames, or cut short.
    """
    if not path.name.endswith(TARS):
        with open_text(path) as file:
            yield from ((f"{stem(path.name)}/{number}", lines) for number, lines in enumerate(frames(file)))
        return
    found = False
    for name, content in members(path, suffixes):
        found = True
        yield from ((f"{stem(name)}/{number}", lines) for number, lines in enumerate(frames(StringIO(content.decode()))))
    if not found:
        raise ValueError(f"no file in it ends in {' or '.join(suffixes)}")


def stem(name: str) -> str:
    """Return the name of a trajectory: without what tells its format, and without a leading `./`."""
    head, slash, tail = name.removeprefix("./").rpartition("/")
    return head + slash + tail.split(".extxyz")[0].removesuffix(".traj")


def from_lines(name: str, lines: Lines, identity: str | None = None) -> Structure:
    """Return the structure of one frame's lines, eV and Å."""
    return from_atoms(name, parse(lines), identity)


def from_atoms(name: str, atoms: Any, identity: str | None = None) -> Structure:
    """Return the structure of ASE's atoms with the results of its calculator, eV and Å; of fixed atoms too."""
    return structure(atoms.numbers, atoms.positions, results(atoms), box=(atoms.cell.array, atoms.pbc), names=(name, identity))


def results(atoms: Any) -> dict[str, Any]:
    """Return energy (eV), forces (eV/Å) and stress (eV/Å³) of the calculator, None where it has none."""
    given = {} if atoms.calc is None else atoms.calc.results
    return {"energy": given.get("energy"), "forces": given.get("forces"), "stress": tensor(given.get("stress"))}


def trajectory(path: Path) -> Any:
    """Open an ASE trajectory, a sequence of atoms that are read one by one.

    Raises:
        ValueError: Not of ASE's own format (its predecessor was a pickle, and is never opened).
    """
    from ase.io.trajectory import TrajectoryReader

    with path.open("rb") as file:
        if file.read(8) != b"- of Ulm":
            raise ValueError("no ASE trajectory (ULM)")
    return TrajectoryReader(path)
