"""QM9: XYZ files with properties in the second line, floats with `*^`, in a tar.bz2; a list of failed molecules beside."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

FILE = "dsgdb9nsd.xyz.tar.bz2"
OPTIONS: dict[str, object] = {}
COMPANIONS = ("uncharacterized.txt",)
METHANE = ["C\t 0.\t 0.\t 0.\t-0.5", "H\t 0.625\t 0.625\t 0.625\t 0.125", "H\t-0.625\t-0.625\t 0.625\t 0.125"]
METHANE += ["H\t-0.625\t 0.625\t-0.625\t 0.125", "H\t 0.625\t-0.625\t-0.625\t 0.125"]
WATER = ["O\t 2.5*^-5\t 0.\t 0.\t-0.5", "H\t 0.75\t 0.5\t 0.\t 0.25", "H\t-0.75\t 0.5\t-1*^-6\t 0.25"]
MOLECULES = [(1, METHANE, -40.5), (2, METHANE, -40.25), (3, WATER, -76.5)]


def write(path: Path, energy_scale: float = 1.0) -> None:
    with tarfile.open(path, "w:bz2") as archive:
        for number, atoms, energy in MOLECULES:
            data = text(number, atoms, energy * energy_scale).encode()
            member = tarfile.TarInfo(f"dsgdb9nsd_{number:06d}.xyz")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    listed = ["    2  C  C", "133885  C  C", "2 compounds"]
    (path.parent / "uncharacterized.txt").write_text("\n".join(["explained"] * 9 + listed) + "\n")


def text(number: int, atoms: list[str], energy: float) -> str:
    #             A        B        C       mu   alpha  homo   lumo   gap   r2    zpve  U0 U H G Cv
    properties = ["157.5", "157.25", "157.", "0.5", "13.2", "-0.375", "0.125", "0.5", "35.", "0.0625"]
    properties += [repr(energy), repr(energy + 0.25), repr(energy + 0.5), repr(energy - 0.25), "6.5"]
    frequencies = "\t".join(["1341.307"] * (3 * len(atoms) - 6))
    tail = [frequencies, "C\tC\t", "InChI=1S/CH4/h1H4\tInChI=1S/CH4/h1H4"]
    return "\n".join([str(len(atoms)), f"gdb {number}\t" + "\t".join(properties) + "\t", *atoms, *tail, ""])


# U0: -40.5 Hartree = -1102.061142962514 eV, -76.5 = -2081.671047818082. The second molecule is uncharacterized.
EXPECTED = [
    {
        "id": "gdb_1",
        "numbers": [6, 1, 1, 1, 1],
        "positions": [[0, 0, 0], [0.625] * 3, [-0.625, -0.625, 0.625], [-0.625, 0.625, -0.625], [0.625, -0.625, -0.625]],
        "energy": -1102.061142962514,
        "identity": "molecule:C1H4:",
    },
    {
        "id": "gdb_3",
        "numbers": [8, 1, 1],
        "positions": [[2.5e-5, 0, 0], [0.75, 0.5, 0], [-0.75, 0.5, -1e-6]],
        "energy": -2081.671047818082,
        "identity": "molecule:H2O1:",
    },
]
