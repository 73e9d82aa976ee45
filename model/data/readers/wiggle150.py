"""Wiggle150: one XYZ file of many frames, `<label> <energy>` in the comment line, kcal/mol.

Layout: Frames of number of atoms, `<molecule>_<number> <energy in kcal/mol>`, and a line for each atom: symbol, x, y, z
(Å).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Literal

import numpy as np
from pydantic import Field

from model.data.readers.base import KCAL_PER_MOL_EV, SourceInfo, attempt, find, per_file, reading, structure
from model.data.structure import Refused, Structure
from model.specs import Strict

INFO = SourceInfo(
    title="Wiggle150",
    count=153,
    level_of_theory="DLPNO-CCSD(T)/CBS",
    licence="not stated in the file; see the article's supporting information",
    citation="Brew et al., J. Chem. Theory Comput. (2025), doi:10.1021/acs.jctc.5c00015",
    units={"energy": "kcal/mol", "length": "Å"},
    energy_kind="relative",
    role="finetuning",
    mean_atoms=34.3,
    url="https://pubs.acs.org/doi/suppl/10.1021/acs.jctc.5c00015/suppl_file/ct5c00015_si_003.xyz",
    target="energy",
    pitfalls=(
        "Published energies are totals; by default they are taken relative to the molecule's reference, whose label ends in _00.",
        "Three molecules: a split by molecule leaves one for each part, so by default conformers are divided at random.",
        "There are no forces; charge and spin are not stated.",
        "The publisher may refuse scripts: fetch the file with a browser.",
    ),
    version=2,
)


class Config(Strict):
    """Options of the reader."""

    energy: Literal["relative", "total"] = Field(
        "relative", description="The label: energy above the molecule's reference conformer, or the total as published."
    )
    identity: Literal["conformer", "connectivity"] = Field(
        "conformer", description="What splits go by: the conformer, or the molecule."
    )


def info(config: Config) -> SourceInfo:
    """Return the facts with these options; totals have all electrons in them."""
    return replace(INFO, energy_kind=config.energy, is_absolute=config.energy == "total")


def files(paths: Sequence[Path], config: Config) -> list[Path]:  # noqa: ARG001 every reader's interface
    """Return the XYZ files."""
    return find(paths, (".xyz",))


def count(path: Path, config: Config) -> int:  # noqa: ARG001
    """Return the number of conformers, the references among them."""
    with reading(path), path.open() as file:
        return sum(1 for _ in _frames(file))


def read(path: Path, config: Config, span: range | None = None) -> Iterator[Structure | Refused]:
    """Yield the conformers of a span, in the order of the file."""
    with reading(path), path.open() as file:
        references = _references(path) if config.energy == "relative" else {}
        window = (0, None) if span is None else (span.start, span.stop)
        for comment, lines in itertools.islice(_frames(file), *window):
            label, energy = _labelled(comment)
            if config.energy == "relative":
                energy -= _reference(label.rpartition("_")[0], references)
            yield attempt(label, _structure, energy, lines, config)


def _frames(file: IO[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield comment and lines of atoms of each frame.

    Raises:
        ValueError: The file ends within a frame, or holds none.
    """
    frames = 0
    for first in file:
        if first.strip():
            comment, *lines = [file.readline() for _ in range(int(first) + 1)]
            if not lines or not lines[-1].strip():
                raise ValueError(f"ends within a frame of {int(first)} atoms")
            if not lines[-1].endswith("\n"):
                raise ValueError(f"ends within a line: {lines[-1][:60]}")
            frames += 1
            yield comment, lines
    if not frames:
        raise ValueError("no frame")


def _labelled(comment: str) -> tuple[str, float]:
    label, energy = comment.split()[:2]
    return label, float(energy)


@per_file()
def _references(path: Path) -> dict[str, float]:
    """Return the energy of each molecule's reference conformer, kcal/mol."""
    with path.open() as file:
        labelled = dict(_labelled(comment) for comment, _ in _frames(file))
    return {label.removesuffix("_00"): energy for label, energy in labelled.items() if label.endswith("_00")}


def _reference(molecule: str, references: dict[str, float]) -> float:
    if molecule not in references:
        raise ValueError(f"no reference conformer {molecule}_00")
    return references[molecule]


def _structure(label: str, energy: float, lines: list[str], config: Config) -> Structure:
    """Return a conformer.

    Args:
        label: Of the frame.
        energy: kcal/mol.
        lines: Of its atoms.
        config: Options.
    """
    from ase.data import atomic_numbers

    atoms = [line.split() for line in lines]
    numbers = [atomic_numbers[atom[0].capitalize()] for atom in atoms]
    places = np.array([atom[1:4] for atom in atoms], np.float64)
    identity = f"conformer:{label}" if config.identity == "conformer" else None
    return structure(numbers, places, {"energy": energy * KCAL_PER_MOL_EV}, names=(label, identity))
