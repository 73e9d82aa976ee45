"""nabla2DFT: ASE sqlite databases with formation energies and forces in `row.data`, in Hartree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from model.config import Strict
from model.data.readers.ase_db import connect, rows
from model.data.readers.base import HARTREE_EV, SourceInfo, find, reading, structure
from model.data.structure import Structure
from model.outcome import CampaignError

INFO = SourceInfo(
    title="∇²DFT energy databases",
    count=12_676_264,
    level_of_theory="wB97X-D/def2-SVP",
    licence="CC BY-NC-SA 4.0",
    citation="Khrabrov et al., NeurIPS Datasets and Benchmarks 2024, arXiv:2406.14347",
    units={"energy": "Hartree", "forces": "Hartree/Å", "length": "Å"},
    energy_kind="formation",
    role="pretraining",
    mean_atoms=40.0,
    url="https://github.com/AIRI-Institute/nablaDFT",
    pitfalls=(
        "Energies are formation energies (total minus isolated atoms): not comparable with totals of other sets.",
        "Forces are in Hartree/Å, not Hartree/bohr; a file that states other units is refused.",
        "Charge and spin are not stated.",
    ),
)
_UNITS = {"energy": "Hartree", "forces": "Hartree/Ang"}


class Config(Strict):
    """Options of the reader: none."""


def files(paths: Sequence[Path], config: Config) -> list[Path]:  # noqa: ARG001 every reader's interface
    """Return the databases."""
    return find(paths, (".db",))


def count(path: Path, config: Config) -> int:  # noqa: ARG001
    """Return the number of rows."""
    with reading(path):
        return connect(path).count()


def read(path: Path, config: Config, span: range | None = None) -> Iterator[Structure]:  # noqa: ARG001
    """Yield the rows of a span; the energy is total minus isolated atoms."""
    with reading(path):
        database = connect(path)
        _check_units(path, database.metadata)
        for row in rows(database, span):
            yield _structure(row)


def _structure(row: Any) -> Structure:
    labels = {"energy": row.data["energy"][0] * HARTREE_EV, "forces": row.data["forces"] * HARTREE_EV}
    keys = row.key_value_pairs
    name = f"{keys.get('moses_id', row.id)}/{keys.get('conformation_id', row.id)}"
    return structure(row.numbers, row.positions, labels, names=(name, None))


def _check_units(path: Path, metadata: dict[str, Any]) -> None:
    """Compare the units that the file states, where it does, with those this reader converts from."""
    stated = metadata.get("_property_unit_dict", _UNITS)
    for name, unit in _UNITS.items():
        if stated.get(name, unit) != unit:
            what = f"states {name} in {stated[name]}, not {unit}"
            raise CampaignError(what, str(path), "Use the reader `ase_db` with its units.")
