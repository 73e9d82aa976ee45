"""Write labelled structures into the containers that published data sets come in, whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import ase.db
import ase.io
import numpy as np
from ase import Atoms
from ase.units import Hartree

Writer = Callable[[Path, list[Atoms]], None]


def write(path: Path, structures: list[Atoms], writer: Writer) -> None:
    """Write into a folder beside `path`, then rename: a reader sees the whole file or none."""
    beside = path.parent / f".{path.name}.{os.getpid()}"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    writer(beside / path.name, structures)
    with (beside / path.name).open("rb") as file:
        os.fsync(file.fileno())
    (beside / path.name).replace(path)
    shutil.rmtree(beside)


def extended_xyz(path: Path, structures: list[Atoms]) -> None:
    """Write extended XYZ: eV, eV/Å, labels where a structure has them."""
    ase.io.write(path, structures, format="extxyz")


def ase_database(path: Path, structures: list[Atoms]) -> None:
    """Write an ASE sqlite database: eV, eV/Å, the molecule's name as a key."""
    _rows(path, structures, lambda atoms: {"key_value_pairs": {"molecule": atoms.info["molecule"]}})


def aselmdb(path: Path, structures: list[Atoms]) -> None:
    """Write an LMDB of zlib-compressed JSON as OMol25 is published: eV, eV/Å, `data.charge` and `data.spin`."""
    _rows(path, structures, lambda atoms: {"data": {"charge": 0, "spin": 1, "source": atoms.info["molecule"]}})


def ani(level: str) -> Writer:
    """Return a writer of HDF5 as ANI-1x is published: a group for each formula, Hartree, Hartree/Å.

    Args:
        level: Prefix of the two label sets, `<level>.energy` and `<level>.forces`.
    """

    def writer(path: Path, structures: list[Atoms]) -> None:
        import h5py

        with h5py.File(path, "w") as file:
            for formula, group in _by_formula(structures).items():
                data = file.create_group(formula)
                data["atomic_numbers"] = group[0].numbers.astype(np.uint8)
                data["coordinates"] = np.array([each.positions for each in group])
                data[f"{level}.energy"] = np.array([each.get_potential_energy() for each in group]) / Hartree
                data[f"{level}.forces"] = np.array([each.get_forces() for each in group]) / Hartree

    return writer


def _rows(path: Path, structures: list[Atoms], fields: Callable[[Atoms], dict[str, object]]) -> None:
    with ase.db.connect(path, append=False) as database:
        for atoms in structures:
            database.write(atoms, **fields(atoms))


def _by_formula(structures: list[Atoms]) -> dict[str, list[Atoms]]:
    groups: dict[str, list[Atoms]] = defaultdict(list)
    for atoms in structures:
        groups[atoms.get_chemical_formula()].append(_sorted(atoms))
    return dict(sorted(groups.items()))


def _sorted(atoms: Atoms) -> Atoms:
    """Order atoms by number, so that isomers can share one `atomic_numbers`."""
    order = np.argsort(atoms.numbers, kind="stable")
    copy = atoms[order]
    copy.calc = type(atoms.calc)(copy, energy=atoms.get_potential_energy(), forces=atoms.get_forces()[order])
    return copy
