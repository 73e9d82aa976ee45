"""Readers on frozen files: written once by the origin's library, expected values by hand; every quantity's unit is pinned."""

from __future__ import annotations

import bz2
import hashlib
import importlib
import io
import json
import lzma
import shutil
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
import pytest

from model import registry
from model.config import ConvertConfig
from model.data import convert
from model.data.readers import _matbench, base
from model.data.structure import Structure
from model.outcome import CampaignError, read_json
from model.parallel import Ranks
from tests.contracts.freeze import FROZEN, INDEX
from tests.contracts.test_readers import assert_expected, companions, config_of

READERS = registry.readers()
FACTORS = ("HARTREE_EV", "BOHR_ANGSTROM", "KCAL_PER_MOL_EV", "KBAR_EV_PER_CUBIC_ANGSTROM")
SLIP = 1 + 1e-6
UNITS = {
    "eV",
    "eV/Å",
    "eV/Å³",
    "Å",
    "Hartree",
    "Hartree/Å",
    "Hartree/bohr",
    "kcal/mol",
    "kcal/mol/Å",
    "kbar",
    "eV/atom",
    "meV/atom",
}


@pytest.fixture(params=READERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def source(name: str) -> ModuleType:
    return importlib.import_module(f"tests.contracts.sources.{name}")


def read(name: str, folder: Path) -> list[Structure]:
    reader, source = registry.reader(name), importlib.import_module(f"tests.contracts.sources.{name}")
    return list(reader.read(folder / source.FILE, config_of(reader, source)))


@pytest.fixture
def folder(name: str, tmp_path: Path) -> Path:
    return shutil.copytree(FROZEN / name, tmp_path / "frozen")


def test_a_frozen_file_is_read_as_expected(name: str, source: ModuleType, folder: Path) -> None:
    assert_expected(read(name, folder), source.EXPECTED)


def test_frozen_files_stay_what_they_were(name: str) -> None:
    about = json.loads(INDEX.read_text())[name]
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (FROZEN / name).iterdir()}
    assert found == about["files"]
    assert about["written_by"].keys() >= {"ase", "h5py", "pymatgen-core"}


def test_what_the_library_writes_today_is_read_alike(name: str, source: ModuleType, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "today").mkdir()
    source.write(tmp_path / "today" / source.FILE)
    for frozen, today in zip(read(name, folder), read(name, tmp_path / "today"), strict=True):
        assert (frozen.energy, frozen.target) == pytest.approx((today.energy, today.target), rel=1e-15, nan_ok=True)
        assert np.array_equal(frozen.positions, today.positions) and np.array_equal(frozen.numbers, today.numbers)


def slipped(found: list[Structure], quantity: str) -> list[Structure] | None:
    """Return the structures with one quantity off by a millionth, or None where no structure has it or all are zero."""
    values = [getattr(s, quantity) for s in found]
    if not any(value is not None and np.any(np.nan_to_num(value) != 0) for value in values):
        return None
    return [replace(s, **{quantity: None if v is None else SLIP * v}) for s, v in zip(found, values, strict=True)]


def test_a_slip_of_any_one_quantity_is_caught(name: str, source: ModuleType, folder: Path) -> None:
    """Energies, forces, lengths, stress, each alone: none may hide behind another, or be zero in the fixture."""
    found, tried = read(name, folder), set()
    for quantity in ("energy", "forces", "stress", "positions", "cell", "target"):
        if (wrong := slipped(found, quantity)) is not None:
            tried.add(quantity)
            with pytest.raises(AssertionError):
                assert_expected(wrong, source.EXPECTED)
    units = registry.reader(name).INFO.units
    assert {"positions", *({"energy", "forces", "stress", "target"} & units.keys())} <= tried


BOHR, HARTREE = 0.529177210903, 27.211386245988
SLIPS = {"length": 1 / BOHR, "energy": 1 / HARTREE, "forces": BOHR / HARTREE, "stress": -0.1}
"""Å taken for bohr, eV for Hartree, eV/Å for Hartree/bohr, and kbar with compression positive for GPa with tension positive."""
PUBLISHED = {
    "ani1x": {"length": "coordinates", "energy": "wb97x_dz.energy", "forces": "wb97x_dz.forces"},
    "transition1x": {"length": "positions", "energy": "wB97x_6-31G(d).energy", "forces": "wB97x_6-31G(d).forces"},
    "qm7x": {"length": "atXYZ", "energy": "ePBE0+MBD", "forces": "totFOR"},
    "md17": {"length": "R", "energy": "E", "forces": "F"},
    "mptrj": {"length": "matrix", "energy": "uncorrected_total_energy", "forces": "force", "stress": "stress"},
    "alexandria": {"length": "matrix", "energy": "energy_total", "forces": "forces"},
}
"""What the quantities are called in files that can be written again."""


def scale_hdf5(data: bytes, key: str, factor: float) -> bytes:
    memory = io.BytesIO(data)
    with h5py.File(memory, "a") as file:
        found: list[h5py.Dataset] = []
        file.visititems(lambda name, each: found.append(each) if name.endswith(key) and isinstance(each, h5py.Dataset) else None)
        for each in found:
            each[...] = each[...] * factor
    return memory.getvalue()


def scale_npz(data: bytes, key: str, factor: float) -> bytes:
    memory = io.BytesIO()
    with np.load(io.BytesIO(data)) as arrays:
        np.savez(memory, **{name: array * factor if name == key else array for name, array in arrays.items()})
    return memory.getvalue()


