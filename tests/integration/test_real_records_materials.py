"""The readers of crystals and slabs on true values, put into the published containers: energies, slopes, volumes, units."""

from __future__ import annotations

import csv
import io
import json
import lzma
from itertools import pairwise
from pathlib import Path
from typing import Any

import ase.db
import ase.io
import numpy as np
import pytest
from ase.geometry import cellpar_to_cell
from pymatgen.io.ase import AseAtomsAdaptor

from model import registry
from model.config import ConvertConfig
from model.data import convert
from model.data.readers.ase_db import tensor
from model.data.store import Store
from model.data.structure import UNLABELLED, Refused, Structure
from model.data.validation import fault
from model.outcome import Status, read_json
from model.parallel import Ranks

KBAR = 1602.1766208  # in an eV/Å³


def read(name: str, path: Path, **options: Any) -> list[Any]:
    reader = registry.reader(name)
    return list(reader.read(path, reader.Config(**options)))


@pytest.fixture
def rows(samples: Path) -> list[Any]:
    database = ase.db.connect(samples / "mptrj/10_thin_mp_traj_systems.db", serial=True, use_lock_file=False)
    return sorted(database.select(), key=lambda row: (row.data["calc_id"], row.data["ionic_step"]))


@pytest.fixture
def published(rows: list[Any], tmp_path: Path) -> Path:
    """MPtrj's JSON of the sample's values: pymatgen structures, stress in kbar with VASP's sign."""
    tree: dict[str, dict[str, Any]] = {}
    for row in rows:
        frame = {
            "structure": AseAtomsAdaptor.get_structure(row.toatoms()).as_dict(),
            "uncorrected_total_energy": row.energy,
            "force": row.forces.tolist(),
            "stress": (-KBAR * tensor(row.stress)).tolist(),
            "magmom": None,
            **{key: row.data[key] for key in ("corrected_total_energy", "energy_per_atom", "mp_id")},
        }
        tree.setdefault(row.data["mp_id"], {})[row.data["uid"]] = frame
    (tmp_path / "MPtrj_2022.9_full.json").write_text(json.dumps(tree))
    return tmp_path / "MPtrj_2022.9_full.json"


def test_mptrj_gives_back_true_values(rows: list[Any], published: Path) -> None:
    found = {s.id: s for s in read("mptrj", published)}
    for row in rows:
        s = found[row.data["uid"]]
        assert fault(s) is None
        assert s.energy == row.energy and np.array_equal(s.forces, row.forces)
        assert s.stress == pytest.approx(tensor(row.stress), rel=1e-12)
        assert s.numbers.tolist() == row.numbers.tolist()
        assert s.positions == pytest.approx(row.positions, abs=1e-9) and s.cell == pytest.approx(np.array(row.cell))
        assert (s.charge, s.spin) == (UNLABELLED, UNLABELLED)


def test_energies_per_atom_are_of_the_corrected_energy(rows: list[Any], published: Path) -> None:
    corrected = {s.id: s for s in read("mptrj", published, energy="corrected")}
    for row in rows:
        assert corrected[row.data["uid"]].energy == pytest.approx(row.data["energy_per_atom"] * row.natoms, rel=1e-9)
        assert corrected[row.data["uid"]].energy < row.energy


def test_stress_is_the_slope_of_the_energy_under_strain(published: Path) -> None:
    """Neighbouring steps of a relaxation: dE = V σ:ε − F·dx to a twentieth; with VASP's sign or in kbar it fails."""
    steps = {int(s.id.split("-")[-1]): s for s in read("mptrj", published) if "-1095441-1-" in s.id}
    small = [step for step in sorted(steps) if step >= 5 and step != 16]
    assert small == [5, 7, 8, 9, 11, 15]
    work = [strain_and_force_work(steps[a], steps[b]) for a, b in pairwise(small)]
    for (strain, force), (a, b) in zip(work, pairwise(small), strict=True):
        energy = steps[b].energy - steps[a].energy
        assert strain + force == pytest.approx(energy, rel=0.05, abs=2e-3)
    total = sum(steps[b].energy - steps[a].energy for a, b in pairwise(small))
    assert abs(sum(force - strain for strain, force in work) - total) > 0.5 * abs(total)


def strain_and_force_work(a: Structure, b: Structure) -> tuple[float, float]:
    """Return V σ:ε and −F·dx between two frames, eV, with means of both ends."""
    strain = np.linalg.solve(a.cell, b.cell) - np.eye(3)
    middle = (a.cell + b.cell) / 2
    moved = np.linalg.solve(b.cell.T, b.positions.T).T - np.linalg.solve(a.cell.T, a.positions.T).T
    moved = (moved - np.round(moved)) @ middle
    volume = abs(np.linalg.det(middle))
    return volume * float(((a.stress + b.stress) / 2 * (strain + strain.T) / 2).sum()), -float(
        ((a.forces + b.forces) / 2 * moved).sum()
    )


def test_a_store_of_mptrj(published: Path, tmp_path: Path) -> None:
    """Shards of three: the spans of one file, one after the other."""
    config = ConvertConfig(name="mptrj", reader={"name": "mptrj"}, sources=(published,), store="store", shard=3)
    outcome = convert.run(config, tmp_path, Ranks())
    assert (outcome.status, outcome.result["structures"], outcome.result["rejected"]) == (Status.DONE, 11, 0)
    store = Store.open(tmp_path / "store")
    assert store.manifest["labels"] == {"energy": 11, "forces": 11, "stress": 11, "target": 0}
    assert len(store.manifest["shards"]) == 4
    assert store.load().ids.tolist() == [s.id for s in read("mptrj", published)]


