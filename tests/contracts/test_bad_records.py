"""Bad records in every published container: each goes to the reject file with its place and reason, all others into the store."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase_db_backends.aselmdb import LMDBDatabase

from model import registry
from model.config import ConvertConfig
from model.data import convert
from model.data.miniature.base import forces, miniature
from model.data.readers import base
from model.data.readers.base import structure
from model.data.store import Store
from model.data.structure import Refused
from model.outcome import CampaignError
from model.parallel import Ranks
from tests.contracts.sources import extxyz, nabla2dft, omol25, qcml, qm7x, qm9, transition1x, wiggle150
from tests.contracts.test_miniatures import made_of

READERS = registry.readers()
JSON = ("mptrj", "alexandria", "matbench_jdft2d", "matbench_is_metal", "abx3", "oqmd_abx3")
"""JSON has no NaN: such a file is no JSON and refused as a whole."""


def poisoned(made: list[Atoms], kinds: dict[int, str]) -> list[Atoms]:
    """Return copies of which some are bad."""
    copies = []
    for number, atoms in enumerate(made):
        copy, results = atoms.copy(), dict(atoms.calc.results)
        if kinds.get(number) == "same place":
            copy.positions[1] = copy.positions[0]
        if kinds.get(number) == "NaN":
            results["forces"] = np.where(np.eye(len(atoms), 3, 1) > 0, np.nan, forces(atoms))
        if kinds.get(number) == "absurd":
            results["forces"] = forces(atoms) + 2000.0
        if kinds.get(number) == "no energy":
            results["energy"] = np.nan
        copy.calc = SinglePointCalculator(copy, **results)
        copies.append(copy)
    return copies


REASONS = {"same place": "closer than", "NaN": "forces are not finite", "absurd": "force of ", "no energy": "no energy"}
UNLABELLED_ARE_NO_RECORDS = ("ani1x",)


@pytest.mark.parametrize("name", [name for name in READERS if name != "qm9"])
def test_bad_records_are_put_aside(name: str, tmp_path: Path) -> None:
    """QM9's miniature computes properties of what it is given, so its bad records are made below."""
    reader, writer = registry.reader(name), miniature(name)
    kinds = {4: "same place", 7: "absurd", 10: "NaN", 13: "no energy"}
    if not reader.INFO.checks["requires_energy"] or name in (*JSON, *UNLABELLED_ARE_NO_RECORDS):
        del kinds[13]
    if "forces" not in reader.INFO.units:
        del kinds[7], kinds[10]
    elif name in JSON:
        del kinds[10]
    (tmp_path / "source").mkdir()
    made = made_of(writer.FAMILY)
    writer.write(tmp_path / "source", poisoned(made, kinds), reader.Config())
    config = ConvertConfig(name=name, reader={"name": name}, sources=(tmp_path / "source",), store="store", shard=7)
    result = convert.run(config, tmp_path, Ranks()).result
    assert (result["structures"], result["rejected"]) == (len(made) - len(kinds), len(kinds))
    rejects = [json.loads(line) for line in (tmp_path / "store" / "rejects.jsonl").read_text().splitlines()]
    told = Counter(kind for reject in rejects for kind in kinds.values() if REASONS[kind] in reject["reason"])
    assert told == Counter(kinds.values())
    kept = set(Store.open(tmp_path / "store").load().ids.tolist())
    for reject in rejects:
        path = tmp_path / "source" / reject["file"]
        span = range(reject["position"], reject["position"] + 1)
        (again,) = reader.read(path, reader.Config(), span)
        assert again.id == reject["id"] and reject["id"] not in kept


def test_a_published_record_without_an_energy_is_damaged_and_a_container_may_hold_candidates(tmp_path: Path) -> None:
    """One energy of a reaction's path that is not a number, and a frame of someone's own file without one."""
    transition1x.write(tmp_path / transition1x.FILE)
    with h5py.File(tmp_path / transition1x.FILE, "a") as file:
        (formula,) = file["data"]
        reaction = sorted(file[f"data/{formula}"])[0]
        file[f"data/{formula}/{reaction}/wB97x_6-31G(d).energy"][1] = np.nan
    config = ConvertConfig(name="t", reader={"name": "transition1x"}, sources=(tmp_path / transition1x.FILE,), store="t")
    assert convert.run(config, tmp_path, Ranks()).result["rejected"] == 1
    (reject,) = map(json.loads, (tmp_path / "t" / "rejects.jsonl").read_text().splitlines())
    assert (reject["id"], reject["reason"]) == (f"{formula}/{reaction}/1", "no energy, or not a number")
    (tmp_path / "a.xyz").write_text("1\nenergy=-1\nCu 0 0 0\n1\nname=candidate\nCu 0 0 0\n1\nenergy=nan\nCu 0 0 0\n")
    config = ConvertConfig(name="a", reader={"name": "extxyz"}, sources=(tmp_path / "a.xyz",), store="a")
    result = convert.run(config, tmp_path, Ranks()).result
    assert (result["structures"], result["rejected"], result["labels"]["energy"]) == (3, 0, 1)