def scale_json(data: bytes, key: str, factor: float) -> bytes:
    def scaled(value: Any, *, is_found: bool) -> Any:
        if isinstance(value, dict):
            return {name: scaled(each, is_found=name == key) for name, each in value.items()}
        if isinstance(value, list):
            return [scaled(each, is_found=is_found) for each in value]
        return value * factor if is_found and isinstance(value, float | int) else value

    return json.dumps(scaled(json.loads(data), is_found=False)).encode()


@pytest.mark.parametrize(("name", "quantity"), [(name, quantity) for name, each in PUBLISHED.items() for quantity in each])
def test_a_file_in_another_unit_is_caught(name: str, quantity: str, source: ModuleType, folder: Path) -> None:
    """The file itself, not what the reader makes of it: one quantity at a time is written again in another unit."""
    packer = {"qm7x": lzma, "alexandria": bz2}.get(name)
    path = folder / source.FILE
    data = path.read_bytes() if packer is None else packer.decompress(path.read_bytes())
    scale = {"md17": scale_npz, "mptrj": scale_json, "alexandria": scale_json}.get(name, scale_hdf5)
    for factor in (1.0, SLIPS[quantity]):
        found = scale(data, PUBLISHED[name][quantity], factor)
        path.write_bytes(found if packer is None else packer.compress(found))
        if factor == 1.0:
            assert_expected(read(name, folder), source.EXPECTED)
    with pytest.raises(AssertionError):
        assert_expected(read(name, folder), source.EXPECTED)


@pytest.mark.parametrize("factor", FACTORS)
def test_a_mutated_factor_is_caught(factor: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    users = [name for name in READERS if hasattr(registry.reader(name), factor)]
    assert users
    for name in users:
        with monkeypatch.context() as patch:
            patch.setattr(registry.reader(name), factor, SLIP * getattr(registry.reader(name), factor))
            source = importlib.import_module(f"tests.contracts.sources.{name}")
            found = read(name, shutil.copytree(FROZEN / name, tmp_path / name))
            with pytest.raises(AssertionError):
                assert_expected(found, source.EXPECTED)


@pytest.mark.parametrize(("unit", "ev"), [("Hartree", 27.211386245988), ("kcal/mol", 0.043364104241800934)])
@pytest.mark.parametrize("name", ["ase_db", "extxyz"])
def test_a_container_is_read_in_the_unit_that_is_given(
    unit: str, ev: float, name: str, folder: Path, source: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Published values of the fixture, in eV where it is, times the unit's; a mutated unit moves all of them."""
    reader = registry.reader(name)
    given, plain = (reader.Config(**{**source.OPTIONS, "energy_unit": each}) for each in (unit, "eV"))
    raw = list(reader.read(folder / source.FILE, plain))

    def is_right() -> bool:
        found = list(reader.read(folder / source.FILE, given))
        pairs = zip(found, raw, strict=True)
        return all(
            a.energy == pytest.approx(b.energy * ev, rel=1e-12, nan_ok=True)
            and (b.forces is None or a.forces == pytest.approx(b.forces * ev, rel=1e-12))
            and (b.stress is None or np.array_equal(a.stress, b.stress))
            for a, b in pairs
        )

    assert is_right()
    monkeypatch.setitem(base.ENERGY_UNITS, unit, SLIP * base.ENERGY_UNITS[unit])
    assert not is_right()


@pytest.mark.parametrize("name", ["matbench_jdft2d"])
def test_a_mutated_unit_of_a_task_is_caught(name: str, source: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task: _matbench.Task = registry.reader(name)._TASK
    monkeypatch.setattr(registry.reader(name), "_TASK", replace(task, convert=lambda value: SLIP * task.convert(value)))
    with pytest.raises(AssertionError):
        assert_expected(read(name, folder), source.EXPECTED)


def test_the_layout_is_written_down(name: str) -> None:
    """With the unit of each label, as the source's facts have it."""
    reader = registry.reader(name)
    _, _, layout = reader.__doc__.partition("\n\nLayout: ")
    assert layout.strip().endswith(".")
    if layout.startswith("As "):
        return
    units = {unit for unit in reader.INFO.units.values() if unit in UNITS and not (unit == "Å" and "pymatgen" in layout)}
    assert [unit for unit in units if unit not in layout] == []


def test_the_sixteen_sources_have_as_many_structures_as_are_known() -> None:
    """Each counted once: the paper's table has OMol25 whole and its parts again, 544 million; 467 million without them."""
    counts = {name: registry.reader(name).INFO.count for name in READERS if registry.reader(name).INFO.role == "pretraining"}
    assert len(counts) + 2 == 16  # OMol25 is three branches
    assert sum(counts.values()) == pytest.approx(467e6, rel=0.01)


def test_a_damaged_file_is_named_and_the_next_one_is_converted(name: str, source: ModuleType, tmp_path: Path) -> None:
    for part in ("a", "b", "c"):
        shutil.copytree(FROZEN / name, tmp_path / "source" / part)
    damaged = tmp_path / "source" / "b" / source.FILE
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    sources = tuple(tmp_path / "source" / part / source.FILE for part in ("a", "b", "c"))
    about = {"name": name, **source.OPTIONS}
    config = ConvertConfig(name=name, reader=about, sources=sources, store="store", shard=1000)
    with pytest.raises(CampaignError) as caught:
        convert.run(config, tmp_path, Ranks())
    assert str(damaged) in caught.value.what and str(sources[0]) not in caught.value.what
    summaries = [read_json(path) for path in sorted((tmp_path / "store" / "shards").glob("*.json"))]
    assert [each["structures"] for each in summaries] == [len(source.EXPECTED)] * 2
    assert not (tmp_path / "store" / "manifest.json").exists()
    for companion in companions(source):
        assert (damaged.parent / companion).is_file()