# OC20's layout


@pytest.fixture
def chunk(samples: Path, tmp_path: Path) -> Path:
    """Put the sample's trajectory into a chunk: frames recompressed as they are, with a text file."""
    text = (samples / "oc20_like/toy_c3h8_relax.extxyz").read_text()
    (tmp_path / "0.extxyz.xz").write_bytes(lzma.compress(text.encode()))
    frames = len(ase.io.read(io.StringIO(text), ":", format="extxyz"))
    (tmp_path / "0.txt.xz").write_bytes(lzma.compress("".join(f"random0,frame{k},9.5\n" for k in range(frames)).encode()))
    return tmp_path / "0.extxyz.xz"


def test_slabs_keep_the_forces_of_fixed_atoms(chunk: Path, samples: Path) -> None:
    found = read("oc20", chunk)
    assert len(found) == 101 and all(fault(s) is None for s in found)
    atoms = ase.io.read(samples / "oc20_like/toy_c3h8_relax.extxyz", "0")
    fixed = atoms.constraints[0].index
    assert len(fixed) and np.abs(found[0].forces[fixed]).max() > 0.1
    assert np.array_equal(found[0].forces, atoms.get_forces(apply_constraint=False))
    assert {s.identity for s in found} == {"crystal:C3Cu27H8"}


def test_slab_forces_are_the_slope_of_the_energy(chunk: Path) -> None:
    found = read("oc20", chunk)
    adsorption = read("oc20", chunk, energy="adsorption")
    assert [s.energy - a.energy for s, a in zip(found, adsorption, strict=True)] == pytest.approx([9.5] * len(found))
    change = np.array([b.energy - a.energy for a, b in pairwise(found)])
    slope = np.array([-0.5 * ((a.forces + b.forces) * (b.positions - a.positions)).sum() for a, b in pairwise(found)])
    assert np.abs(change - slope).max() < 0.1 * np.abs(change).max()


# ABX3


@pytest.fixture
def perovskites(samples: Path, tmp_path: Path) -> Path:
    """The published csv file, and answers for its cubic five-atom rows: by symmetry, atoms are where they are."""
    path = tmp_path / "abc3_data.csv"
    path.write_bytes((samples / "abx3/abc3_data.csv").read_bytes())
    with path.open(newline="") as file:
        cubic = [row for row in csv.DictReader(file) if row["space_group"] == "Pm-3m" and row["sites"] == "5"]
    (tmp_path / "abx3_structures.json").write_text(json.dumps([{"data": [document(row) for row in cubic]}]))
    return path


def document(row: dict[str, str]) -> dict[str, Any]:
    lengths = [float(row[f"{axis}_edge (angstrom)"]) for axis in "abc"]
    cell = cellpar_to_cell([*lengths, *(float(row[f"{angle}_ang (deg)"]) for angle in ("alpha", "beta", "gamma"))])
    elements = [part.rstrip("0123456789") for part in row["composition"].split()]
    anion = next(part.rstrip("3") for part in row["composition"].split() if part.endswith("3"))
    species = [*(element for element in elements if element != anion), anion, anion, anion]
    places = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    sites = [{"species": [{"element": e, "occu": 1}], "abc": abc} for e, abc in zip(species, places, strict=True)]
    return {"material_id": row["mp_id"], "structure": {"lattice": {"matrix": cell.tolist()}, "sites": sites}}


def test_every_row_of_abx3_is_accounted_for(perovskites: Path) -> None:
    found = read("abx3", perovskites)
    with perovskites.open(newline="") as file:
        rows = {row["mp_id"]: row for row in csv.DictReader(file)}
    assert len(found) == len(rows) == 4557
    sound = [s for s in found if isinstance(s, Structure)]
    refused = [s for s in found if isinstance(s, Refused)]
    assert len(sound) > 500 and {r.reason.split(":")[0] for r in refused} <= {
        "no target",
        "no answer for it among the structures",
    }
    for s in sound:
        row = rows[s.id]
        assert s.target == float(row["formation_energy (eV/atom)"]) and -5 < s.target < 3.5
        assert abs(np.linalg.det(s.cell)) == pytest.approx(float(row["volume (cubic-angstrom)"]), rel=1e-3)
        assert np.isnan(s.energy) and s.forces is None and (s.charge, s.spin) == (UNLABELLED, UNLABELLED)
    assert sum(fault(s) is None for s in sound) == len(sound)


def test_a_store_of_a_task(perovskites: Path, tmp_path: Path) -> None:
    """What is refused stands in the reject file with its place and reason; the target has its unit; no references are fitted."""
    config = ConvertConfig(name="abx3", reader={"name": "abx3"}, sources=(perovskites,), store="store", shard=1000)
    outcome = convert.run(config, tmp_path, Ranks())
    store = Store.open(tmp_path / "store")
    block, about = store.load(), store.manifest
    assert outcome.status is Status.DONE and about["structures"] + about["rejected"] == 4557
    assert about["labels"] == {"energy": 0, "forces": 0, "stress": 0, "target": about["structures"]}
    assert (about["source"]["target"], about["source"]["energy_kind"], about["units"]["target"]) == ("scalar", "none", "eV/atom")
    assert np.isfinite(block.target).all() and np.isnan(block.energy).all() and store.references is None
    rejects = [json.loads(line) for line in (store.folder / "rejects.jsonl").read_text().splitlines()]
    assert len(rejects) == about["rejected"] == len({reject["position"] for reject in rejects})
    assert all(reject["id"].startswith("mp-") and reject["reason"].startswith("no ") for reject in rejects)
    assert read_json(store.folder / "plan.json")["reader"]["structures"] == "abx3_structures.json"
