"""What the molecular readers owe beyond the contract: each pitfall of a published set, and what answers it."""

from __future__ import annotations

import io
import json
import lzma
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from model import registry
from model.data.identity import bonds, identity
from model.data.readers.omol25 import subset_of
from model.data.structure import UNLABELLED
from model.data.validation import fault
from model.outcome import CampaignError
from tests.contracts.sources import md17 as md17_source
from tests.contracts.sources import omol25 as omol25_source
from tests.contracts.sources import qcml as qcml_source
from tests.contracts.sources import qm7x as qm7x_source
from tests.contracts.sources import qm9 as qm9_source
from tests.contracts.sources import transition1x as transition1x_source
from tests.contracts.sources import wiggle150 as wiggle150_source
from tests.contracts.test_readers import assert_expected

ROOT = Path(__file__).parents[2]
SUBSETS = ("neutral_singlet", "charged_nonsinglet", "rest")


def read(name: str, path: Path, span: range | None = None, **options: Any) -> list[Any]:
    reader = registry.reader(name)
    config = reader.Config(**options)
    found = list(reader.read(path, config, span))
    if span is None:
        assert reader.count(path, config) == len(found)
    return found


@pytest.mark.parametrize("charge", [None, -1, 0, 2])
@pytest.mark.parametrize("spin", [None, 1, 2, 3])
def test_every_row_of_omol25_belongs_to_one_subset(charge: int | None, spin: int | None) -> None:
    if charge == 0 and spin == 1:
        assert subset_of(charge, spin) == "neutral_singlet"
    elif charge in (-1, 2) and spin in (2, 3):
        assert subset_of(charge, spin) == "charged_nonsinglet"
    else:
        assert subset_of(charge, spin) == "rest"


def test_the_subsets_of_omol25_are_disjoint_and_complete(tmp_path: Path) -> None:
    path = tmp_path / omol25_source.FILE
    omol25_source.write(path)
    parts = {subset: [s.id for s in read("omol25", path, subset=subset)] for subset in SUBSETS}
    # Charges and spins of the rows take turns: (0, 1), (1, 2), (-1, 2).
    assert [len(parts[subset]) for subset in SUBSETS] == [4, 8, 0]
    assert sorted(sum(parts.values(), [])) == sorted(s.id for s in read("omol25", path))
    assert [s.id for s in read("omol25", path, range(2, 5), subset="charged_nonsinglet")] == parts["charged_nonsinglet"][2:5]


@pytest.mark.parametrize("file", ["ani2x_samples.aselmdb", "small-test.aselmdb"])
def test_the_subsets_of_real_omol25_rows(samples: Path, file: str) -> None:
    whole = read("omol25", samples / "omol25" / file)
    parts = {subset: read("omol25", samples / "omol25" / file, subset=subset) for subset in SUBSETS}
    assert sum(map(len, parts.values())) == len(whole)
    assert all((s.charge, s.spin) == (0, 1) for s in parts["neutral_singlet"])
    assert all(s.charge != 0 and s.spin != 1 for s in parts["charged_nonsinglet"])
    assert all((s.charge == 0) != (s.spin == 1) for s in parts["rest"])


def error_of(name: str, path: Path, **options: Any) -> CampaignError:
    """Return the one error that counting and reading end in."""
    reader = registry.reader(name)
    config = reader.Config(**options)
    errors = []
    for act in (lambda: reader.count(path, config), lambda: list(reader.read(path, config))):
        with pytest.raises(CampaignError) as caught:
            act()
        errors.append(caught.value)
    assert errors[0].where == errors[1].where
    assert errors[0].remedy
    return errors[0]


def test_the_label_pairs_of_qm7x_belong_together(tmp_path: Path) -> None:
    path = tmp_path / qm7x_source.FILE
    qm7x_source.write(path)
    with_dispersion, without = read("qm7x", path)[0], read("qm7x", path, labels="pbe0")[0]
    assert (with_dispersion.energy, without.energy) == (-1102.5, -1102.375)
    assert with_dispersion.forces[1].tolist() == [0.5, 0, -0.25]
    assert without.forces[1].tolist() == [1.0, 0, -0.5]


