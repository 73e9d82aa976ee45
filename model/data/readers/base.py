"""What every reader has: facts about its source, how files are found, units, and how a damaged file is reported."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from model.data.structure import UNLABELLED, Refused, Structure
from model.outcome import CampaignError
from model.specs import Strict

HARTREE_EV = 27.211386245988
"""CODATA 2018 (NIST SP 961). `ase.units.Hartree` is CODATA 2014, 8e-9 smaller: 0.1 meV at 560 Hartree."""
BOHR_ANGSTROM = 0.529177210903
"""CODATA 2018."""
KCAL_PER_MOL_EV = 4184 / (6.02214076e23 * 1.602176634e-19)
"""Thermochemical: 4184 J / (N_A e), exact since the SI of 2019."""
ENERGY_UNITS = {"eV": 1.0, "Hartree": HARTREE_EV, "kcal/mol": KCAL_PER_MOL_EV}
EnergyUnit = Literal["eV", "Hartree", "kcal/mol"]


Found = TypeVar("Found")
Role = Literal["pretraining", "finetuning", "container"]
EnergyKind = Literal["total", "formation", "adsorption", "relative", "none", "as given"]
Target = Literal["energy", "scalar", "class"]


@dataclass(frozen=True)
class SourceInfo:
    """Facts about a source as it is published.

    Attributes:
        title: Its name.
        count: Structures published; None for a container that anyone may fill, and where no count was found.
        level_of_theory: Of energies and forces; empty for a container.
        licence: Of the data.
        citation: Whom to cite.
        units: Published units of energy, forces and length (those it has); of `target` for a scalar or class.
        energy_kind: What the stored energy is: total, formation, adsorption (minus bare slab and gas), relative to another
            structure, none (the label is a scalar or a class, and stands in a structure's `target`), or as the file's
            author meant it.
        role: What it is for; a container may hold either.
        mean_atoms: Atoms per structure on average, roughly, to estimate bytes; None where unknown.
        url: Where it is published; empty for a container.
        target: What a set to fine-tune on labels by default: an energy, another scalar, or a class as 0 and 1; None for
            the others.
        pitfalls: Sentences that a user should know.
        target_unit: Unit of a scalar target in the store; empty for a class and where there is none.
        is_absolute: Total energies are counted from nuclei and electrons apart, as quantum chemistry does, not from pseudo-atoms.
        unseen: What of its structures identities do not tell, so that no count of leakage shows it; empty where they tell all.
        version: Of the reader; raised when it gives other values, ids or identities for the same file, so that no store
            mixes the two.
    """

    title: str
    count: int | None
    level_of_theory: str
    licence: str
    citation: str
    units: dict[str, str]
    energy_kind: EnergyKind
    role: Role = "container"
    mean_atoms: float | None = None
    url: str = ""
    target: Target | None = None
    pitfalls: tuple[str, ...] = ()
    target_unit: str = ""
    is_absolute: bool = False
    unseen: str = ""
    version: int = 1

    @property
    def checks(self) -> dict[str, bool]:
        """Return what `model.data.validation.fault` is to hold records of this source to."""
        return {
            "is_absolute": self.is_absolute and self.energy_kind == "total",
            "requires_energy": self.role != "container" and self.energy_kind != "none",
        }


class Reader(Protocol):
    """A module of this folder; its name is the reader's name in the YAML.

    A file is an ordered list of records. `count` tells how many, `read` yields exactly one structure for each
    record of a span, so that a position names a record and work can be divided within a file. A record that
    makes no physical sense is yielded as it is: `model.data.validation` judges it; one of which no structure can be
    made is yielded as `Refused`. Where options change what the labels are, the module has `info(config)` too; where
    records are made of more files than their own, `beside(path, config)`, which names the others. Files whose records cannot be
    reached but through all before them end in one of the module's `FORWARD`: one rank converts each of them, in one pass.
    """

    INFO: SourceInfo
    Config: type[Strict]

    def files(self, paths: Sequence[Path], config: Any) -> list[Path]:
        """Return the source files under `paths`, sorted by path."""

    def count(self, path: Path, config: Any) -> int:
        """Return the number of records in a file.

        Raises:
            CampaignError: The file cannot be read; names it.
        """

    def read(self, path: Path, config: Any, span: range | None = None) -> Iterator[Structure | Refused]:
        """Yield the records of a span (all without one) in order, in eV and Å, holding few at a time.

        Raises:
            CampaignError: The file is truncated or corrupt; names it.
        """


def info_of(reader: Reader, config: Any) -> SourceInfo:
    """Return the facts about a source as it is read with these options."""
    special = getattr(reader, "info", None)
    return reader.INFO if special is None else cast(SourceInfo, special(config))


def is_forward(reader: Reader, path: Path) -> bool:
    """Say whether a file can only be read from its beginning, so that whoever wants its end has to read all of it."""
    return path.name.endswith(getattr(reader, "FORWARD", ()))


def beside(reader: Reader, path: Path, config: Any) -> list[Path]:
    """Return the files besides a source file that its records are made of; a change of one changes the records."""
    special = getattr(reader, "beside", None)
    return [] if special is None else cast(list[Path], special(path, config))


def find(paths: Sequence[Path], suffixes: tuple[str, ...]) -> list[Path]:
    """Return files as given and, under folders, files with one of the suffixes, sorted.

    Args:
        paths: Files and folders.
        suffixes: Ends of names, in which `?` stands for any character and `*` for any number of them.

    Raises:
        CampaignError: A path does not exist, or nothing is found.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise CampaignError("no such file or folder", str(path), "Mend the branch's path.")
        inside = path.rglob("*") if path.is_dir() else [path]
        found.extend(sorted(p for p in inside if p == path or (p.is_file() and _ends(p.name, suffixes))))
    if not found:
        where = ", ".join(map(str, paths))
        raise CampaignError(f"no file that ends in {' or '.join(suffixes)}", where, "Mend the branch's path.")
    return found


def _ends(name: str, suffixes: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, f"*{suffix}") for suffix in suffixes)