def test_what_labels_a_scalar_needs_no_energy() -> None:
    needed = {name: base.info_of(r := registry.reader(name), r.Config()).checks["requires_energy"] for name in READERS}
    without = {"ase_db", "extxyz", "abx3", "oqmd_abx3", "matbench_jdft2d", "matbench_is_metal"}
    assert {name for name, is_needed in needed.items() if not is_needed} == without
    qm9_reader = registry.reader("qm9")
    assert not base.info_of(qm9_reader, qm9_reader.Config(target="gap")).checks["requires_energy"]


def read(name: str, path: Path, **options: Any) -> list[Any]:
    reader = registry.reader(name)
    config = reader.Config(**options)
    found = list(reader.read(path, config))
    assert reader.count(path, config) == len(found)
    return found


def reasons(found: list[Any]) -> dict[str, str]:
    return {each.id: each.reason for each in found if isinstance(each, Refused)}


def test_a_geometry_without_a_label_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "1000.hdf5"
    path.write_bytes(qm7x.content())
    with h5py.File(path, "a") as file:
        del file["1/Geom-m1-i1-c1-d1/totFOR"]
    assert reasons(read("qm7x", path, duplicates="keep")) == {"Geom-m1-i1-c1-d1": "no totFOR"}
    assert not reasons(read("qm7x", path, duplicates="keep", labels="pbe0"))


def test_a_reaction_with_too_few_labels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / transition1x.FILE
    transition1x.write(path)
    with h5py.File(path, "a") as file:
        (formula,) = file["data"]
        first = sorted(file[f"data/{formula}"])[0]
        energies = file[f"data/{formula}/{first}/wB97x_6-31G(d).energy"][:-1]
        del file[f"data/{formula}/{first}/wB97x_6-31G(d).energy"]
        file[f"data/{formula}/{first}/wB97x_6-31G(d).energy"] = energies
    found = read("transition1x", path)
    assert set(reasons(found)) == {f"{formula}/{first}/{row}" for row in range(3)}
    assert all("2 wB97x_6-31G(d).energy" in reason for reason in reasons(found).values()) and len(found) == 6


def test_a_record_of_another_shape_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torn = [(*record[:5], record[5][:1], record[6]) if record[0] == "hydroxide" else record for record in qcml.RECORDS]
    monkeypatch.setattr(qcml, "RECORDS", torn)
    path = tmp_path / qcml.FILE
    qcml.write(path)
    config = ConvertConfig(name="q", reader={"name": "qcml", "length_unit": "bohr"}, sources=(path,), store="store")
    assert convert.run(config, tmp_path, Ranks()).result["rejected"] == 1
    (reject,) = map(json.loads, (tmp_path / "store" / "rejects.jsonl").read_text().splitlines())
    assert (reject["id"], reject["position"], reject["file"]) == ("hydroxide", 1, qcml.FILE)
    assert reject["reason"] == "positions have shape (1, 3), expected (2, 3)"


def test_a_frame_that_is_no_frame_is_refused(tmp_path: Path) -> None:
    """Fortran's stars in place of a number too large for its field."""
    extxyz.write(tmp_path / extxyz.FILE)
    lines = (tmp_path / extxyz.FILE).read_text().splitlines(keepends=True)
    lines[2] = "Cu 0.0 ******** 0.0 0.0 0.0 0.0\n"
    (tmp_path / extxyz.FILE).write_text("".join(lines))
    found = read("extxyz", tmp_path / extxyz.FILE)
    assert [isinstance(each, Refused) for each in found] == [True] + [False] * (len(found) - 1)
    assert "no structure can be made of it" in found[0].reason


def test_a_molecule_that_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    strange = ["Q\t 0.\t 0.\t 0.\t-0.5", *qm9.METHANE[1:]]
    monkeypatch.setattr(qm9, "MOLECULES", [(1, strange, -40.5), *qm9.MOLECULES[1:], (4, qm9.METHANE[:1] * 2, -75.0)])
    qm9.write(tmp_path / qm9.FILE)
    config = ConvertConfig(name="q", reader={"name": "qm9"}, sources=(tmp_path / qm9.FILE,), store="store")
    assert convert.run(config, tmp_path, Ranks()).result["structures"] == 1
    rejects = [json.loads(line) for line in (tmp_path / "store" / "rejects.jsonl").read_text().splitlines()]
    assert [(reject["id"], reject["position"]) for reject in rejects] == [("gdb_1", 0), ("gdb_4", 2)]
    assert "KeyError: 'Q'" in rejects[0]["reason"] and "closer than" in rejects[1]["reason"]