def tarred(content: bytes) -> bytes:
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as archive:
        for name, data in (("README.txt", b"read me"), ("1000.hdf5", content)):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return memory.getvalue()


@pytest.mark.parametrize("name", ["1000.xz", "1000.hdf5"])
@pytest.mark.parametrize("packing", ["bare", "xz", "tar in xz"])
def test_qm7x_is_told_by_its_first_bytes(name: str, packing: str, tmp_path: Path) -> None:
    content = qm7x_source.content()
    packed = {"bare": content, "xz": lzma.compress(content), "tar in xz": lzma.compress(tarred(content))}[packing]
    (tmp_path / name).write_bytes(packed)
    assert len(read("qm7x", tmp_path / name, duplicates="keep")) == 4


def test_an_xz_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "1000.xz").write_bytes(lzma.compress(b"text" * 1000))
    assert "neither an HDF5 file nor a tar" in error_of("qm7x", tmp_path / "1000.xz", duplicates="keep").what
    (tmp_path / "2000.xz").write_bytes(lzma.compress(tarred(b"text")))
    assert "holds no HDF5 file" in error_of("qm7x", tmp_path / "2000.xz", duplicates="keep").what


def test_a_file_of_qm7x_is_not_taken_packed_and_unpacked(tmp_path: Path) -> None:
    reader = registry.reader("qm7x")
    for name in ("1000.xz", "1000.hdf5", "2000.xz"):
        (tmp_path / name).touch()
    assert [p.name for p in reader.files([tmp_path], reader.Config())] == ["1000.hdf5", "2000.xz"]


def test_unpacking_leaves_nothing_behind(tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    qm7x_source.write(tmp_path / qm7x_source.FILE)
    code = f"""
from pathlib import Path
from model.data.readers import qm7x
path = Path({str(tmp_path / qm7x_source.FILE)!r})
print(len(list(qm7x.read(path, qm7x.Config()))), len(list(Path({str(temporary)!r}).iterdir())))
"""
    environment = {**os.environ, "TMPDIR": str(temporary)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment, timeout=60)
    assert done.stdout.split() == ["3", "1"], done.stderr
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "source", "list_", "option"),
    [
        ("qm7x", qm7x_source, "DupMols.dat", "duplicates: keep"),
        ("qm9", qm9_source, "uncharacterized.txt", "uncharacterized: keep"),
    ],
)
def test_a_list_of_what_to_leave_out_is_asked_for(name: str, source: Any, list_: str, option: str, tmp_path: Path) -> None:
    source.write(tmp_path / source.FILE)
    (tmp_path / list_).unlink()
    error = error_of(name, tmp_path / source.FILE)
    assert error.where == str(tmp_path / list_) and option in error.remedy
    assert len(read(name, tmp_path / source.FILE, **dict([option.split(": ")]))) == len(source.EXPECTED) + 1


def test_another_list_than_the_published_one_is_refused(tmp_path: Path) -> None:
    qm9_source.write(tmp_path / qm9_source.FILE)
    (tmp_path / "uncharacterized.txt").write_text("line\n" * 20)
    assert error_of("qm9", tmp_path / qm9_source.FILE).where == str(tmp_path / "uncharacterized.txt")


def test_the_parts_of_transition1x_are_the_authors(tmp_path: Path) -> None:
    path = tmp_path / transition1x_source.FILE
    transition1x_source.write(path)
    everything = [s.id for s in read("transition1x", path)]
    assert len(everything) == len(set(everything)) == 6
    assert [s.id for s in read("transition1x", path, part="train")] == everything
    assert [s.id for s in read("transition1x", path, part="test")] == everything[3:]
    assert read("transition1x", path, part="val") == []


