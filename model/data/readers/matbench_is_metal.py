"""Matbench mp_is_metal: whether 106,113 crystals of the Materials Project are metals.

Layout: json.gz of a DataFrame, `{"index", "columns": ["structure", "is_metal"], "data": [[pymatgen, bool], ...]}`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from model.data.readers import _matbench
from model.data.readers.base import SourceInfo, find
from model.data.structure import Refused, Structure
from model.specs import Strict

INFO = SourceInfo(
    title="Matbench mp_is_metal",
    count=106_113,
    level_of_theory="PBE and PBE+U (VASP), a band gap of zero",
    licence="MIT",
    citation="Dunn et al., npj Comput. Mater. 6, 138 (2020)",
    units={"target": "true or false", "length": "Å"},
    energy_kind="none",
    role="finetuning",
    mean_atoms=31.0,
    url="https://ml.materialsproject.org/projects/matbench_mp_is_metal.json.gz",
    target="class",
    pitfalls=(
        "A class, 1 for a metal: to be trained by a class's loss, not as a number.",
        "The order of rows is part of the benchmark: its five folds name rows by it, and so do the ids here.",
        "The benchmark's folds are drawn by row; splits here go by reduced formula, so scores are not those of its table.",
        "Many of the crystals are in MPtrj and Alexandria: compare splits by identity before believing a score.",
    ),
)
FORWARD = ("",)


class Config(Strict):
    """Options of the reader: none."""


def files(paths: Sequence[Path], config: Config) -> list[Path]:  # noqa: ARG001 every reader's interface
    """Return the task's file."""
    return find(paths, ("matbench_mp_is_metal.json.gz",))


def count(path: Path, config: Config) -> int:  # noqa: ARG001
    """Return the number of rows."""
    return _matbench.count(path, _TASK)


def read(path: Path, config: Config, span: range | None = None) -> Iterator[Structure | Refused]:  # noqa: ARG001
    """Yield the rows of a span in their published order."""
    yield from _matbench.read(path, _TASK, span)


def _class(value: object) -> float:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")
    return float(value)


_TASK = _matbench.Task("mb-mp-is-metal", 6, "is_metal", _class)
