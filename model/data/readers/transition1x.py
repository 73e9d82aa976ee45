"""Transition1x: one HDF5 file, groups of formulas and in them of reactions, each a path of frames.

Layout: HDF5. `/data/<formula>/<reaction>/` with atomic_numbers (n), positions (Å, m × n × 3), `wB97x_6-31G(d).energy` (eV,
m), `wB97x_6-31G(d).forces` (eV/Å, m × n × 3), and subgroups reactant, product, transition_state of the same with m = 1;
groups train, val and test link to reactions of data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from model.data.readers.base import SourceInfo, find, per_file, reading, structure
from model.data.structure import Refused, Structure
from model.specs import Strict

INFO = SourceInfo(
    title="Transition1x",
    count=9_600_000,
    level_of_theory="wB97x/6-31G(d)",
    licence="CC BY 4.0",
    citation="Schreiner et al., Sci. Data 9, 779 (2022), doi:10.1038/s41597-022-01870-w",
    units={"energy": "eV", "forces": "eV/Å", "length": "Å"},
    energy_kind="total",
    is_absolute=True,
    role="pretraining",
    mean_atoms=14.0,
    url="https://doi.org/10.6084/m9.figshare.19614657",
    pitfalls=(
        "The count is rounded: 9.6 million frames of about 10,000 reactions.",
        "The groups train, val and test are links into data: read all of the file and each frame comes twice.",
        "The subgroups reactant, product and transition_state repeat frames of the path; only the path is read.",
        "Frames of one path are near each other: a split by frame leaks, so a reaction stays whole, with its reactant.",
        "Its product goes with it, and may be a molecule of a test split elsewhere: counts by identity do not show it.",
        "Figshare has served empty files; compare sizes.",
        "OMol25's trans1x rows are the same reactions at another level of theory. Charge and spin are not stated.",
    ),
    unseen="frames have their reactant's identity, products too: only `same composition` counts these, with all their isomers",
)
_LEVEL = "wB97x_6-31G(d)"
_FRAMES_AT_ONCE = 1024


class Config(Strict):
    """Options of the reader."""

    part: Literal["data", "train", "val", "test"] = Field(
        "data", description="The authors' group: all of it, or one part of their split."
    )
    identity: Literal["reactant", "formula"] = Field(
        "reactant",
        description="What splits go by: the reactant's bond graph, as of that molecule in other sets, or the formula, "
        "which keeps reactions of isomers together too.",
    )


def files(paths: Sequence[Path], config: Config) -> list[Path]:  # noqa: ARG001 every reader's interface
    """Return the HDF5 files."""
    return find(paths, (".h5", ".hdf5"))


def count(path: Path, config: Config) -> int:
    """Return the number of frames on the paths of the part."""
    with reading(path):
        return sum(frames for _, _, frames in _reactions(path, config.part))


def read(path: Path, config: Config, span: range | None = None) -> Iterator[Structure | Refused]:
    """Yield the frames of a span, reaction by reaction, each path from its first frame on."""
    import h5py

    first = 0
    with reading(path), h5py.File(path, "r") as file:
        for formula, reaction, frames in _reactions(path, config.part):
            window = range(frames) if span is None else range(max(span.start - first, 0), min(span.stop - first, frames))
            first += frames
            if len(window):
                yield from _structures(f"{formula}/{reaction}", file[config.part][formula][reaction], window, config)


@per_file()
def _reactions(path: Path, part: str) -> tuple[tuple[str, str, int], ...]:
    """Return formula, name and frames of each reaction of a part."""
    import h5py

    with h5py.File(path, "r") as file:
        groups = ((formula, name, reaction) for formula, group in file[part].items() for name, reaction in group.items())
        return tuple((formula, name, len(reaction["positions"])) for formula, name, reaction in groups)


def _structures(name: str, reaction: Any, window: range, config: Config) -> Iterator[Structure | Refused]:
    frames = {key: len(reaction[key]) for key in ("positions", f"{_LEVEL}.energy", f"{_LEVEL}.forces")}
    if len(set(frames.values())) > 1:
        told = ", ".join(f"{count} {key}" for key, count in frames.items())
        yield from (Refused(f"{name}/{row}", f"the reaction's frames are not as many as its labels: {told}") for row in window)
        return
    numbers = reaction["atomic_numbers"][()]
    identity = _identity(name, numbers, reaction, config)
    for start in range(window.start, window.stop, _FRAMES_AT_ONCE):
        rows = slice(start, min(start + _FRAMES_AT_ONCE, window.stop))
        columns = (reaction[key][rows] for key in ("positions", f"{_LEVEL}.energy", f"{_LEVEL}.forces"))
        for row, (x, e, f) in enumerate(zip(*columns, strict=True), start):
            yield structure(numbers, x, {"energy": e, "forces": f}, names=(f"{name}/{row}", identity))


def _identity(name: str, numbers: Any, reaction: Any, config: Config) -> str:
    if config.identity == "formula":
        return f"formula:{name.partition('/')[0]}"
    from model.data.identity import identity

    places = np.asarray(reaction["reactant"]["positions"][0], np.float64)
    return identity(np.asarray(numbers, np.uint8), places, np.zeros(3, bool))
