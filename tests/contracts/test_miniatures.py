"""Every reader has a miniature: what it writes in the published container, the reader reads back as it was made."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from ase import Atoms

from model import registry
from model.data.miniature.base import Family, energy, forces, miniature
from model.data.miniature.structures import make
from model.data.readers.base import info_of
from model.data.structure import UNLABELLED, Structure
from model.data.validation import fault
from workflow.finetuning import load_task, task_names

READERS = registry.readers()
ROOT = Path(__file__).parents[2]


@cache
def made_of(family: Family) -> list[Atoms]:
    return make(family, 24, seed=3)


def twin(structure: Structure, made: list[Atoms]) -> tuple[Atoms, np.ndarray]:
    """Return the made structure with the same atoms at the same places, and which of its atoms each one is."""
    for atoms in made:
        if len(atoms) != len(structure.numbers):
            continue
        apart = np.linalg.norm(structure.positions[:, None] - atoms.positions[None], axis=-1)
        same = apart.argmin(axis=1)
        if apart.min(axis=1).max() < 2e-5 and (structure.numbers == atoms.numbers[same]).all():
            assert len(set(same.tolist())) == len(atoms)
            return atoms, same
    raise AssertionError(f"{structure.id} is none of the structures made")


@pytest.mark.parametrize("name", READERS)
def test_what_is_written_is_read_back(name: str, tmp_path: Path) -> None:
    reader, writer = registry.reader(name), miniature(name)
    made, config = made_of(writer.FAMILY), reader.Config()
    written = writer.write(tmp_path, made, config)
    files = reader.files([tmp_path], config)
    assert files and set(files) <= set(written) and all(path.is_file() for path in written)
    found = [structure for path in files for structure in reader.read(path, config)]
    assert len(found) == sum(reader.count(path, config) for path in files) == len(made)
    assert len({structure.id for structure in found}) == len(found)
    target = getattr(writer, "target", energy)
    seen = set()
    for structure in found:
        assert fault(structure, **reader.INFO.checks) is None
        atoms, same = twin(structure, made)
        seen.add(atoms.info["id"])
        assert_same(structure, atoms, same)
        # Half of the last figure that a float32 keeps is the coarsest of the containers'.
        label = structure.target if reader.INFO.target in ("scalar", "class") else structure.energy
        assert label == pytest.approx(target(atoms), rel=6e-8, abs=1e-6)
    assert len(seen) == len(made)


@pytest.mark.parametrize("name", task_names())
def test_what_a_fine_tuning_task_takes_can_be_used(name: str, tmp_path: Path) -> None:
    """With the options of each task that ships: no record is refused, for its unit or anything else."""
    task = load_task(name)
    reader, writer = registry.reader(task.reader), miniature(task.reader)
    config, made = reader.Config(**task.options), made_of(writer.FAMILY)
    writer.write(tmp_path, made, config)
    found = [structure for path in reader.files([tmp_path], config) for structure in reader.read(path, config)]
    assert found and [fault(structure, **info_of(reader, config).checks) for structure in found] == [None] * len(found)


def assert_same(structure: Structure, atoms: Atoms, same: np.ndarray) -> None:
    assert structure.positions == pytest.approx(atoms.positions[same], abs=1e-6)
    assert structure.pbc.tolist() == atoms.pbc.tolist()
    assert structure.cell == pytest.approx(np.where(atoms.pbc.any(), atoms.cell.array, 0.0), abs=1e-6)
    if structure.forces is not None:
        assert structure.forces == pytest.approx(forces(atoms)[same], rel=6e-8, abs=1e-6)
    if structure.stress is not None:
        assert structure.stress == pytest.approx(atoms.get_stress(voigt=False), abs=1e-6)
    assert structure.charge in (UNLABELLED, atoms.info.get("charge"))
    assert structure.spin in (UNLABELLED, atoms.info.get("spin"))


@pytest.mark.parametrize("name", [r for r in READERS if registry.reader(r).INFO.target is None])
def test_forces_come_back_where_the_source_has_them(name: str, tmp_path: Path) -> None:
    reader, writer = registry.reader(name), miniature(name)
    config = reader.Config()
    writer.write(tmp_path, made_of(writer.FAMILY)[:8], config)
    found = [structure for path in reader.files([tmp_path], config) for structure in reader.read(path, config)]
    assert all((structure.forces is not None) == ("forces" in reader.INFO.units) for structure in found)


@pytest.mark.parametrize("family", get_args(Family))
def test_a_family_is_the_same_for_the_same_seed_and_varied(family: Family) -> None:
    once, again, other = make(family, 6, seed=1), make(family, 6, seed=1), make(family, 6, seed=2)
    assert [energy(a) for a in once] == [energy(a) for a in again]
    assert [energy(a) for a in once] != [energy(a) for a in other]
    assert len({a.info["id"] for a in once}) == 6
    assert len({a.get_chemical_formula() for a in once}) >= 3
    assert all(np.abs(forces(a)).max() > 0 for a in once)


def test_ions_are_of_every_kind_and_their_electrons_pair_up() -> None:
    made = made_of("ions")
    assert {(a.info["charge"] != 0, a.info["spin"] != 1) for a in made} == {(c, s) for c in (False, True) for s in (False, True)}
    assert all((int(a.numbers.sum()) - a.info["charge"] + a.info["spin"]) % 2 for a in made)


def test_fixed_atoms_of_slabs_keep_their_forces() -> None:
    for atoms in made_of("slabs"):
        fixed = atoms.get_tags() == 0
        assert atoms.constraints[0].index.tolist() == np.flatnonzero(fixed).tolist()
        assert np.abs(forces(atoms)[fixed]).max() > 1e-3


def test_each_module_says_what_it_writes() -> None:
    for name in READERS:
        module = importlib.import_module(f"model.data.miniature.{name}")
        assert module.__doc__ and module.write.__doc__ and module.FAMILY in get_args(Family)


def command(*arguments: str, before: str = "pass") -> subprocess.CompletedProcess[str]:
    code = f"import sys, runpy; {before}; runpy.run_module('model.data.miniature', run_name='__main__', alter_sys=True)"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=120)


def test_the_command_writes_where_it_says_without_torch(tmp_path: Path) -> None:
    arguments = ("ani1x", str(tmp_path / "new"), "--count", "5", "--seed", "2", "--option", "level=gfn2_xtb")
    done = command(*arguments, before="sys.modules['torch'] = None")
    assert done.returncode == 0, done.stderr
    (path,) = json.loads(done.stdout)
    reader: Any = registry.reader("ani1x")
    assert reader.count(Path(path), reader.Config(level="gfn2_xtb")) == 5


@pytest.mark.parametrize("subset", ["neutral_singlet", "charged_nonsinglet", "rest"])
def test_as_many_are_written_as_the_options_leave(subset: str, tmp_path: Path) -> None:
    done = command("omol25", str(tmp_path), "--count", "6", "--option", f"subset={subset}")
    reader: Any = registry.reader("omol25")
    assert reader.count(Path(json.loads(done.stdout)[0]), reader.Config(subset=subset)) >= 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("ani1",), "no reader 'ani1'"), (("ani1x", "--option", "lvel=3"), "option 'lvel'"), (("qm9x",), "no reader")],
)
def test_a_mistake_is_answered_with_what_is_known(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = command(arguments[0], str(tmp_path / "new"), *arguments[1:])
    assert done.returncode == 2 and message in done.stderr and "Known" in done.stderr
    assert not (tmp_path / "new").exists()
