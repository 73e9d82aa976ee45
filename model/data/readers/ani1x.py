"""ANI-1x: one HDF5 file, a group for each formula, labels at several levels with NaN where a level was not computed.

Layout: HDF5. `/<formula>/` with atomic_numbers (uint8, n), coordinates (float32, Å, m × n × 3) and for each level
`<level>.energy` (float64, Hartree, m) and `<level>.forces` (float32, Hartree/Å, m × n × 3), NaN where not computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from model.data.readers.base import HARTREE_EV, SourceInfo, find, reading, structure
from model.data.structure import Structure
from model.specs import Strict

INFO = SourceInfo(
    title="ANI-1x",
    count=4_956_005,
    level_of_theory="wB97X/6-31G(d)",
    licence="CC0",
    citation="Smith et al., Sci. Data 7, 134 (2020), doi:10.1038/s41597-020-0473-z",
    units={"energy": "Hartree", "forces": "Hartree/Å", "length": "Å"},
    energy_kind="total",
    is_absolute=True,
    role="pretraining",
    mean_atoms=15.0,
    url="https://doi.org/10.6084/m9.figshare.c.4712477",
    pitfalls=(
        "Labels are NaN where a level was not computed; only records with the level's energy and forces are taken.",
        "Forces are in Hartree/Å, not Hartree/bohr.",
        "The authors publish no split; charge and spin are not stated.",
    ),
    version=2,
)
_LEVELS = {"wb97x_dz": INFO.level_of_theory, "wb97x_tz": "wB97X/def2-TZVPP", "ccsd(t)_cbs": "CCSD(T)*/CBS"}
_ROWS_AT_ONCE = 1024


class Config(Strict):
    """Options of the reader."""

    level: str = Field("wb97x_dz", description="Prefix of the label set: `<level>.energy`, `<level>.forces`.")
    forces: bool = Field(True, description="Take only records that have forces at this level.")


def info(config: Config) -> SourceInfo:
    """Return the facts with these options; a level that the authors do not publish has the name of its labels."""
    units = {name: unit for name, unit in INFO.units.items() if config.forces or name != "forces"}
    return replace(INFO, level_of_theory=_LEVELS.get(config.level, config.level), units=units)


def files(paths: Sequence[Path], config: Config) -> list[Path]:  # noqa: ARG001 every reader's interface
    """Return the HDF5 files."""
    return find(paths, (".h5", ".hdf5"))


def count(path: Path, config: Config) -> int:
    """Return the records labelled at the level; the others are not of this branch and are no rejects."""
    with reading(path):
        return sum(len(_labelled(group, config)) for _, group in _groups(path))


def read(path: Path, config: Config, span: range | None = None) -> Iterator[Structure]:
    """Yield the labelled records of a span, formula by formula."""
    span, first = range(count(path, config)) if span is None else span, 0
    with reading(path):
        for formula, group in _groups(path):
            rows = _labelled(group, config)
            wanted = rows[max(span.start - first, 0) : max(span.stop - first, 0)]
            first += len(rows)
            for start in range(0, len(wanted), _ROWS_AT_ONCE):
                yield from _structures(formula, group, wanted[start : start + _ROWS_AT_ONCE], config)


def _groups(path: Path) -> Iterator[tuple[str, Any]]:
    import h5py

    with h5py.File(path, "r") as file:
        yield from file.items()


def _labelled(group: Any, config: Config) -> NDArray[np.int64]:
    """Return the rows of a group that are labelled at the level.

    Raises:
        ValueError: Nothing is, or has no forces, at this level.
    """
    wanted = [f"{config.level}.energy", *([f"{config.level}.forces"] if config.forces else [])]
    missing = [key for key in wanted if key not in group]
    if missing:
        levels = sorted(key.removesuffix(".energy") for key in group if key.endswith(".energy"))
        raise ValueError(f"no {' and no '.join(missing)}; levels with energies: {', '.join(levels) or 'none'}")
    known = np.isfinite(group[f"{config.level}.energy"][()])
    if config.forces:
        forces = group[f"{config.level}.forces"]
        # One component tells: the release fills whole records with NaN.
        known &= ~np.isnan(forces[:, 0, 0])
    return np.flatnonzero(known)


def _structures(formula: str, group: Any, rows: NDArray[np.int64], config: Config) -> Iterator[Structure]:
    numbers = group["atomic_numbers"][()]
    positions = group["coordinates"][rows]
    energy = group[f"{config.level}.energy"][rows] * HARTREE_EV
    forces = group[f"{config.level}.forces"][rows].astype(np.float64) * HARTREE_EV if config.forces else [None] * len(rows)
    for row, x, e, f in zip(rows.tolist(), positions, energy, forces, strict=True):
        yield structure(numbers, x, {"energy": e, "forces": f}, names=(f"{formula}/{row}", None))
