"""The readers on real records in their published containers: counts, parity, distances, energies, units."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import ase.db
import h5py
import numpy as np
import pytest
from ase.data import covalent_radii

from model import registry
from model.config import ConvertConfig
from model.data import convert
from model.data.identity import bonds
from model.data.readers.base import HARTREE_EV
from model.data.store import Store
from model.data.structure import UNLABELLED, Structure
from model.data.validation import fault
from model.outcome import Status
from model.parallel import Ranks

FILES = {
    "ani1x/ani1_n5.hdf5": ("ani1x", 8),
    "nabla2dft/test_database.db": ("nabla2dft", 100),
    "omol25/ani2x_samples.aselmdb": ("omol25", 60),
    "omol25/small-test.aselmdb": ("omol25", 10),
    "mptrj/10_thin_mp_traj_systems.db": ("ase_db", 11),
    "oc20_like/toy_c3h8_relax.extxyz": ("extxyz", 101),
}
MOLECULES = [file for file in FILES if file.split("/")[0] in ("ani1x", "nabla2dft", "omol25")]
# Isolated atoms at ωB97X/6-31G(d), Hartree, as the data set's own loaders tabulate them.
ATOMS_WB97X = {1: -0.500607632585, 6: -37.8302333826, 7: -54.5680045287, 8: -75.0362229210}


def read(samples: Path, file: str, **options: Any) -> list[Structure]:
    reader = registry.reader(FILES[file][0])
    config = reader.Config(**options)
    assert reader.count(samples / file, config) == FILES[file][1]
    return list(reader.read(samples / file, config))


def nearest(structure: Structure) -> np.ndarray:
    """Return each atom's distance to its nearest neighbour over the sum of their covalent radii, (num_atoms,)."""
    apart = np.linalg.norm(structure.positions[:, None] - structure.positions[None], axis=-1)
    radii = covalent_radii[structure.numbers]
    np.fill_diagonal(apart, np.inf)
    return (apart / (radii[:, None] + radii[None, :])).min(axis=1)


@pytest.mark.parametrize("file", FILES)
def test_every_record_is_read_and_sound(samples: Path, file: str) -> None:
    structures = read(samples, file)
    assert len(structures) == FILES[file][1]
    assert Counter(fault(s) for s in structures) == {None: len(structures)}
    assert len({s.id for s in structures}) == len(structures)
    assert all(np.isfinite(s.energy) and s.forces is not None for s in structures)


@pytest.mark.parametrize("file", MOLECULES)
def test_lengths_are_in_angstrom(samples: Path, file: str) -> None:
    """A hydrogen sits about one sum of covalent radii from its partner: in bohr it would be 1.9, in nm 0.1."""
    ratios = np.concatenate([nearest(s)[s.numbers == 1] for s in read(samples, file)])
    assert np.median(ratios) == pytest.approx(1.04, abs=0.06)
    assert ratios.min() > 0.8


@pytest.mark.parametrize("file", ["nabla2dft/test_database.db", "omol25/ani2x_samples.aselmdb", "ani1x/ani1_n5.hdf5"])
def test_molecules_hang_together(samples: Path, file: str) -> None:
    """The bonds that the identity goes by leave no lone hydrogen and no carbon with over four partners."""
    for s in read(samples, file):
        partners = bonds(s.numbers, s.positions).sum(axis=1)
        assert (partners[s.numbers == 1] >= 1).all(), s.id
        assert (partners[s.numbers == 6] <= 4).all(), s.id


@pytest.mark.parametrize("file", FILES)
def test_forces_are_of_the_size_of_forces(samples: Path, file: str) -> None:
    """A slip by Hartree or bohr moves the RMS of these by 27 or 1.9."""
    rms = np.sqrt(np.mean(np.concatenate([np.ravel(s.forces) for s in read(samples, file)]) ** 2))
    assert 0.03 < rms < 2.5


@pytest.mark.parametrize("file", MOLECULES)
def test_no_net_force_on_a_molecule(samples: Path, file: str) -> None:
    for s in read(samples, file):
        assert np.abs(s.forces.sum(axis=0)).max() < 0.2, s.id  # grids and fitted densities leave a little


def test_ani1x_energies_are_totals_in_electronvolt(samples: Path) -> None:
    structures = read(samples, "ani1x/ani1_n5.hdf5")
    for s in structures:
        atomization = s.energy - HARTREE_EV * sum(ATOMS_WB97X[z] for z in s.numbers.tolist())
        assert -6.5 < atomization / len(s.numbers) < -2.5, s.id
        assert (s.charge, s.spin) == (UNLABELLED, UNLABELLED)
    with h5py.File(samples / "ani1x/ani1_n5.hdf5") as file:
        assert structures[0].energy == pytest.approx(file["C1H4N4O4/wb97x_dz.energy"][0] * 27.211386245988, rel=1e-14)


