"""OMol25's container: LMDB of zlib-compressed JSON by ase-db-backends, eV, with charge and multiplicity in `data`."""

from __future__ import annotations

from pathlib import Path

import ase.db
from ase import Atoms

from model.data.readers.omol25 import Config, subset_of

FAMILY = "ions"


def write(folder: Path, structures: list[Atoms], config: Config) -> list[Path]:  # noqa: ARG001 every miniature's interface
    """Write one shard; a structure that states no charge and spin is a neutral singlet."""
    path = folder / "data0000.aselmdb"
    with ase.db.connect(path, append=False) as database:
        for atoms in structures:
            bare = atoms.copy()
            bare.info, bare.calc = {}, atoms.calc
            database.write(bare, data=_data(atoms))
    return [path]


def suits(atoms: Atoms, config: Config) -> bool:
    """Return whether the reader takes a structure under its options."""
    return config.subset in ("all", subset_of(atoms.info["charge"], atoms.info["spin"]))


def _data(atoms: Atoms) -> dict[str, object]:
    charge, spin = atoms.info.get("charge", 0), atoms.info.get("spin", 1)
    electrons = int(atoms.numbers.sum()) - charge
    facts = {"num_atoms": len(atoms), "num_electrons": electrons, "num_ecp_electrons": 0, "unrestricted": spin != 1}
    return {"source": atoms.info["molecule"], "data_id": "miniature", "charge": charge, "spin": spin, **facts}
