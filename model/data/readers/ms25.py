"""MS25: ASE trajectories of eight systems, each in a folder of its name with published parts in `set1`.

Layout: `<system>/set1/{train-1000,train,val,test,neb}.traj` by ASE: energy (eV) and forces (eV/Å) of a calculator, or
info["E"] (Hartree).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from model.data.readers._frames import results, trajectory
from model.data.readers.base import HARTREE_EV, SourceInfo, attempt, find, reading, structure
from model.data.structure import Refused, Structure
from model.outcome import CampaignError
from model.specs import Strict

INFO = SourceInfo(
    title="MS25",
    count=None,
    level_of_theory="DFT, another for each system",
    licence="not stated where the set was found",
    citation="MS25: Materials Science-Focused Benchmark Data Set for Machine Learning Interatomic Potentials, "
    "J. Chem. Inf. Model. (2025)",
    units={"energy": "eV, or Hartree in info['E']", "forces": "eV/Å", "length": "Å"},
    energy_kind="total",
    role="finetuning",
    url="https://pubs.acs.org/journal/jcisd8",
    target="energy",
    pitfalls=(
        "No count and no public place of the files were found: what is expected here is what users of the set describe.",
        "Eight folders of six chemistries. Where five tasks are spoken of, name them: `campaigns/sc26.yaml` takes MgO-2x2, "
        "H2O-64, CHA, HEA and Zr-O.",
        "Systems are at different levels of theory: one task is one system.",
        "Energies of some systems are in Hartree under `E`, without a calculator.",
        "Frames of a system share their composition or nearly so: splits go by frame unless `identity` is formula.",
        "`train-1000` is a part of `train`: read one of the two.",
    ),
)
System = Literal["MgO-2x2", "MgO-4x4", "H2O-64", "H2O-192", "CHA", "HEA", "Reaction", "Zr-O"]
SYSTEMS: tuple[str, ...] = ("MgO-2x2", "MgO-4x4", "H2O-64", "H2O-192", "CHA", "HEA", "Reaction", "Zr-O")


class Config(Strict):
    """Options of the reader."""

    system: System | None = Field(None, description="Folder to read; none: the only one under the path.")
    parts: tuple[str, ...] = Field(("train", "val", "test"), description="Trajectories to read, by name without `.traj`.")
    identity: Literal["frame", "formula"] = Field(
        "frame", description="What splits go by: the frame, or the reduced formula, for systems of many compositions (HEA, Zr-O)."
    )


def files(paths: Sequence[Path], config: Config) -> list[Path]:
    """Return the trajectories of one system, and those given by name.

    Raises:
        CampaignError: Nothing of this system and these parts, or several systems.
    """
    given = {Path(path) for path in paths}
    found = [path for path in find(paths, (".traj",)) if path in given or path.stem in config.parts]
    systems = {path: _system(path) for path in found}
    wanted = [path for path in found if path in given or config.system in (None, systems[path])]
    there = ", ".join(sorted({system for system in systems.values() if system})) or "no folder of a system"
    where = ", ".join(map(str, paths))
    if not wanted:
        what = f"no {' or '.join(f'{part}.traj' for part in config.parts)} of {config.system or 'any system'} (found: {there})"
        raise CampaignError(what, where, "Mend the path, `system` or `parts`.")
    if len({systems[path] for path in wanted}) > 1:
        raise CampaignError(f"several systems: {there}", where, "Name one: they are at different levels, `system: HEA`.")
    return wanted


def count(path: Path, config: Config) -> int:  # noqa: ARG001
    """Return the number of frames."""
    with reading(path), trajectory(path) as atoms:
        return len(atoms)


def read(path: Path, config: Config, span: range | None = None) -> Iterator[Structure | Refused]:
    """Yield the frames of a span; the energy is the calculator's (eV), or else `info["E"]` (Hartree)."""
    with reading(path), trajectory(path) as atoms:
        for number in range(len(atoms)) if span is None else span:
            name = "/".join(filter(None, (_system(path), path.stem, str(number))))
            yield attempt(name, _structure, atoms[number], config)


def _system(path: Path) -> str:
    return next((part for part in reversed(path.parts[:-1]) if part in SYSTEMS), "")


def _structure(name: str, atoms: Any, config: Config) -> Structure | Refused:
    labels = results(atoms)
    if labels["energy"] is None and "E" in atoms.info:
        labels["energy"] = float(atoms.info["E"]) * HARTREE_EV
    if labels["energy"] is None:
        return Refused(name, "no energy: neither in a calculator nor as info['E']")
    identity = f"frame:{name}" if config.identity == "frame" else None
    return structure(atoms.numbers, atoms.positions, labels, box=(atoms.cell.array, atoms.pbc), names=(name, identity))
