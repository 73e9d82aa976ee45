"""QM9's container: a tar.bz2 of one XYZ file for each molecule, properties in its second line, Hartree."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
from ase import Atoms, units

from model.data.miniature.base import energy
from model.data.quickstart.physics import frontier
from model.data.readers.base import HARTREE_EV
from model.data.readers.qm9 import ATOMS, Config
from model.outcome import CampaignError

FAMILY = "molecules"
_NOT_COMPUTED = ("alpha", "r2", "zpve", "Cv")
_HEADER = "Molecules that failed the consistency check; none of the miniature's.\n" + "\n" * 8


def write(folder: Path, structures: list[Atoms], config: Config) -> list[Path]:
    """Write the archive, and the list of uncharacterized molecules, which names none of its own.

    The four energies are the same here; orbital energies and dipole are GFN1-xTB's. Where energies of atomization are to be
    read, those of the isolated atoms are added: what is read is then the structure's energy, too.

    Raises:
        CampaignError: The reader is to read a property that is not computed here.
    """
    if config.target in _NOT_COMPUTED:
        remedy = f"Take another target than {', '.join(_NOT_COMPUTED)}."
        raise CampaignError(f"the miniature of QM9 has no {config.target}", "option 'target'", remedy)
    path, list_ = folder / "dsgdb9nsd.xyz.tar.bz2", folder / "uncharacterized.txt"
    with tarfile.open(path, "w:bz2") as archive:
        for number, atoms in enumerate(structures, 1):
            content = _text(number, atoms, config).encode()
            member = tarfile.TarInfo(f"dsgdb9nsd_{number:06d}.xyz")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    list_.write_text(_HEADER + "133885 C none none\n1 molecule\n")
    return [path, list_]


def _text(number: int, atoms: Atoms, config: Config) -> str:
    homo, lumo, dipole = frontier(atoms)
    hartree = energy(atoms) / HARTREE_EV
    if config.target == "U0_atom":
        hartree += sum(ATOMS[symbol] for symbol in atoms.symbols)
    properties = [*_rotational_constants(atoms), dipole, 0.0, homo, lumo, lumo - homo, 0.0, 0.0, *[hartree] * 4, 0.0]
    lines = [f"{len(atoms)}", "\t".join([f"gdb {number}", *(f"{each:.9f}" for each in properties)])]
    places = zip(atoms.symbols, atoms.positions, strict=True)
    lines += ["\t".join([symbol, *(_figure(each) for each in place), _figure(0.0)]) for symbol, place in places]
    name = atoms.info["molecule"]
    return "\n".join([*lines, "0.", f"{name}\t{name}", f"{name}\t{name}", ""])


def _figure(value: float) -> str:
    """Write a float as QM9 has it: small ones with `*^` for the exponent."""
    return f"{value:.10e}".replace("e", "*^") if 0 < abs(value) < 1e-4 else f"{value:.10f}"


def _rotational_constants(atoms: Atoms) -> list[float]:
    """Return A, B, C in GHz: h / (8 π² I); 0 about the axis of a linear molecule."""
    moments = atoms.get_moments_of_inertia() * units._amu * 1e-20
    return [units._hplanck / (8 * np.pi**2 * moment) / 1e9 if moment > 1e-50 else 0.0 for moment in moments]
