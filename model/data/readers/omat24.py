"""OMat24: inorganic bulk materials far from equilibrium as `.aselmdb` files, a folder for each way they were made.

Layout: `<rattled-*|aimd-from-*>/<train|val>/*.aselmdb`, container as OC25's: energy (eV), forces (eV/Å), stress (eV/Å³,
Voigt order xx yy zz yz xz xy, tension positive).
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
    title="OMat24",
    count=100_824_585,
    level_of_theory="PBE and PBE+U (VASP, pseudopotentials of 2022)",
    licence="CC BY 4.0",
    citation="Barroso-Luque et al., arXiv:2410.12771 (2024)",
    units={"energy": "eV", "forces": "eV/Å", "length": "Å", "stress": "eV/Å³"},
    energy_kind="total",
    role="pretraining",
    mean_atoms=19.0,
    url="https://huggingface.co/facebook/OMAT24",
    pitfalls=(
        "Newer pseudopotentials than the Materials Project's: neither its references nor MP2020 corrections fit.",
        "The validation files of October 2024 hold duplicates; those of 2024-12-20 (path 241220) do not.",
        "The table of structures in the publisher's manual repeats validation counts as those of training.",
        "Charge and spin are conventions of a training code, not labels.",
        _aselmdb.UNPACK,
    ),
)
_SUBSETS = ("rattled-*", "aimd-from-*")


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
            yield _aselmdb.periodic(f"{place(path, _SUBSETS)}/{key}", row, ("energy", "forces", "stress"))
