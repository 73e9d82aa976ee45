"""OC25's container: slabs in an `.aselmdb` by ase-db-backends, under `train`."""

from __future__ import annotations

from pathlib import Path

from ase import Atoms

from model.data.miniature.base import aselmdb, bare
from model.data.readers.oc25 import Config

FAMILY = "slabs"


def write(folder: Path, structures: list[Atoms], config: Config) -> list[Path]:  # noqa: ARG001 every miniature's interface
    """Write one shard, with fixed atoms."""
    return aselmdb(folder / "train" / "data0000.aselmdb", [bare(atoms, "energy", "forces") for atoms in structures])
