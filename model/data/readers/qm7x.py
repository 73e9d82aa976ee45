"""QM7-X: eight HDF5 files, packed by xz as published, a group for each molecule and in it one for each geometry.

Layout: Eight files 1000..8000, `.xz` of an HDF5 file or of a tar with one, or the HDF5 file itself. Groups
`/<molecule>/<Geom-mA-iB-cC-(opt|dN)>/` with atNUM (int, n), atXYZ (Å, n × 3), ePBE0+MBD and ePBE0 (eV, length 1), totFOR
and pbe0FOR (eV/Å, n × 3) and some 40 more. DupMols.dat: a `Geom-mA-iB-cC-opt` a line.
"""

from __future__ import annotations

import lzma
import os
import shutil
import tarfile
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import mkstemp
from typing import IO, Any, Literal

import numpy as np
from pydantic import Field

from model.data.readers.base import SourceInfo, find, per_file, reading, structure
from model.data.structure import Refused, Structure
from model.outcome import CampaignError
from model.specs import Strict

INFO = SourceInfo(
    title="QM7-X",
    count=4_195_237,
    level_of_theory="PBE0+MBD (tight tier-2 basis, FHI-aims)",
    licence="CC BY 4.0",
    citation="Hoja et al., Sci. Data 8, 43 (2021), doi:10.1038/s41597-021-00812-2",
    units={"energy": "eV", "forces": "eV/Å", "length": "Å"},
    energy_kind="total",
    is_absolute=True,
    role="pretraining",
    mean_atoms=17.0,
    url="https://doi.org/10.5281/zenodo.4288677",
    pitfalls=(
        "Two label pairs are consistent: ePBE0+MBD with totFOR, and ePBE0 with pbe0FOR; mixing them breaks forces.",
        "Some equilibrium structures stand twice: DupMols.dat of the same record names them, and lies beside the files.",
        "An .xz holds an HDF5 file or a tar with one, depending on the record's version; it is unpacked to a temporary "
        "file once for each process, so unpacked files are faster.",
        "The authors publish no split; geometries of one molecule stay together by its bond graph.",
        "Charge and spin are not stated.",
    ),
    version=2,
)
_LEVELS = {"pbe0+mbd": INFO.level_of_theory, "pbe0": INFO.level_of_theory.replace("+MBD", "")}
_LABELS = {"pbe0+mbd": ("ePBE0+MBD", "totFOR"), "pbe0": ("ePBE0", "pbe0FOR")}
_DUPLICATES = "DupMols.dat"
_HDF5, _XZ = b"\x89HDF\r\n\x1a\n", b"\xfd7zXZ\x00"


class Config(Strict):
    """Options of the reader."""

    labels: Literal["pbe0+mbd", "pbe0"] = Field(
        "pbe0+mbd", description="Energy and the forces that are its gradient: with many-body dispersion or without."
    )
    duplicates: Literal["drop", "keep"] = Field(
        "drop", description="Whether molecules that DupMols.dat names are left out, with all their geometries."
    )


def info(config: Config) -> SourceInfo:
    """Return the facts with these options."""
    return replace(INFO, level_of_theory=_LEVELS[config.labels])


def files(paths: Sequence[Path], config: Config) -> list[Path]:  # noqa: ARG001 every reader's interface
    """Return the HDF5 files, and packed ones that do not stand unpacked beside."""
    found = find(paths, (".hdf5", ".h5", ".xz"))
    return [p for p in found if p.suffix != ".xz" or not {p.with_suffix(".hdf5"), p.with_suffix(".h5")} & set(found)]


def beside(path: Path, config: Config) -> list[Path]:
    """Return the list of duplicates, where it is heeded."""
    return [path.parent / _DUPLICATES] if config.duplicates == "drop" else []


def count(path: Path, config: Config) -> int:
    """Return the number of geometries."""
    with reading(path):
        return sum(count for _, count in _molecules(path, _dropped(path, config)))


