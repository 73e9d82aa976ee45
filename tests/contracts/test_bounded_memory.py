"""Reading holds few records at a time: memory does not follow the size of a file."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from bench.conversion import renamed
from model import registry
from model.data.miniature.base import miniature
from tests.contracts.sources import qcml, qm9, wiggle150
from tests.contracts.test_miniatures import made_of

PLACES = np.array([[0, 0, 0], [0.75, 0.5, 0], [-0.75, 0.5, 0]])


def md17_of(path: Path, frames: int) -> None:
    moved = PLACES + np.arange(frames)[:, None, None] * 1e-6
    np.savez(path, R=moved, F=moved, E=np.zeros((frames, 1)), z=np.array([8, 1, 1]))


def transition1x_of(path: Path, frames: int) -> None:
    moved = PLACES + np.arange(frames)[:, None, None] * 1e-6
    with h5py.File(path, "w") as file:
        for name in ("data/H2O/rxn0", "data/H2O/rxn0/reactant"):
            file[f"{name}/atomic_numbers"] = np.array([8, 1, 1])
            file[f"{name}/positions"] = moved
            file[f"{name}/wB97x_6-31G(d).energy"] = np.zeros(frames)
            file[f"{name}/wB97x_6-31G(d).forces"] = moved


def qcml_of(path: Path, records: int) -> None:
    one = qcml.framed(qcml.message(qcml.RECORDS[0], 1.0))
    path.write_bytes(records * one)


def wiggle150_of(path: Path, frames: int) -> None:
    path.write_text(f"3\nado_00 -48000.0\n{wiggle150.WATER}" + f"3\nado_01 -47900.0\n{wiggle150.WATER}" * (frames - 1))


def qm9_of(path: Path, molecules: int) -> None:
    kept = qm9.MOLECULES
    try:
        qm9.MOLECULES = [(k, qm9.METHANE, -40.5) for k in range(10, 10 + molecules)]
        qm9.write(path)
    finally:
        qm9.MOLECULES = kept


SOURCES: dict[str, tuple[str, Callable[[Path, int], None], int]] = {
    "md17": ("md17_uracil.npz", md17_of, 1000),
    "transition1x": ("Transition1x.h5", transition1x_of, 1500),
    "qcml": (qcml.FILE, qcml_of, 500),
    "wiggle150": (wiggle150.FILE, wiggle150_of, 500),
    "qm9": (qm9.FILE, qm9_of, 400),
}
TABLES = ("abx3", "oqmd_abx3")
"""Small by publication: the structures of 4,557 and 16,323 rows are held, a hundred megabytes at most."""
OTHERS = [name for name in registry.readers() if name not in (*SOURCES, *TABLES, "mptrj")]
"""MPtrj is held to a file of 60 MB in `test_materials_readers.py`; here its few materials would grow."""


def _tidied(records: Iterator[object]) -> Iterator[int]:
    """Yield 1 for each record, and collect garbage now and then: ASE's atoms and calculators know each other."""
    for number, _ in enumerate(records):
        if number % 4 == 0:
            gc.collect()
        yield 1


def peak(name: str, path: Path, *, tidy: bool = False) -> int:
    reader = registry.reader(name)
    config = reader.Config()
    next(iter(reader.read(path, config)))  # imports and the like are paid for before
    gc.collect()
    gc.freeze()  # what is there already need not be looked through
    tracemalloc.start()
    try:
        count = sum(_tidied(reader.read(path, config)) if tidy else (1 for _ in reader.read(path, config)))
        assert count == reader.count(path, config)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        gc.unfreeze()


@pytest.mark.parametrize("name", SOURCES)
def test_memory_does_not_follow_the_file(name: str, tmp_path: Path) -> None:
    file, write, records = SOURCES[name]
    peaks = []
    for size in (records, 5 * records):
        folder = tmp_path / str(size)
        folder.mkdir()
        write(folder / file, size)
        peaks.append(peak(name, folder / file))
    # 16 bytes a record are allowed for an index; the smallest record here has 152.
    assert peaks[1] - peaks[0] < 4 * records * 16 + 50_000, peaks


@pytest.mark.parametrize("name", OTHERS)
def test_memory_does_not_follow_the_number_of_records(name: str, tmp_path: Path) -> None:
    """Four times as many in one file; if they were held, the peak would grow by a kilobyte and more for each."""
    reader, peaks = registry.reader(name), []
    for count in (70, 300):  # more than are fetched at once
        folder = tmp_path / str(count)
        folder.mkdir()
        miniature(name).write(folder, renamed(made_of(miniature(name).FAMILY), count), reader.Config())
        path = max(reader.files([folder], reader.Config()), key=lambda each: each.stat().st_size)
        peaks.append((reader.count(path, reader.Config()), peak(name, path, tidy=True)))
    (few, small), (many, large) = peaks
    assert many >= 2 * few
    assert large - small < 150 * (many - few) + 60_000, peaks
