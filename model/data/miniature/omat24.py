"""OMat24's container: crystals with stress in an `.aselmdb` by ase-db-backends, in the folder of a subset."""

from __future__ import annotations

from pathlib import Path

from ase import Atoms

from model.data.miniature.base import aselmdb, bare
from model.data.readers.omat24 import Config

FAMILY = "crystals"


def write(folder: Path, structures: list[Atoms], config: Config) -> list[Path]:  # noqa: ARG001 every miniature's interface
    """Write one shard of a subset."""
    rows = [bare(atoms, "energy", "forces", "stress") for atoms in structures]
    return aselmdb(folder / "rattled-300" / "data0000.aselmdb", rows)