def read(path: Path, config: Config, span: range | None = None) -> Iterator[Structure | Refused]:
    """Yield the geometries of a span, molecule by molecule."""
    first = 0
    with reading(path), _opened(path) as file:
        dropped = _dropped(path, config)
        for molecule, geometries in _molecules(path, dropped):
            window = range(geometries) if span is None else range(max(span.start - first, 0), min(span.stop - first, geometries))
            first += geometries
            if len(window):
                for name in _kept(file[molecule], dropped)[window.start : window.stop]:
                    yield _structure(name, file[molecule][name], config)


@per_file()
def _molecules(path: Path, dropped: frozenset[str]) -> tuple[tuple[str, int], ...]:
    """Return the molecules of a file and how many geometries each keeps."""
    with _opened(path) as file:
        return tuple((name, len(_kept(group, dropped))) for name, group in file.items())


def _kept(molecule: Any, dropped: frozenset[str]) -> list[str]:
    return [name for name in molecule if name.rpartition("-")[0] not in dropped]


def _dropped(path: Path, config: Config) -> frozenset[str]:
    """Return `Geom-mA-iB-cC` of the equilibrium structures that stand elsewhere too, with whom their displaced ones go.

    Raises:
        CampaignError: The list is not there.
    """
    if config.duplicates == "keep":
        return frozenset()
    listed = path.parent / _DUPLICATES
    if not listed.is_file():
        remedy = f"Fetch {_DUPLICATES} of the same record and put it there, or set the option `duplicates: keep`."
        raise CampaignError("the list of duplicates is not there", str(listed), remedy)
    return _listed(listed)


@per_file()
def _listed(path: Path) -> frozenset[str]:
    return frozenset(line.strip().removesuffix("-opt") for line in path.read_text().splitlines() if line.strip())


def _structure(name: str, geometry: Any, config: Config) -> Structure | Refused:
    energy, forces = _LABELS[config.labels]
    missing = [key for key in ("atNUM", "atXYZ", energy, forces) if key not in geometry]
    if missing:
        return Refused(name, f"no {' and no '.join(missing)}")
    labels = {"energy": np.ravel(geometry[energy][()])[0], "forces": geometry[forces][()]}
    return structure(geometry["atNUM"][()], geometry["atXYZ"][()], labels, names=(name, None))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open an HDF5 file, packed or not: by its first bytes, whatever its name says."""
    import h5py

    with path.open("rb") as raw:
        packed = raw.read(len(_XZ)) == _XZ
    with h5py.File(_unpacked(path).path if packed else path, "r") as file:
        yield file


@dataclass(frozen=True, eq=False)
class _Temporary:
    """A file that is removed when the last one who knows it forgets it, at the latest when the process ends."""

    path: Path


@per_file(files=1)
def _unpacked(path: Path) -> _Temporary:
    """Return a temporary file with the HDF5 file that an .xz holds, bare or in a tar."""
    handle, name = mkstemp(suffix=".hdf5")
    temporary = _Temporary(Path(name))
    weakref.finalize(temporary, os.unlink, name)
    with os.fdopen(handle, "wb") as target, lzma.open(path) as stream:
        head = stream.peek(512)[:512]
        if head.startswith(_HDF5):
            shutil.copyfileobj(stream, target)
        elif head[257:262] == b"ustar":
            _unpack_tar(stream, target)
        else:
            raise ValueError("the .xz holds neither an HDF5 file nor a tar")
    return temporary


def _unpack_tar(stream: Any, target: IO[bytes]) -> None:
    with tarfile.open(fileobj=stream, mode="r|") as archive:
        for member in archive:
            content = archive.extractfile(member)
            head = content.read(len(_HDF5)) if content is not None else b""
            if content is not None and head == _HDF5:
                target.write(head)
                shutil.copyfileobj(content, target)
                return
    raise ValueError("the tar in the .xz holds no HDF5 file")
