"""OC20 S2EF: chunks of 5,000 frames as xz-compressed extended XYZ, each beside a text file of ids and reference energies.

Layout: Tar of `N.extxyz.xz` and `N.txt.xz`, or both unpacked. A frame has species, pos (Å), move_mask, tags, forces (eV/Å)
and, in its comment, Lattice, energy and free_energy (eV). Line i of the text file belongs to frame i:
`<system>,<frame>,<reference in eV>`.
"""

from __future__ import annotations

import io
import lzma
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Literal

from pydantic import Field

from model.data.readers._archive import TARS, check_end, loose_or_packed
from model.data.readers._forward import span_of
from model.data.readers._frames import Lines, frames, from_lines
from model.data.readers.base import SourceInfo, reading
from model.data.structure import Refused, Structure
from model.outcome import CampaignError
from model.specs import Strict

INFO = SourceInfo(
    title="OC20 S2EF",
    count=133_934_018,
    level_of_theory="RPBE (VASP)",
    licence="CC BY 4.0",
    citation="Chanussot, Das, Goyal et al., ACS Catal. 11, 6059 (2021), doi:10.1021/acscatal.0c04525",
    units={"energy": "eV", "forces": "eV/Å", "length": "Å"},
    energy_kind="total",
    role="pretraining",
    mean_atoms=73.0,
    url="https://fair-chem.github.io/catalysts/datasets/oc20.html",
    pitfalls=(
        "Energies are raw totals; models of the leaderboard were trained on adsorption energies, raw minus reference.",
        "Forces of the fixed lower layers are in the file; ASE zeroes them unless told not to.",
        "Some chunks have another number of frames than of lines in their text file: their frames go to the reject file.",
        "Charge 0 and spin 1 are a convention of some readers, not labels.",
        "The tars hold what the unpacked folders hold: give one of the two.",
        "A tar is converted by one rank, whatever their number: unpack it, then its chunks are converted in parallel.",
    ),
)
_SUFFIXES = (".extxyz.xz", ".extxyz")
FORWARD = ("",)


class Config(Strict):
    """Options of the reader."""

    energy: Literal["total", "adsorption"] = Field(
        "total", description="The raw DFT total, or minus the reference energy (bare slab and gas) of the text file."
    )


def info(config: Config) -> SourceInfo:
    """Return the facts with these options."""
    return INFO if config.energy == "total" else replace(INFO, energy_kind="adsorption")


def files(paths: Sequence[Path], config: Config) -> list[Path]:  # noqa: ARG001 every reader's interface
    """Return the tars, or the chunks of unpacked ones (`.extxyz` where the publisher's script has decompressed them).

    Raises:
        CampaignError: Nothing there; tars beside chunks; a chunk without its text file.
    """
    found = loose_or_packed(paths, _SUFFIXES)
    chunks = {path for path in found if not path.name.endswith(TARS)}
    twice = {path.with_suffix("") for path in chunks if path.suffix == ".xz"} & chunks
    for path in sorted(chunks - twice):
        beside = path.with_name(_text_name(path.name))
        if not beside.is_file():
            remedy = "Each N.extxyz.xz has an N.txt.xz: unpack both beside each other."
            raise CampaignError("no text file of ids and reference energies", str(beside), remedy)
    return [path for path in found if path not in twice]


def beside(path: Path, config: Config) -> list[Path]:  # noqa: ARG001
    """Return the text file of a chunk; a tar holds those of its chunks."""
    return [] if path.name.endswith(TARS) else [path.with_name(_text_name(path.name))]


def count(path: Path, config: Config) -> int:  # noqa: ARG001
    """Return the number of frames; lines are read, but not understood."""
    with reading(path):
        return sum(chunk.count() for chunk in _chunks(path))


def read(path: Path, config: Config, span: range | None = None) -> Iterator[Structure | Refused]:
    """Yield the frames of a span; forces are those of the file, of fixed atoms too."""
    with reading(path):
        for name, lines, reference, unequal in span_of(path, "oc20", span, lambda: _records(path)):
            frame = Refused(name, unequal) if unequal else from_lines(name, lines)
            if isinstance(frame, Structure) and config.energy == "adsorption":
                frame = replace(frame, energy=frame.energy - reference)
            yield frame


@dataclass(frozen=True)
class _Chunk:
    """Frames and the text file that belongs to them, in a folder or in a tar.

    Attributes:
        name: Of the file of frames.
        open: Opens a file of the folder or tar by its name.
    """

    name: str
    open: Callable[[str], IO[bytes]]

    def count(self) -> int:
        """Return the number of frames."""
        with _text(self.open(self.name), self.name) as file:
            return sum(1 for _ in frames(file))

    def frames(self) -> Iterator[Lines]:
        """Yield the lines of each frame."""
        with _text(self.open(self.name), self.name) as file:
            yield from frames(file)

    def rows(self) -> list[tuple[str, float]]:
        """Return id and reference energy (eV) of each line of the text file: `system,frame,energy`.

        Raises:
            ValueError: A line that is not of this form.
        """
        name = _text_name(self.name)
        with _text(self.open(name), name) as lines:
            rows = [line.strip().split(",") for line in lines]
        return [(f"{system}/{frame}", float(energy)) for system, frame, energy in rows]


def _records(path: Path) -> Iterator[tuple[str, Lines, float, str]]:
    """Yield id, lines and reference energy (eV) of each frame, and what is wrong where a chunk's lines do not fit its frames."""
    for chunk in _chunks(path):
        rows, count = chunk.rows(), chunk.count()
        unequal = "" if count == len(rows) else f"{chunk.name} has {count} frames, its text file {len(rows)} lines"
        stem = chunk.name.split(".")[0]
        for number, lines in enumerate(chunk.frames()):
            name, reference = (f"{stem}/{number}", 0.0) if unequal else rows[number]
            yield name, lines, reference, unequal


def _chunks(path: Path) -> Iterator[_Chunk]:
    """Yield the chunk that a file is, or those of a tar in order of their numbers."""
    if not path.name.endswith(TARS):
        yield _Chunk(path.name, lambda name: path.with_name(name).open("rb"))
        return
    with tarfile.open(path, "r:") as archive:
        members = {Path(member.name).name: member for member in archive if member.isfile()}
        check_end(path)
        chunks = sorted((name for name in members if name.endswith(_SUFFIXES)), key=lambda name: (len(name), name))
        if not chunks:
            raise ValueError("no N.extxyz.xz in it")
        for each in chunks:
            yield _Chunk(each, lambda name: _member(archive, members[name]))


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = archive.extractfile(member)
    assert content is not None  # of a regular file
    return content


@contextmanager
def _text(raw: IO[bytes], name: str) -> Iterator[io.TextIOWrapper]:
    with raw, lzma.open(raw) if name.endswith(".xz") else raw as data, io.TextIOWrapper(data, encoding="utf-8") as lines:
        yield lines


def _text_name(name: str) -> str:
    return name.replace(".extxyz", ".txt")
