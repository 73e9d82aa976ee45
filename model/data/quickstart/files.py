"""List the files of the quickstart's data and make those that are not there yet."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import molecule

from model.data.miniature.base import miniature
from model.data.quickstart.alloys import alloy, strained
from model.data.quickstart.distortions import distorted
from model.data.quickstart.molecules import CANDIDATES, PRETRAINING, SCARCE, TASK, geometry
from model.data.quickstart.physics import calculator, label
from model.registry import reader

Share = tuple[str, str, int, tuple[int, ...], bool]
Spread = Callable[..., Iterable[list[Atoms]]]
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class DataFile:
    """One file to make.

    Attributes:
        name: Its file name.
        method: `gfn1`, `gfn2` or `emt`.
        groups: Molecules by name, or numbers of alloys.
        each: Structures of each group.
        reader: Whose container it is.
        options: Of the reader.
        labelled: Whether energies and forces are kept.
        purpose: One phrase for the progress line.
    """

    name: str
    method: str
    groups: tuple[str, ...]
    each: int
    reader: str
    options: dict[str, str] = field(default_factory=dict)
    labelled: bool = True
    purpose: str = ""


_ALLOYS = tuple(str(i) for i in range(80))
FILES = (
    DataFile("gfn1.aselmdb", "gfn1", PRETRAINING, 15, "omol25", purpose="GFN1-xTB, ample"),
    DataFile("gfn2.h5", "gfn2", SCARCE, 12, "ani1x", {"level": "gfn2_xtb"}, purpose="GFN2-xTB, scarce"),
    DataFile("emt.extxyz", "emt", _ALLOYS, 6, "extxyz", {"id": "id"}, purpose="EMT alloys and slabs"),
    DataFile("task.db", "gfn2", TASK, 8, "ase_db", purpose="GFN2-xTB of new molecules, to fine-tune on"),
    DataFile("candidates.extxyz", "gfn1", CANDIDATES, 30, "extxyz", {"id": "id"}, False, "candidates to screen"),
)


def write(path: Path, structures: list[Atoms], file: DataFile) -> None:
    """Write into a folder beside `path`, then rename: who reads sees the whole file or none."""
    beside = path.parent / f".{path.name}.{os.getpid()}"
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    config = reader(file.reader).Config.model_validate(file.options)
    (written,) = miniature(file.reader).write(beside, structures, config)
    with written.open("rb") as whole:
        os.fsync(whole.fileno())
    written.replace(path)
    shutil.rmtree(beside)


def make(file: DataFile, seed: tuple[int, ...], spread: Spread = map, report: Report | None = None) -> list[Atoms]:
    """Make the structures of one file; groups are spread over processes and kept in order.

    Args:
        file: What to make.
        seed: Seed of this file.
        spread: A `map`, of one process or of many.
        report: Called with groups done and groups in all.
    """
    shares = [(file.method, name, file.each, (*seed, i), file.labelled) for i, name in enumerate(file.groups)]
    structures: list[Atoms] = []
    for done, group in enumerate(spread(structures_of, shares), start=1):
        structures += group
        if report is not None:
            report(done, len(shares))
    return structures + ([] if file.labelled else unlike_any(seed))


def structures_of(share: Share) -> list[Atoms]:
    """Return the distorted structures of one molecule or alloy, labelled by its method where asked for."""
    method, name, count, seed, labelled = share
    random = np.random.default_rng(seed)
    code = calculator(method)
    if method == "emt":
        ideal = alloy(random)
        name = f"{ideal.info['prototype']}/{name}"
        made = [strained(ideal, random) for _ in range(count)]
    else:
        made = [distorted(geometry(name), random) for _ in range(count)]
    for number, each in enumerate(made):
        each.info["id"] = f"{name}#{number}"
    return [label(each, code) if labelled else each for each in made]


def unlike_any(seed: tuple[int, ...]) -> list[Atoms]:
    """Return alloys without labels, and a few molecules with an element that no branch knows, which screening must flag."""
    random = np.random.default_rng((*seed, 1))
    made = [strained(alloy(random), random) for _ in range(120)]
    made += [molecule(name) for name in ("SiH4", "CH3SiH3", "PH3", "CH3Cl")]
    for number, each in enumerate(made):
        each.info["id"] = f"{each.get_chemical_formula()}#{number}"
    return made
