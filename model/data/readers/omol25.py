"""OMol25 `.aselmdb` shards: LMDB files whose values are zlib-compressed JSON, with charge and spin in `data`.

Layout: `data0000.aselmdb` to 0079, container as OC25's: numbers, positions (Å), cell of zeros, pbc false, energy (eV),
forces (eV/Å), and data with source, data_id, charge (int), spin (int, 2S+1), num_electrons and more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from model.data.readers import _aselmdb
from model.data.readers.base import SourceInfo, attempt, per_file, reading, structure
from model.data.structure import Refused, Structure
from model.specs import Strict

INFO = SourceInfo(
    title="OMol25",
    count=101_666_280,
    level_of_theory="wB97M-V/def2-TZVPD",
    licence="CC BY 4.0",
    citation="Levine et al., arXiv:2505.08762 (2025)",
    units={"energy": "eV", "forces": "eV/Å", "length": "Å"},
    energy_kind="total",
    is_absolute=True,
    role="pretraining",
    mean_atoms=50.0,
    url="https://huggingface.co/facebook/OMol25",
    pitfalls=(
        "Totals reach -1.5e5 eV, where float32 resolves 0.016 eV: keep float64 or train residuals.",
        "`data.spin` is the multiplicity 2S+1. Charge and spin stand in the row's data, which ASE's `row.toatoms()` drops.",
        "A branch of all rows beside one of the neutral rows counts the neutral ones twice: take the three disjoint subsets.",
        "Neutral is not closed-shell: neutral radicals and triplets belong to the subset `rest`, as charged singlets do.",
        "Isolated in a cell of zeros, as published; other readers write an identity cell.",
        _aselmdb.UNPACK,
    ),
)
_CHARGE, _SPIN = (re.compile(rb'"%s": ?(-?\d+)[,}]' % name) for name in (b"charge", b"spin"))


class Config(Strict):
    """Options of the reader."""

    identity: Literal["connectivity", "source"] = Field(
        "connectivity", description="What splits go by: the bond graph, or the row's `data.source`."
    )
    subset: Literal["all", "neutral_singlet", "charged_nonsinglet", "rest"] = Field(
        "all",
        description="Rows taken; the last three are disjoint and together all. neutral_singlet: charge 0 and spin 1; "
        "charged_nonsinglet: charge other than 0 and spin other than 1; rest: everything else, that is neutral open "
        "shells, charged singlets, and rows that lack either label.",
    )
    level_of_theory: str = Field(INFO.level_of_theory, description="Of the labels; give it where such a container holds others.")


def info(config: Config) -> SourceInfo:
    """Return the facts with these options."""
    return replace(INFO, level_of_theory=config.level_of_theory)


def files(paths: Sequence[Path], config: Config) -> list[Path]:  # noqa: ARG001 every reader's interface
    """Return the shards."""
    return _aselmdb.files(paths)


def count(path: Path, config: Config) -> int:
    """Return the number of rows of the subset; those of a part are found by reading every row's charge and spin once."""
    with reading(path):
        return len(_keys(path, config.subset))


def read(path: Path, config: Config, span: range | None = None) -> Iterator[Structure | Refused]:
    """Yield the rows of a span, in the order of their ids.

    The cell is zero and nothing is periodic, as published. Constraints, where a row has them, do not zero forces.
    """
    with reading(path):
        keys = _keys(path, config.subset)
        for key, text in _aselmdb.texts(path, (keys if span is None else keys[span.start : span.stop]).tolist()):
            row = json.loads(text)
            name = (row.get("data") or {}).get("source") or f"{path.stem}/{key}"
            yield attempt(f"{name}#{key}", _structure, row, config)


@per_file()
def _keys(path: Path, subset: str) -> NDArray[np.int64]:
    """Return the ids of a subset in numeric order, (num_rows,)."""
    keys = _aselmdb.keys(path)
    if subset == "all":
        return keys
    return np.array([key for key, text in _aselmdb.texts(path, keys.tolist()) if subset_of(*_state(text)) == subset], np.int64)


def subset_of(charge: int | None, spin: int | None) -> str:
    """Return the subset a row belongs to, which is exactly one.

    Args:
        charge: Total charge in e; None where the row has none.
        spin: Multiplicity 2S+1; None where the row has none.
    """
    if charge == 0 and spin == 1:
        return "neutral_singlet"
    if charge not in (None, 0) and spin not in (None, 1):
        return "charged_nonsinglet"
    return "rest"


def _state(text: bytes) -> tuple[int | None, int | None]:
    """Return charge and spin of a row's JSON: by its text where each stands there once, which is ten times faster."""
    found = [pattern.findall(text) for pattern in (_CHARGE, _SPIN)]
    if all(len(values) == 1 for values in found):
        return int(found[0][0]), int(found[1][0])
    data = json.loads(text).get("data") or {}
    return data.get("charge"), data.get("spin")


def _structure(name: str, row: dict[str, Any], config: Config) -> Structure:
    data = row.get("data") or {}
    labels = {**_aselmdb.labels(row), "stress": None, "charge": data.get("charge"), "spin": data.get("spin")}
    identity = data["source"] if config.identity == "source" else None
    places = _aselmdb.array(row["positions"])
    return structure(_aselmdb.array(row["numbers"]), places, labels, names=(name, identity))