def per_file(files: int = 4) -> Callable[[Callable[..., Found]], Callable[..., Found]]:
    """Let a function remember what it found out about its last files, for as long as their size and time of change stand.

    The function takes a path and hashable options. What it returns must be small beside the file, and is shared.

    Args:
        files: How many files are remembered.
    """

    def decorate(function: Callable[..., Found]) -> Callable[..., Found]:
        @lru_cache(maxsize=files)
        def kept(path: Path, _stamp: tuple[int, int], *options: Any) -> Found:
            return function(path, *options)

        @wraps(function)
        def remembering(path: Path, *options: Any) -> Found:
            status = path.stat()
            return kept(path, (status.st_size, status.st_mtime_ns), *options)

        return remembering

    return decorate


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a file library raises on a damaged file into one error that names the file."""
    try:
        yield
    except (CampaignError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.EIO, errno.ESTALE, errno.ENOSPC):
            raise
        what = f"truncated, corrupt or not in this reader's format ({type(error).__name__}: {error})"
        raise CampaignError(what, str(path), "Compare its size and hash with the publisher's and fetch it again.") from error


def attempt(name: str, make: Callable[..., Structure | Refused], *record: Any) -> Structure | Refused:
    """Return the structure of a record, or the record refused with the reason why it holds none.

    Args:
        name: The record's id.
        make: Makes the structure of the id and the rest.
        record: The rest.
    """
    try:
        return make(name, *record)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        return Refused(name, f"no structure can be made of it ({type(error).__name__}: {error})")


def structure(
    numbers: Any, positions: Any, labels: dict[str, Any], *, box: tuple[Any, Any] | None = None, names: tuple[str, str | None]
) -> Structure:
    """Build a structure in float64 from what a record holds.

    Args:
        numbers: Atomic numbers.
        positions: Å.
        labels: Any of `energy` (eV), `forces` (eV/Å), `stress` (eV/Å³, tension positive, 3 × 3), `charge`, `spin`,
            `target`.
        box: Cell as rows and periodicity; none for a molecule.
        names: Id, and the identity where the source names one.

    Raises:
        ValueError: An atomic number that is none, a charge or multiplicity that is no whole number, or ragged arrays.
    """
    numbers, positions = _numbers(numbers), np.asarray(positions, np.float64)
    cell, pbc = box if box is not None else (np.zeros((3, 3)), np.zeros(3, bool))
    pbc = np.asarray(pbc, bool)
    charge, spin = labels.get("charge"), labels.get("spin")
    return Structure(
        numbers=numbers,
        positions=positions,
        cell=np.asarray(cell, np.float64),
        pbc=pbc,
        energy=_scalar(labels.get("energy")),
        forces=_array(labels.get("forces")),
        stress=_array(labels.get("stress")),
        charge=UNLABELLED if charge is None else _whole(charge),
        spin=UNLABELLED if spin is None else _whole(spin),
        id=names[0],
        identity=names[1] or _identity(numbers, positions, pbc),
        target=_scalar(labels.get("target")),
    )


def _numbers(values: Any) -> NDArray[np.uint8]:
    found = np.asarray(values)
    if found.size and (found.min() < 0 or found.max() > 255):
        raise ValueError(f"atomic numbers from {found.min()} to {found.max()}")
    return found.astype(np.uint8)


def _whole(value: Any) -> int:
    if float(value) != int(value):
        raise ValueError(f"{value} is no whole number")
    return int(value)


def _scalar(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _array(values: Any) -> NDArray[np.float64] | None:
    return None if values is None else np.asarray(values, np.float64)


def _identity(numbers: NDArray[np.uint8], positions: NDArray[np.float64], pbc: NDArray[np.bool_]) -> str:
    """Return the identity; a record of impossible shape gets none, since it will be rejected."""
    if positions.shape != (len(numbers), 3) or not len(numbers) or numbers.max() > 118 or not np.isfinite(positions).all():
        return ""
    from model.data.identity import identity  # needs ase, which a login node that only checks options may lack

    return identity(numbers, positions, pbc)