def test_nabla2dft_energies_are_formation_energies(samples: Path) -> None:
    path = samples / "nabla2dft/test_database.db"
    structures = read(samples, "nabla2dft/test_database.db")
    assert all(-6.5 < s.energy / len(s.numbers) < -2.5 for s in structures)
    row = ase.db.connect(path, serial=True, use_lock_file=False).get(1)
    assert structures[0].energy == pytest.approx(row.data["energy"][0] * 27.211386245988, rel=1e-14)
    assert structures[0].id == f"{row.moses_id}/{row.conformation_id}"
    assert not (path.parent / "test_database.db.lock").exists()


@pytest.mark.parametrize("file", ["omol25/ani2x_samples.aselmdb", "omol25/small-test.aselmdb"])
def test_omol25_electrons_fit_charge_and_multiplicity(samples: Path, file: str) -> None:
    structures = read(samples, file)
    database = ase.db.connect(samples / file, type="aselmdb", use_lock_file=False, readonly=True)
    rows = list(database.select(sort="id"))
    database.close()  # LMDB opens a file once in a process
    for s, row in zip(structures, rows, strict=True):
        assert s.numbers.sum(dtype=int) - s.charge == row.data["num_electrons"] + row.data["num_ecp_electrons"]
        assert (row.data["num_electrons"] + s.spin - 1) % 2 == 0
        assert s.energy == row.energy
        assert np.array_equal(s.forces, row.forces)
    assert {s.charge for s in structures} == ({0} if "ani2x" in file else {0, 1})


def test_mptrj_takes_the_energy_that_the_forces_belong_to(samples: Path) -> None:
    file = "mptrj/10_thin_mp_traj_systems.db"
    rows = list(ase.db.connect(samples / file, serial=True, use_lock_file=False).select())
    structures = read(samples, file)
    for s, row in zip(structures, rows, strict=True):
        assert s.energy == row.energy
        assert s.pbc.all()
        assert s.stress == pytest.approx(s.stress.T) and np.abs(s.stress).max() < 0.5  # eV/Å³; in kbar it would be hundreds
        assert abs(np.linalg.det(s.cell)) / len(s.numbers) > 5  # Å³ for each atom
    assert any(row.data["corrected_total_energy"] != row.energy for row in rows)
    named = read(samples, file, identity="mp_id", id="uid")
    assert named[0].identity == "mp-1205402" and named[0].id == "mp-1393488-0-0"
    corrected = read(samples, file, energy="corrected_total_energy")
    assert corrected[0].energy == pytest.approx(-220.45794850000001)


def test_slab_forces_are_those_of_the_file_whatever_is_fixed(samples: Path) -> None:
    structures = read(samples, "oc20_like/toy_c3h8_relax.extxyz")
    fixed = slice(0, 18)
    assert np.abs(structures[0].forces[fixed]).max() > 0.1
    assert {s.identity for s in structures} == {"crystal:C3Cu27H8"}


def test_forces_are_the_slope_of_the_energy(samples: Path) -> None:
    """Neighbouring frames of the trajectory: dE = −½ (F + F′)·dx to a tenth."""
    structures = read(samples, "oc20_like/toy_c3h8_relax.extxyz")
    found, expected = [], []
    for a, b in zip(structures, structures[1:], strict=False):
        found.append(b.energy - a.energy)
        expected.append(-0.5 * float(((a.forces + b.forces) * (b.positions - a.positions)).sum()))
    assert np.abs(np.array(found) - expected).max() < 0.1 * np.abs(found).max()
    assert np.corrcoef(found, expected)[0, 1] > 0.99


def test_stores_of_three_published_containers(samples: Path, tmp_path: Path) -> None:
    """ANI-1x, nabla2DFT and OMol25 side by side: nothing rejected, each with its own units, charges and references."""
    for name, count in {"ani1x": 8, "nabla2dft": 100, "omol25": 70}.items():
        folder = tmp_path / name
        folder.mkdir()
        config = ConvertConfig(name=name, reader={"name": name}, sources=(samples / name,), store="store", shard=30)
        outcome = convert.run(config, folder, Ranks())
        assert (outcome.status, outcome.result["structures"], outcome.result["rejected"]) == (Status.DONE, count, 0)
        store = Store.open(folder / "store")
        block, references = store.load(), store.references
        assert references is not None and references.count == outcome.result["splits"]["train"]
        assert 0.01 < references.sigma_energy < 1.0
        residual = (block.energy - references.of(block.numbers, block.offsets)) / block.num_atoms
        assert np.nanstd(residual) < 0.02 * np.std(block.energy)
        assert (block.charge == UNLABELLED).all() == (name != "omol25")
