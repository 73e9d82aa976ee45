"""Screened structures on disk: shards of ADIOS2 BP5, many structures in a step, and the marker by which a shard counts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import adios2
import numpy as np
from numpy.typing import NDArray

from model.data.bp5 import reading, writing
from model.data.shard import file_hashes
from model.outcome import read_json, sync, write_json
from model.owner import require_commit
from model.specs import Owner

FLAGS = ("", "no branch knows all its elements", "the prediction is not finite")
"""What each value of `flag` means; flagged structures have NaN for every prediction and are not ranked."""
UNITS = {
    "energy": "eV, weighted mean of the branches' residual energies",
    "forces": "eV/Å, −d(energy)/dx",
    "branch_energy": "eV, by each branch, per-element references added; NaN where a branch lacks an element",
    "residual_per_atom": "eV/atom",
    "largest_force": "eV/Å",
    "branch_spread": "eV/atom",
}


@dataclass(frozen=True)
class Columns:
    """Predictions for consecutive candidates: one step of a shard.

    Attributes:
        index: Position in the candidates' store, (n,) int64.
        num_atoms: Atoms, (n,) int64.
        flag: Why a structure has no prediction, an index into `FLAGS`, (n,) uint8.
        energy: Weighted mean of the branches' residual energies, eV, (n,); NaN where flagged.
        branch_energy: Energy by each branch, references added, eV, (n, num_branches).
        residual_per_atom: `energy` per atom, eV/atom, (n,).
        largest_force: eV/Å, (n,).
        branch_spread: eV/atom, (n,); NaN where fewer than two branches know the structure.
        forces: eV/Å, (num_atoms, 3).
        id_bytes: Ids in UTF-8, one after the other, uint8.
        id_lengths: Bytes of each id, (n,) int64.
    """

    index: NDArray[np.int64]
    num_atoms: NDArray[np.int64]
    flag: NDArray[np.uint8]
    energy: NDArray[np.float64]
    branch_energy: NDArray[np.float64]
    residual_per_atom: NDArray[np.float64]
    largest_force: NDArray[np.float64]
    branch_spread: NDArray[np.float64]
    forces: NDArray[np.float64]
    id_bytes: NDArray[np.uint8]
    id_lengths: NDArray[np.int64]

    @property
    def ids(self) -> list[str]:
        """Return the ids as text."""
        ends = np.cumsum(self.id_lengths)
        data = self.id_bytes.tobytes()
        return [data[end - length : end].decode() for end, length in zip(ends.tolist(), self.id_lengths.tolist(), strict=True)]


@dataclass(frozen=True)
class ShardFile:
    """One shard's place.

    Attributes:
        folder: Where all shards stand.
        number: Which one.
        key: Hash of all that its content depends on.
    """

    folder: Path
    number: int
    key: str

    @property
    def data(self) -> Path:
        """Return its BP5 folder."""
        return self.folder / f"shard-{self.number:06d}.bp"

    @property
    def marker(self) -> Path:
        """Return the file whose presence makes the shard count."""
        return self.folder / f"shard-{self.number:06d}.json"

    def is_done(self) -> bool:
        """Return whether a whole shard of this content stands, byte for byte."""
        found = read_json(self.marker)
        return found is not None and found["key"] == self.key and self.data.is_dir() and file_hashes(self.data) == found["files"]

    def adopt(self, earlier: Path, owner: Owner | None) -> bool:
        """Take the shard over from an earlier run's folder where it is whole and of this content; say whether."""
        other = ShardFile(earlier, self.number, self.key)
        if not other.is_done():
            return False
        shutil.rmtree(self.data, ignore_errors=True)
        shutil.copytree(other.data, self.data, copy_function=_link)
        self.commit(self.data, owner)
        return True

    def commit(self, written: Path, owner: Owner | None) -> None:
        """Make a closed BP5 folder count: rename it into place, then its marker."""
        for path in written.iterdir():
            sync(path)
        sync(written)
        require_commit(owner)
        if written != self.data:
            shutil.rmtree(self.data, ignore_errors=True)
            written.replace(self.data)
        write_json(self.marker, {"key": self.key, "files": file_hashes(self.data)})


@contextmanager
def open_shard(file: ShardFile, attributes: dict[str, str], owner: Owner | None) -> Iterator[adios2.Stream]:
    """Open a new shard beside its place; `write_step` fills it, and it counts when the block ends without an exception."""
    beside = file.folder / f".{file.data.name}.partial"
    shutil.rmtree(beside, ignore_errors=True)
    with writing(beside) as stream:
        for name, value in sorted(attributes.items()):
            stream.write_attribute(name, value)
        yield stream
    file.commit(beside, owner)


def write_step(stream: adios2.Stream, columns: Columns) -> None:
    """Write one step."""
    stream.begin_step()
    for field in fields(Columns):
        array = np.ascontiguousarray(getattr(columns, field.name))
        stream.write(field.name, array, list(array.shape), [0] * array.ndim, list(array.shape))
    stream.end_step()


def read_steps(folder: Path) -> Iterator[Columns]:
    """Yield the steps of a shard."""
    with reading(folder, stepwise=True) as stream:
        for _ in stream.steps():
            yield Columns(**{field.name: _whole(stream, field.name) for field in fields(Columns)})


def _whole(stream: adios2.Stream, name: str) -> NDArray[Any]:
    shape = stream.inquire_variable(name).shape()
    array: NDArray[Any] = stream.read(name, [0] * len(shape), shape)
    return array


def _link(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
    return target
