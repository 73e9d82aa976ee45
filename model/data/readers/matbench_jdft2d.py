"""Matbench jdft2d: exfoliation energies of 636 layered crystals.

Layout: json.gz of a DataFrame, `{"index", "columns": ["structure", "exfoliation_en"], "data": [[pymatgen, meV/atom],
...]}`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from model.data.readers import _matbench
from model.data.readers.base import SourceInfo, find
from model.data.structure import Refused, Structure
from model.specs import Strict

INFO = SourceInfo(
    title="Matbench jdft2d",
    count=636,
    level_of_theory="OptB88vdW (VASP)",
    licence="MIT",
    citation="Dunn et al., npj Comput. Mater. 6, 138 (2020), and Choudhary et al., Sci. Rep. 7, 5179 (2017)",
    units={"target": "meV/atom", "length": "Å"},
    energy_kind="none",
    role="finetuning",
    mean_atoms=8.0,
    url="https://ml.materialsproject.org/projects/matbench_jdft2d.json.gz",
    target="scalar",
    pitfalls=(
        "Published in meV/atom; the store has eV/atom.",
        "The order of rows is part of the benchmark: its five folds name rows by it, and so do the ids here.",
        "The benchmark's folds are drawn by row; splits here go by reduced formula, so errors are not those of its table.",
        "Layers lie in cells that are periodic in all directions.",
    ),
    target_unit="eV/atom",
)
_TASK = _matbench.Task("mb-jdft2d", 3, "exfoliation_en", lambda value: 1e-3 * float(value))
FORWARD = ("",)


class Config(Strict):
    """Options of the reader: none."""


def files(paths: Sequence[Path], config: Config) -> list[Path]:  # noqa: ARG001 every reader's interface
    """Return the task's file."""
    return find(paths, ("matbench_jdft2d.json.gz",))


def count(path: Path, config: Config) -> int:  # noqa: ARG001
    """Return the number of rows."""
    return _matbench.count(path, _TASK)


def read(path: Path, config: Config, span: range | None = None) -> Iterator[Structure | Refused]:  # noqa: ARG001
    """Yield the rows of a span in their published order."""
    yield from _matbench.read(path, _TASK, span)
