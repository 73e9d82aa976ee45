"""ODAC23's archive: a compressed tar of one extended XYZ file for each trajectory, with fixed atoms."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import ase.io
from ase import Atoms

from model.data.miniature.base import bare, grouped
from model.data.readers.odac23 import Config

FAMILY = "slabs"


def write(folder: Path, structures: list[Atoms], config: Config) -> list[Path]:  # noqa: ARG001 every miniature's interface
    """Write one archive; slabs of one composition with their adsorbates are a trajectory."""
    path = folder / "extxyz_train.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, group in grouped(structures, Atoms.get_chemical_formula).items():
            text = io.StringIO()
            ase.io.write(text, [bare(atoms, "energy", "forces") for atoms in group], format="extxyz")
            data = text.getvalue().encode()
            member = tarfile.TarInfo(f"train/{name}.extxyz")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return [path]