def test_a_reaction_stays_whole_and_with_its_reactant(tmp_path: Path) -> None:
    path = tmp_path / transition1x_source.FILE
    transition1x_source.write(path)
    frames = read("transition1x", path)
    reactant = identity(frames[0].numbers, frames[0].positions, frames[0].pbc)
    product = identity(frames[2].numbers, frames[2].positions, frames[2].pbc)
    assert {s.identity for s in frames} == {reactant} != {product}
    assert {s.identity for s in read("transition1x", path, identity="formula")} == {"formula:C1H1N1"}


@pytest.mark.parametrize("option", ["auto", "bohr"])
def test_qcml_in_bohr(option: str, tmp_path: Path) -> None:
    path = tmp_path / qcml_source.FILE
    qcml_source.write(path)
    assert read("qcml", path, length_unit=option)[0].positions[1, 2] == pytest.approx(1.75 * 0.529177210903)


@pytest.mark.parametrize("option", ["auto", "angstrom"])
def test_qcml_in_angstrom(option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = [(*r[:5], [[0.5 * x for x in row] for row in r[5]], r[6]) for r in qcml_source.RECORDS]
    monkeypatch.setattr(qcml_source, "RECORDS", short)
    path = tmp_path / qcml_source.FILE
    qcml_source.write(path)
    assert read("qcml", path, length_unit=option)[0].positions[1, 2] == 0.875


def test_qcml_in_neither_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = [(*r[:5], [[0.75 * x for x in row] for row in r[5]], r[6]) for r in qcml_source.RECORDS]
    monkeypatch.setattr(qcml_source, "RECORDS", short)
    path = tmp_path / qcml_source.FILE
    qcml_source.write(path)
    reader = registry.reader("qcml")
    with pytest.raises(CampaignError, match="cannot tell the unit of length") as caught:
        list(reader.read(path, reader.Config()))
    assert "length_unit" in caught.value.remedy


def test_outliers_and_totals_of_qcml(tmp_path: Path) -> None:
    path = tmp_path / qcml_source.FILE
    qcml_source.write(path)
    assert [s.id for s in read("qcml", path, outliers="keep")] == ["hf", "wild", "hydroxide", "oxygen"]
    assert read("qcml", path, energy="total")[0].energy == pytest.approx(-100.21875 * 27.211386245988, rel=1e-12)


def test_a_flipped_bit_in_a_tfrecord_is_caught(tmp_path: Path) -> None:
    path = tmp_path / qcml_source.FILE
    qcml_source.write(path)
    whole = path.read_bytes()
    for place in (3, 9, len(whole) // 2, len(whole) - 2):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        assert error_of("qcml", path).where == str(path)


def test_revised_md17_and_other_units_are_refused(tmp_path: Path) -> None:
    numbers, places = np.array([8, 1, 1]), np.array(md17_source.PLACES)
    revised = {"nuclear_charges": numbers, "coords": places, "energies": np.zeros(5), "forces": places}
    np.savez(tmp_path / "rmd17_uracil.npz", **revised)
    assert "revised MD17" in error_of("md17", tmp_path / "rmd17_uracil.npz").what
    np.savez(tmp_path / "a.npz", R=places, F=places, E=np.zeros((5, 1)), z=numbers, e_unit=np.array("eV"))
    reader = registry.reader("md17")
    with pytest.raises(CampaignError, match="states e_unit eV, not kcal/mol"):
        list(reader.read(tmp_path / "a.npz", reader.Config()))


def test_an_archive_of_objects_is_not_unpickled(tmp_path: Path) -> None:
    objects = np.array([[None]] * 5, object)
    np.savez(tmp_path / "a.npz", R=objects, F=objects, E=objects, z=objects)
    assert "ValueError" in error_of("md17", tmp_path / "a.npz").what


def test_a_molecule_of_md17_may_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / md17_source.FILE
    md17_source.write(path)
    assert len({s.identity for s in read("md17", path, identity="connectivity")}) == 1


def test_totals_and_molecules_of_wiggle150(tmp_path: Path) -> None:
    path = tmp_path / wiggle150_source.FILE
    wiggle150_source.write(path)
    found = read("wiggle150", path, energy="total", identity="connectivity")
    kcal = 4184 / (6.02214076e23 * 1.602176634e-19)
    assert [s.energy for s in found] == pytest.approx([-48000 * kcal, -47900 * kcal, -94950 * kcal, -95000 * kcal], rel=1e-12)
    assert len({s.identity for s in found}) == 2


def test_a_conformer_without_its_reference_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text(f"3\nado_01 -47900.0\n{wiggle150_source.WATER}")
    reader = registry.reader("wiggle150")
    with pytest.raises(CampaignError, match="a.xyz.*no reference conformer ado_00"):
        list(reader.read(tmp_path / "a.xyz", reader.Config()))


# Methane of the published archive, from the second line of its file, in the units that are promised.
METHANE = {
    "U0": -40.47893 * 27.211386245988,
    "U": -40.476062 * 27.211386245988,
    "H": -40.475117 * 27.211386245988,
    "G": -40.498597 * 27.211386245988,
    # PyTorch Geometric's column 12 is -17.172182 eV.
    "U0_atom": (-40.47893 + 37.846772 + 4 * 0.500273) * 27.211386245988,
    "homo": -0.3877 * 27.211386245988,
    "lumo": 0.1171 * 27.211386245988,
    "gap": 0.5048 * 27.211386245988,
    "zpve": 0.044749 * 27.211386245988,
    "mu": 0.0,
    "alpha": 13.21,
    "r2": 35.3641,
    "Cv": 6.469,
    "A": 157.7118,
    "B": 157.70997,
    "C": 157.70699,
}


@pytest.mark.parametrize("target", METHANE)
def test_every_property_of_a_real_qm9_molecule(samples: Path, target: str) -> None:
    (methane,) = read("qm9", samples / "qm9" / "dsgdb9nsd_000001.xyz", target=target, uncharacterized="keep")
    is_energy = target in ("U0", "U", "H", "G", "U0_atom")
    value, other = (methane.energy, methane.target) if is_energy else (methane.target, methane.energy)
    assert value == pytest.approx(METHANE[target], rel=1e-12)
    assert np.isnan(other)
    assert METHANE["U0_atom"] == pytest.approx(-17.172182, abs=1e-5)


def test_a_real_qm9_archive(samples: Path) -> None:
    found = read("qm9", samples / "qm9" / "first10.tar.bz2", uncharacterized="keep")
    formulas = ["CH4", "H3N", "H2O", "C2H2", "CHN", "CH2O", "C2H6", "CH4O", "C3H4", "C2H3N"]
    assert [str(Atoms(s.numbers).symbols.formula.format("hill")) for s in found] == formulas
    assert [s.id for s in found] == [f"gdb_{k}" for k in range(1, 11)]
    assert all(fault(s) is None and s.forces is None and s.charge == s.spin == UNLABELLED for s in found)
    assert len({s.identity for s in found}) == 10


def test_a_real_qm9_archive_has_the_places_and_bonds_of_the_sdf(samples: Path) -> None:
    """The same molecules by another route (MoleculeNet's SDF, 4 decimals), whose bonds were perceived by another program."""
    known = {s.id: s for s in read("qm9", samples / "qm9" / "first10.tar.bz2", uncharacterized="keep")}
    compared = set()
    for record in (samples / "qm9" / "qm9_mini.sdf").read_text().split("$$$$\n"):
        name, _, _, counts, *lines = record.splitlines() or ["", "", "", ""]
        if name not in known:
            continue
        atoms, pairs = int(counts[:3]), int(counts[3:6])
        rows = [line.split() for line in lines[:atoms]]
        same = known[name]
        assert [row[3] for row in rows] == list(Atoms(same.numbers).symbols)
        assert np.array([row[:3] for row in rows], float) == pytest.approx(same.positions, abs=1e-4)
        ends = {(int(line[:3]) - 1, int(line[3:6]) - 1) for line in lines[atoms : atoms + pairs]}
        found = np.argwhere(np.triu(bonds(same.numbers, same.positions)))
        assert {tuple(sorted(each)) for each in ends} == {(i, j) for i, j in found.tolist()}
        compared.add(name)
    assert len(compared) >= 8, compared


def test_real_wiggle150_conformers_in_the_published_layout(samples: Path, tmp_path: Path) -> None:
    """The values are real, the container is written here as it is published."""
    molecules = json.loads((samples / "wiggle150" / "wiggle150_dataset.json").read_text())
    lines, totals = [], []
    for molecule in molecules:
        for k, (energy, places) in enumerate(zip(molecule["dft_energy_profile"], molecule["conformer_coordinates"], strict=True)):
            lines += [f"{len(places)}", f"{molecule['molecule_name']}_{k:02d} {energy!r}"]
            lines += [f"{symbol} {x} {y} {z}" for symbol, (x, y, z) in zip(molecule["atom_symbols"], places, strict=True)]
            totals.append(energy)
    (tmp_path / "wiggle150.xyz").write_text("\n".join(lines) + "\n")
    found = read("wiggle150", tmp_path / "wiggle150.xyz")
    assert len(found) == len(totals)
    assert all(fault(s) is None for s in found)
    for molecule in {s.id.partition("_")[0] for s in found}:
        energies = [s.energy for s in found if s.id.startswith(molecule)]
        # The reference is a minimum and the others are strained by some 10 to 200 kcal/mol.
        assert energies[0] == 0 and all(0.4 < e < 10 for e in energies[1:]), energies
    assert found[1].energy == pytest.approx((totals[1] - totals[0]) / 23.060547830619, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "source", "constant", "value"),
    [
        ("qcml", qcml_source, "BOHR_ANGSTROM", 0.529177),
        ("qcml", qcml_source, "BOHR_ANGSTROM", 1.0),
        ("md17", md17_source, "KCAL_PER_MOL_EV", 1 / 23.0609),
        ("md17", md17_source, "KCAL_PER_MOL_EV", 0.0104),
        ("wiggle150", wiggle150_source, "KCAL_PER_MOL_EV", 1 / 23.0609),
    ],
)
def test_another_constant_is_caught(
    name: str, source: Any, constant: str, value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values seen in public readers, and other units."""
    source.write(tmp_path / source.FILE)
    assert_expected(read(name, tmp_path / source.FILE), source.EXPECTED)
    monkeypatch.setattr(registry.reader(name), constant, value)
    with pytest.raises(AssertionError):
        assert_expected(read(name, tmp_path / source.FILE), source.EXPECTED)


def test_a_file_that_changed_is_read_anew(tmp_path: Path) -> None:
    """What is remembered of a file must not outlive it."""
    path = tmp_path / wiggle150_source.FILE
    wiggle150_source.write(path)
    before = read("wiggle150", path)[1].energy
    path.write_text(path.read_text().replace("ado_00 -48000.0", "ado_00 -48100.0"))
    assert read("wiggle150", path)[1].energy == pytest.approx(2 * before)


@pytest.mark.parametrize(
    ("name", "message"), [("other.xyz", "not named as QM9's files are"), ("README.txt", "holds no molecule")]
)
def test_an_archive_of_other_files_is_no_qm9(name: str, message: str, tmp_path: Path) -> None:
    qm9_source.write(tmp_path / qm9_source.FILE)
    with tarfile.open(tmp_path / qm9_source.FILE, "w:bz2") as archive:
        archive.addfile(tarfile.TarInfo(name))
    assert message in error_of("qm9", tmp_path / qm9_source.FILE).what
