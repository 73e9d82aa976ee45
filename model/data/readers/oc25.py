"""OC25: solid-liquid interfaces as `.aselmdb` files under `train` and `val`.

Layout: `.aselmdb` under train and val: LMDB of zlib-compressed JSON under ASCII ids, beside nextid, deleted_ids and
metadata. A row has numbers, positions (Å), cell, pbc, constraints; energy (eV) and forces (eV/Å) in itself, its
key_value_pairs or its data; arrays are `{"__ndarray__": [shape, dtype, flat]}`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from model.data.readers import _aselmdb
from model.data.readers._names import place
from model.data.readers.base import SourceInfo, reading
from model.data.structure import Refused, Structure
from model.specs import Strict

INFO = SourceInfo(
    title="OC25",
    count=7_801_261,
    level_of_theory="RPBE+D3 (VASP)",
    licence="CC BY 4.0",
    citation="Sahoo et al., arXiv:2509.17862 (2025)",
    units={"energy": "eV", "forces": "eV/Å", "length": "Å"},
    energy_kind="total",
    role="pretraining",
    mean_atoms=144.0,
    url="https://huggingface.co/facebook/OC25",
    pitfalls=(
        "Labels stand in the row, in its keys or in its data, whatever wrote the file: all three are looked into.",
        "Totals, as in OC22; not OC20's adsorption energies.",
        "Forces of fixed atoms are in the row; ASE zeroes them unless told not to.",
        "Charge and spin that a row may state are conventions of a training code (0 and 0, or 0 and 1), not labels.",
    ),
)


class Config(Strict):
    """Options of the reader: none."""


def files(paths: Sequence[Path], config: Config) -> list[Path]:  # noqa: ARG001 every reader's interface
    """Return the shards."""
    return _aselmdb.files(paths)


def count(path: Path, config: Config) -> int:  # noqa: ARG001
    """Return the number of rows."""
    with reading(path):
        return len(_aselmdb.keys(path))


def read(path: Path, config: Config, span: range | None = None) -> Iterator[Structure | Refused]:  # noqa: ARG001
    """Yield the rows of a span, in the order of their ids."""
    with reading(path):
        for key, row in _aselmdb.rows(path, span):
            yield _aselmdb.periodic(f"{place(path)}/{key}", row, ("energy", "forces"))
