"""OC22 S2EF-Total: extended XYZ shards or ASE trajectories, packed or not; its LMDBs hold pickled objects and are not read.

Layout: Extended XYZ shards or ASE `.traj` under train and val, loose or in tars: species, pos (Å), forces (eV/Å), energy
(eV, raw), constraints.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from model.data.readers._archive import loose_or_packed
from model.data.readers._forward import span_of
from model.data.readers._frames import records
from model.data.readers.base import SourceInfo, reading
from model.data.structure import Refused, Structure
from model.outcome import CampaignError
from model.specs import Strict

INFO = SourceInfo(
    title="OC22 S2EF-Total",
    count=9_854_504,
    level_of_theory="PBE+U (VASP)",
    licence="CC BY 4.0",
    citation="Tran, Lan, Shuaibi et al., ACS Catal. 13, 3066 (2023), doi:10.1021/acscatal.2c05426",
    units={"energy": "eV", "forces": "eV/Å", "length": "Å"},
    energy_kind="total",
    role="pretraining",
    mean_atoms=80.0,
    url="https://materials.colabfit.org/dataset-original/DS_jgaid7espcoc_0",
    pitfalls=(
        "Energies are raw totals: not comparable with OC20's adsorption energies, and of another functional than OC20's totals.",
        "The official LMDBs hold pickled PyTorch Geometric objects: take ColabFit's extended XYZ or the trajectories.",
        "ColabFit's file is several tars in a row: read it as it is, named `.tar.xz`, or unpack it with `tar --ignore-zeros`.",
        "A tar is converted by one rank, whatever their number: unpack it, then its files are converted in parallel.",
        "Forces of fixed atoms are in the file; ASE zeroes them unless told not to.",
        "Charge 0 and spin 1 are a convention of some readers, not labels.",
    ),
)
_SUFFIXES = (".extxyz", ".extxyz.xz", ".extxyz.gz", ".xyz", ".traj")
FORWARD = ("",)


class Config(Strict):
    """Options of the reader: none."""


def files(paths: Sequence[Path], config: Config) -> list[Path]:  # noqa: ARG001 every reader's interface
    """Return archives, or shards and trajectories.

    Raises:
        CampaignError: Nothing there but LMDBs; archives beside unpacked files.
    """
    pickled = [path for given in map(Path, paths) for path in (given, *given.glob("**/*.lmdb")) if path.suffix == ".lmdb"]
    try:
        found = loose_or_packed(paths, _SUFFIXES)
    except CampaignError as error:
        raise _pickled(pickled[0]) if pickled else error from None
    if set(found) & set(pickled):  # given by name
        raise _pickled(pickled[0])
    return found


def count(path: Path, config: Config) -> int:  # noqa: ARG001
    """Return the number of frames; lines are read, but not understood."""
    with reading(path):
        return sum(1 for _ in records(path, _SUFFIXES))


def read(path: Path, config: Config, span: range | None = None) -> Iterator[Structure | Refused]:  # noqa: ARG001
    """Yield the frames of a span; forces are those of the file, of fixed atoms too."""
    with reading(path):
        for make in span_of(path, "oc22", span, lambda: records(path, _SUFFIXES)):
            yield make()


def _pickled(path: Path) -> CampaignError:
    remedy = f"Take ColabFit's extended XYZ ({INFO.url}) or oc22_trajectories.tar.gz."
    return CampaignError("holds pickled objects, which are never opened", str(path), remedy)
