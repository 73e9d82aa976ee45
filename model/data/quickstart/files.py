"""List the files of the quickstart's data and make those that are not there yet."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import molecule

from model.data.quickstart import containers
from model.data.quickstart.alloys import alloy, strained
from model.data.quickstart.distortions import distorted
from model.data.quickstart.molecules import CANDIDATES, PRETRAINING, SCARCE, TASK, geometry
from model.data.quickstart.physics import calculator, label

CLEAR = "\r\x1b[K" if sys.stdout.isatty() else ""
Share = tuple[str, str, int, tuple[int, ...], bool]


@dataclass(frozen=True)
class DataFile:
    """One file to make.

    Attributes:
        name: Its file name.
        method: `gfn1`, `gfn2` or `emt`.
        groups: Molecules by name, or numbers of alloys.
        each: Structures of each group.
        write: Writer of its container.
        labelled: Whether energies and forces are kept.
        purpose: One phrase for the progress line.
    """

    name: str
    method: str
    groups: tuple[str, ...]
    each: int
    write: containers.Writer
    labelled: bool = True
    purpose: str = ""


FILES = (
    DataFile("gfn1.aselmdb", "gfn1", tuple(PRETRAINING), 20, containers.aselmdb, purpose="GFN1-xTB, ample"),
    DataFile("gfn2.h5", "gfn2", tuple(SCARCE), 12, containers.ani("gfn2_xtb"), purpose="GFN2-xTB, scarce"),
    DataFile("emt.extxyz", "emt", tuple(str(i) for i in range(80)), 6, containers.extended_xyz, purpose="EMT alloys and slabs"),
    DataFile("task.db", "gfn2", tuple(TASK), 20, containers.ase_database, purpose="GFN2-xTB of new molecules, to fine-tune on"),
    DataFile("candidates.extxyz", "gfn1", tuple(CANDIDATES), 30, containers.extended_xyz, False, "candidates to screen"),
)


def make(file: DataFile, folder: Path, seed: tuple[int, ...], spread: Callable[..., Iterable[list[Atoms]]] = map) -> None:
    """Make one file unless it stands; groups are spread over processes and kept in order."""
    if (folder / file.name).exists():
        print(f"{file.name}: kept")
        return
    began, structures = time.monotonic(), []
    shares = [(file.method, name, file.each, (*seed, i), file.labelled) for i, name in enumerate(file.groups)]
    for done, group in enumerate(spread(structures_of, shares), start=1):
        structures += group
        if sys.stdout.isatty():
            print(f"\r{file.name}: {done}/{len(shares)} groups, {len(structures)} structures", end="", flush=True)
    structures += [] if file.labelled else metal_candidates(seed)
    containers.write(folder / file.name, structures, file.write)
    print(f"{CLEAR}{file.name}: {len(structures)} structures ({file.purpose}), {time.monotonic() - began:.1f} s", flush=True)


def structures_of(share: Share) -> list[Atoms]:
    """Return the distorted structures of one molecule or alloy, labelled by its method where asked for."""
    method, name, count, seed, labelled = share
    random = np.random.default_rng(seed)
    code = calculator(method)
    if method == "emt":
        ideal = alloy(random)
        made = [strained(ideal, random) for _ in range(count)]
    else:
        made = [distorted(geometry(name), random) for _ in range(count)]
    return [label(each, code) if labelled else each for each in made]


def metal_candidates(seed: tuple[int, ...]) -> list[Atoms]:
    """Return alloys without labels, and a few molecules with an element that no branch knows, which screening must flag."""
    random = np.random.default_rng((*seed, 1))
    alloys = [strained(alloy(random), random) for _ in range(120)]
    return alloys + [molecule(name) for name in ("SiH4", "CH3SiH3", "PH3", "CH3Cl")]