def test_a_conformer_of_unknown_elements_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.xyz"
    path.write_text(f"3\nado_00 -48000.0\n{wiggle150.WATER}3\nado_01 -47900.0\n{wiggle150.WATER.replace('O ', 'Qq ')}")
    assert list(reasons(read("wiggle150", path))) == ["ado_01"]


@pytest.mark.parametrize(
    ("name", "text"), [("wiggle150", f"3\nado_00 -48000.0\n{wiggle150.WATER}"), ("extxyz", "1\nenergy=-1\nCu 0 0 1.25\n")]
)
def test_a_number_that_lost_its_last_figures_is_noticed(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text(text)
    assert len(read(name, tmp_path / "a.xyz")) == 1
    (tmp_path / "a.xyz").write_text(text[:-2])
    reader = registry.reader(name)
    with pytest.raises(CampaignError, match="ends within a line"):
        list(reader.read(tmp_path / "a.xyz", reader.Config()))


def test_a_row_without_positions_is_refused(tmp_path: Path) -> None:
    path = tmp_path / omol25.FILE
    with LMDBDatabase(str(path), create_indices=False, use_lock_file=False, serial=True) as database:
        for charge in (0, 0.5):
            atoms = Atoms("OH2", omol25.PLACES)
            atoms.calc = SinglePointCalculator(atoms, energy=-2081.5, forces=np.array(omol25.FORCES))
            database.write(atoms, data={"source": f"water {charge}", "charge": charge, "spin": 1})
    sound, refused = read("omol25", path)
    assert sound.id == "water 0#1" and refused == Refused(
        "water 0.5#2", "no structure can be made of it (ValueError: 0.5 is no whole number)"
    )


def test_atomic_numbers_do_not_wrap_around() -> None:
    with pytest.raises(ValueError, match="atomic numbers from 1 to 257"):
        structure(np.array([1, 257]), np.eye(2, 3), {}, names=("x", None))


# nabla2DFT


def test_totals_of_nabla2dft_are_formation_energies_and_atoms(tmp_path: Path) -> None:
    path = tmp_path / nabla2dft.FILE
    nabla2dft.write(path)
    assert set(reasons(read("nabla2dft", path, energy="total")).values()) == {
        "no structure can be made of it (ValueError: the file tabulates no isolated atom of one of its elements)"
    }
    import ase.db

    with ase.db.connect(path, serial=True) as database:
        table = [0.0, -0.5, *[0.0] * 4, -37.75, 0.0, 0.0, -99.5]
        database.metadata = {**database.metadata, "atomrefs": {"energy": table}}
    total = (-6.5 - 0.5 - 37.75 - 99.5) * 27.211386245988
    assert read("nabla2dft", path, energy="total")[0].energy == pytest.approx(total, rel=1e-14)
    assert read("nabla2dft", path)[0].energy == pytest.approx(nabla2dft.EXPECTED[0]["energy"], rel=1e-14)
    reader = registry.reader("nabla2dft")
    kinds = {kind: reader.info(reader.Config(energy=kind)).energy_kind for kind in ("formation", "total")}
    assert kinds == {"formation": "formation", "total": "total"}
    with ase.db.connect(path, serial=True) as database:
        database.metadata = {key: value for key, value in database.metadata.items() if key != "atomrefs"}
    with pytest.raises(CampaignError, match="tabulates no energies of isolated atoms"):
        list(reader.read(path, reader.Config(energy="total")))


def test_totals_of_real_nabla2dft_rows_are_those_of_whole_molecules(samples: Path) -> None:
    """Within a part in a thousand of a sum of atoms: carbon near -37.8 Hartree, chlorine near -460."""
    path = samples / "nabla2dft" / "test_database.db"
    formation, total = read("nabla2dft", path), read("nabla2dft", path, energy="total")
    atoms = {1: -0.50, 6: -37.80, 7: -54.52, 8: -74.98, 9: -99.6, 16: -397.8, 17: -459.8, 35: -2573.0}
    for a, b in zip(formation, total, strict=True):
        isolated = 27.211386245988 * sum(atoms[z] for z in a.numbers.tolist())
        assert b.energy - a.energy == pytest.approx(isolated, rel=1e-3)
        assert b.energy < a.energy < 0


def test_a_level_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path) -> None:
    from tests.contracts.sources import ani1x

    ani1x.write(tmp_path / ani1x.FILE)
    reader = registry.reader("ani1x")
    with pytest.raises(CampaignError, match=r"no wb97x_qz.energy and no wb97x_qz.forces; levels with energies: .*wb97x_dz"):
        reader.count(tmp_path / ani1x.FILE, reader.Config(level="wb97x_qz"))
