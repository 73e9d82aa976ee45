"""OQMD ABX3: formation energies of 16,323 perovskites in a csv file; the structures are OQMD's.

Layout: csv with entry_id and Ef (eV/atom) among its columns; beside it JSON answers `{"data": [{entry_id, unit_cell (Å,
rows), sites ["El @ x y z", fractions]}]}`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from model.data.readers import _tables
from model.data.readers._crystal import Crystal, atomic_number
from model.data.readers.base import SourceInfo, per_file, reading
from model.data.structure import Refused, Structure
from model.specs import Strict

INFO = SourceInfo(
    title="OQMD ABX3",
    count=16_323,
    level_of_theory="PBE and PBE+U (VASP), OQMD's fitted elements",
    licence="CC BY 4.0 (OQMD)",
    citation="Chenebuah et al., arXiv:2312.11335 (2023), and Kirklin et al., npj Comput. Mater. 1, 15010 (2015)",
    units={"target": "eV/atom", "length": "Å"},
    energy_kind="none",
    role="finetuning",
    mean_atoms=8.0,
    url="https://github.com/chenebuah/ML_abx3_dataset/blob/main/oqmd_data.csv",
    target="scalar",
    pitfalls=(
        "The csv file holds no structures: they come from OQMD's REST service, a hundred entries at a time.",
        "Sites, `El @ x y z`, are fractional, although some data sets made of them call them Cartesian.",
        "Entries that the service has no more go to the reject file.",
        "Formation energies are `Ef` of the csv file, eV per atom.",
    ),
    target_unit="eV/atom",
)
_REMEDY = (
    "Ask http://oqmd.org/oqmdapi/formationenergy?filter=generic=ABC3&fields=entry_id,sites,unit_cell&limit=100 and follow "
    "links.next to the end; save the JSON answers as one list in this file."
)


class Config(Strict):
    """Options of the reader."""

    structures: str = Field("oqmd_structures.json", description="File beside the csv with the answers of OQMD's REST service.")


def files(paths: Sequence[Path], config: Config) -> list[Path]:
    """Return the csv files, each with its structures beside it.

    Raises:
        CampaignError: No csv file; or no structures, with how to get them.
    """
    return _tables.files(paths, "oqmd_data.csv", config.structures, _REMEDY)


def beside(path: Path, config: Config) -> list[Path]:
    """Return the file of structures."""
    return [path.with_name(config.structures)]


def count(path: Path, config: Config) -> int:  # noqa: ARG001
    """Return the number of rows."""
    with reading(path):
        return sum(1 for _ in _rows(path))


def read(path: Path, config: Config, span: range | None = None) -> Iterator[Structure | Refused]:
    """Yield the rows of a span; those without a structure or a formation energy are refused."""
    found = _structures(path.with_name(config.structures))
    with reading(path):
        first, stop = (0, None) if span is None else (span.start, span.stop)
        for row in itertools.islice(_rows(path), first, stop):
            yield _tables.labelled(row["entry_id"].strip().removesuffix(".0"), row["Ef"], found)


def _rows(path: Path) -> Iterator[dict[str, str]]:
    return _tables.rows(path, ("entry_id", "Ef"))


@per_file(files=1)
def _structures(path: Path) -> _tables.Structures:
    return _tables.structures(path, "entry_id", _crystal)


def _crystal(record: dict[str, Any]) -> Crystal:
    """Return a crystal of `unit_cell` (Å, vectors as rows) and `sites`, each `El @ x y z` in fractions of it."""
    cell = np.array(record["unit_cell"], np.float64)
    sites = [site.replace("@", " ").split() for site in record["sites"]]
    fractions = np.array([site[1:] for site in sites], np.float64).reshape(-1, 3)
    return [atomic_number(site[0]) for site in sites], fractions @ cell, (cell, [True] * 3)
