"""QM9: a tar.bz2 of one XYZ file for each molecule, properties in its second line, Hartree.

Layout: tar.bz2 of `dsgdb9nsd_<number>.xyz`: number of atoms; `gdb <number> A B C mu alpha homo lumo gap r2 zpve U0 U H G
Cv` (GHz, Debye, bohr³, Hartree, bohr², cal/mol/K); a line an atom: symbol, x, y, z (Å), charge; frequencies; SMILES; InChI.
Floats may be `1.2*^-5`. uncharacterized.txt: nine lines of text, then a number a line, then their count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from model.data.readers import _archive
from model.data.readers._forward import span_of
from model.data.readers.base import HARTREE_EV, SourceInfo, attempt, find, per_file, reading, structure
from model.data.structure import Refused, Structure
from model.outcome import CampaignError
from model.specs import Strict

INFO = SourceInfo(
    title="QM9",
    count=133_885,
    level_of_theory="B3LYP/6-31G(2df,p)",
    licence="not stated in the archive; see the figshare record",
    citation="Ramakrishnan et al., Sci. Data 1, 140022 (2014), doi:10.1038/sdata.2014.22",
    units={"energy": "Hartree", "length": "Å"},
    energy_kind="total",
    is_absolute=True,
    role="finetuning",
    mean_atoms=18.0,
    url="https://doi.org/10.6084/m9.figshare.978904",
    target="energy",
    pitfalls=(
        "Floats may be written as 1.2*^-5.",
        "3,054 molecules failed their consistency check: uncharacterized.txt of the same record names them, and lies beside "
        "the archive; 130,831 are left.",
        "There are no forces: equilibrium geometries only. Charge and spin are not stated.",
        "Of the record only the archive of XYZ files is read, not the SDF and CSV by which other libraries know the set.",
        "PyTorch Geometric's column 12, atomization energy at 0 K, is the target U0_atom.",
        "The archive can only be read from its start: each span unpacks all before it, some 20 s at most.",
    ),
    version=2,
)
Property = Literal["U0", "U", "H", "G", "U0_atom", "homo", "lumo", "gap", "zpve", "mu", "alpha", "r2", "Cv", "A", "B", "C"]
_ENERGIES = ("U0", "U", "H", "G", "U0_atom")
_COLUMNS = ("A", "B", "C", "mu", "alpha", "homo", "lumo", "gap", "r2", "zpve", "U0", "U", "H", "G", "Cv")
_UNITS = {"homo": "Hartree", "lumo": "Hartree", "gap": "Hartree", "zpve": "Hartree", "mu": "Debye", "alpha": "bohr³"}
_UNITS |= {"r2": "bohr²", "Cv": "cal/mol/K", "A": "GHz", "B": "GHz", "C": "GHz"}
"""Published units of what is no energy of a molecule."""
# Isolated atoms at 0 K, Hartree: atomref.txt of the same record.
ATOMS = {"H": -0.500273, "C": -37.846772, "N": -54.583861, "O": -75.064579, "F": -99.718730}
_UNCHARACTERIZED = "uncharacterized.txt"
_MEMBER = re.compile(r"dsgdb9nsd_(\d+)\.xyz$")
FORWARD = ("",)


class Config(Strict):
    """Options of the reader."""

    target: Property = Field(
        "U0",
        description="Property to predict. Energies of molecules (U0, U, H, G, and U0_atom: U0 minus isolated atoms) become "
        "the structure's energy, in eV; the others its scalar target: homo, lumo, gap, zpve in eV, mu in Debye, alpha in "
        "bohr³, r2 in bohr², Cv in cal/mol/K, A, B, C in GHz.",
    )
    uncharacterized: Literal["drop", "keep"] = Field(
        "drop", description="Whether molecules that uncharacterized.txt names are left out."
    )


def files(paths: Sequence[Path], config: Config) -> list[Path]:  # noqa: ARG001 every reader's interface
    """Return the archives; a single XYZ file may be given by its path."""
    return find(paths, (".tar.bz2",))


def info(config: Config) -> SourceInfo:
    """Return the facts with these options: a scalar stands in the target; energies of atomization are counted from atoms."""
    if config.target in _ENERGIES:
        title = INFO.title if config.target == "U0" else f"{INFO.title}, {config.target}"
        known = replace(INFO, title=title)
        return known if config.target != "U0_atom" else replace(known, energy_kind="formation", is_absolute=False)
    published = _UNITS[config.target]
    return replace(
        INFO,
        title=f"{INFO.title}, {config.target}",
        units={"target": published, "length": INFO.units["length"]},
        energy_kind="none",
        is_absolute=False,
        target="scalar",
        target_unit="eV" if published == "Hartree" else published,
    )


def beside(path: Path, config: Config) -> list[Path]:
    """Return the list of uncharacterized molecules, where it is heeded."""
    return [path.parent / _UNCHARACTERIZED] if config.uncharacterized == "drop" else []


def count(path: Path, config: Config) -> int:
    """Return the number of molecules taken."""
    with reading(path):
        return _count(path, _dropped(path, config))


def read(path: Path, config: Config, span: range | None = None) -> Iterator[Structure | Refused]:
    """Yield the molecules of a span, in the order of the archive."""
    with reading(path):
        dropped = _dropped(path, config)
        for number, text in span_of(path, ("qm9", dropped), span, lambda: _texts(path, dropped)):
            yield attempt(f"gdb_{number}", _structure, text, config)


@per_file()
def _count(path: Path, dropped: frozenset[int]) -> int:
    return sum(1 for _ in _texts(path, dropped))


def _texts(path: Path, dropped: frozenset[int]) -> Iterator[tuple[int, str]]:
    """Yield number and text of each molecule taken.

    Raises:
        ValueError: A file is not named as QM9's are, or there is none.
    """
    molecules = 0
    is_alone = path.suffix == ".xyz"
    for name, content in iter([(path.name, path.read_bytes())]) if is_alone else _archive.members(path, (".xyz",)):
        molecules += 1
        found = _MEMBER.search(name)
        if found is None:
            raise ValueError(f"{name}: not named as QM9's files are, dsgdb9nsd_<number>.xyz")
        if int(found[1]) not in dropped:
            yield int(found[1]), content.decode()
    if not molecules:
        raise ValueError("the archive holds no molecule")


def _dropped(path: Path, config: Config) -> frozenset[int]:
    """Return the numbers of the molecules that failed the authors' consistency check.

    Raises:
        CampaignError: The list is not there, or it is another one.
    """
    if config.uncharacterized == "keep":
        return frozenset()
    listed = path.parent / _UNCHARACTERIZED
    remedy = f"Fetch {_UNCHARACTERIZED} of the same record and put it there, or set the option `uncharacterized: keep`."
    if not listed.is_file():
        raise CampaignError("the list of uncharacterized molecules is not there", str(listed), remedy)
    try:
        # Nine lines of explanation come first, and one that counts them comes last.
        return frozenset(int(line.split()[0]) for line in listed.read_text().rstrip("\n").split("\n")[9:-1])
    except (ValueError, IndexError) as error:
        raise CampaignError("not the list that is published", str(listed), remedy) from error


def _structure(name: str, text: str, config: Config) -> Structure:
    from ase.data import atomic_numbers

    first, properties, *lines = text.split("\n")
    atoms = [line.split() for line in lines[: int(first)]]
    symbols = [atom[0] for atom in atoms]
    positions = np.array([[_float(each) for each in atom[1:4]] for atom in atoms])
    tag, index, *values = properties.split()
    if f"{tag}_{index}" != name:
        raise ValueError(f"names itself {tag}_{index}")
    known = dict(zip(_COLUMNS, map(_float, values), strict=True))
    kind = "energy" if config.target in _ENERGIES else "target"
    labels = {kind: _value(config.target, known, symbols)}
    return structure([atomic_numbers[s] for s in symbols], positions, labels, names=(name, None))


def _value(target: str, known: dict[str, float], symbols: list[str]) -> float:
    if target == "U0_atom":
        return (known["U0"] - sum(ATOMS[symbol] for symbol in symbols)) * HARTREE_EV
    return known[target] * (HARTREE_EV if _UNITS.get(target, "Hartree") == "Hartree" else 1.0)


def _float(text: str) -> float:
    return float(text.replace("*^", "e"))
