"""ABX3 (Chenebuah): formation energies of 4,557 perovskites in a csv file; the structures are the Materials Project's.

Layout: csv with mp_id and `formation_energy (eV/atom)` among its columns; beside it JSON answers `{"data": [{material_id,
structure (pymatgen)}]}`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from model.data.readers import _tables
from model.data.readers._crystal import Crystal, crystal
from model.data.readers.base import SourceInfo, per_file, reading
from model.data.structure import Refused, Structure
from model.specs import Strict

INFO = SourceInfo(
    title="ABX3",
    count=4_557,
    level_of_theory="PBE and PBE+U (VASP), MP2020-corrected",
    licence="CC BY 4.0 (Materials Project)",
    citation="Chenebuah, https://github.com/chenebuah/ML_abx3_dataset, and Jain et al., APL Mater. 1, 011002 (2013)",
    units={"target": "eV/atom", "length": "Å"},
    energy_kind="none",
    role="finetuning",
    mean_atoms=13.0,
    url="https://github.com/chenebuah/ML_abx3_dataset/blob/main/abc3_data.csv",
    target="scalar",
    pitfalls=(
        "The csv file holds no structures: they come from the Materials Project, with a key, by `mp_id`.",
        "Some ids were withdrawn since, and three rows have no formation energy: these go to the reject file.",
        "Structures are today's; formation energies those of the csv file.",
        "Names of columns have units in them and must be stripped.",
    ),
    target_unit="eV/atom",
)
_TARGET = "formation_energy (eV/atom)"
_REMEDY = (
    "Ask https://api.materialsproject.org/materials/summary/ (header X-API-KEY: a free key) with material_ids=<mp_id's of the "
    "csv file, some hundred at a time> and _fields=material_id,structure; save the JSON answers as one list in this file."
)


class Config(Strict):
    """Options of the reader."""

    structures: str = Field(
        "abx3_structures.json", description="File beside the csv with the answers of the Materials Project's REST service."
    )


def files(paths: Sequence[Path], config: Config) -> list[Path]:
    """Return the csv files, each with its structures beside it.

    Raises:
        CampaignError: No csv file; or no structures, with how to get them.
    """
    return _tables.files(paths, "abc3_data.csv", config.structures, _REMEDY)


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
            yield _tables.labelled(row["mp_id"].strip(), row[_TARGET], found)


def _rows(path: Path) -> Iterator[dict[str, str]]:
    return _tables.rows(path, ("mp_id", _TARGET))


@per_file(files=1)
def _structures(path: Path) -> _tables.Structures:
    return _tables.structures(path, "material_id", _crystal)


def _crystal(record: dict[str, Any]) -> Crystal:
    return crystal(record["structure"])
