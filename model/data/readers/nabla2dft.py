"""nabla2DFT: ASE sqlite databases with formation energies and forces in `row.data`, in Hartree.

Layout: ASE sqlite `.db`; a row has key_value_pairs moses_id, conformation_id, smiles; data.energy (list of one, Hartree,
total minus isolated atoms), data.forces (float64, Hartree/Å, n × 3); no calculator. metadata: _distance_unit,
_property_unit_dict, atomrefs.energy (Hartree, by atomic number).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from model.data.readers.ase_db import connect, rows
from model.data.readers.base import HARTREE_EV, SourceInfo, attempt, find, reading, structure
from model.data.structure import Refused, Structure
from model.outcome import CampaignError
from model.specs import Strict

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
        "Energies are formation energies (total minus isolated atoms): not comparable with totals of other sets. The option "
        "`energy: total` adds the isolated atoms again, as the file tabulates them.",
        "Forces are in Hartree/Å, not Hartree/bohr; a file that states other units is refused.",
        "Charge and spin are not stated.",
    ),
)
_UNITS = {"energy": "Hartree", "forces": "Hartree/Ang"}


class Config(Strict):
    """Options of the reader."""

    energy: Literal["formation", "total"] = Field(
        "formation", description="As published, or with the energies of the isolated atoms that the file's metadata tabulate."
    )


def info(config: Config) -> SourceInfo:
    """Return the facts with these options."""
    return replace(INFO, energy_kind=config.energy)


def files(paths: Sequence[Path], config: Config) -> list[Path]:  # noqa: ARG001 every reader's interface
    """Return the databases."""
    return find(paths, (".db",))


def count(path: Path, config: Config) -> int:  # noqa: ARG001
    """Return the number of rows."""
    with reading(path):
        return connect(path).count()


def read(path: Path, config: Config, span: range | None = None) -> Iterator[Structure | Refused]:
    """Yield the rows of a span."""
    with reading(path):
        database = connect(path)
        _check_units(path, database.metadata)
        atoms = _atoms(path, database.metadata) if config.energy == "total" else None
        for row in rows(database, span):
            keys = row.key_value_pairs
            name = f"{keys.get('moses_id', row.id)}/{keys.get('conformation_id', row.id)}"
            yield attempt(name, _structure, row, atoms)


def _structure(name: str, row: Any, atoms: NDArray[np.float64] | None) -> Structure:
    isolated = 0.0 if atoms is None else float(atoms[row.numbers].sum())
    if np.isnan(isolated):
        raise ValueError("the file tabulates no isolated atom of one of its elements")
    labels = {"energy": (row.data["energy"][0] + isolated) * HARTREE_EV, "forces": row.data["forces"] * HARTREE_EV}
    return structure(row.numbers, row.positions, labels, names=(name, None))


def _atoms(path: Path, metadata: dict[str, Any]) -> NDArray[np.float64]:
    """Return the energies of isolated atoms by atomic number, Hartree, (256,); NaN where none is tabulated (0 there).

    Raises:
        CampaignError: The file tabulates none.
    """
    table = np.full(256, np.nan)
    stated = np.ravel((metadata.get("atomrefs") or {}).get("energy") or [])
    if not stated.size:
        remedy = "Take formation energies, which references fitted to the data make totals of just as well."
        raise CampaignError("tabulates no energies of isolated atoms (metadata, `atomrefs`)", str(path), remedy)
    table[: len(stated)] = np.where(stated == 0, np.nan, stated)
    return table


def _check_units(path: Path, metadata: dict[str, Any]) -> None:
    """Compare the units that the file states, where it does, with those this reader converts from."""
    stated = metadata.get("_property_unit_dict", _UNITS)
    for name, unit in _UNITS.items():
        if stated.get(name, unit) != unit:
            what = f"states {name} in {stated[name]}, not {unit}"
            raise CampaignError(what, str(path), "Use the reader `ase_db` with its units.")
