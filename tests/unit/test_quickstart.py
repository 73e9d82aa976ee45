"""The quickstart's data: other molecules in every part, physics that a model can learn, containers that readers read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data.block import hash_identity
from model.data.identity import identity
from model.data.miniature import extxyz
from model.data.quickstart.alloys import METALS, alloy, strained
from model.data.quickstart.distortions import distorted
from model.data.quickstart.files import FILES, DataFile, make, write
from model.data.quickstart.molecules import CANDIDATES, PRETRAINING, SCARCE, TASK, assembled, bonds, geometry
from model.data.quickstart.physics import calculator, label
from model.data.splits import split
from model.registry import reader
from model.specs import Splits

CAMPAIGN = Path(__file__).parents[2] / "campaigns" / "quickstart.yaml"


def identity_of(atoms: Atoms) -> str:
    return identity(atoms.numbers.astype(np.uint8), atoms.positions, atoms.pbc)


def splits_of(names: tuple[str, ...]) -> np.ndarray:
    """Return the split of each molecule under the quickstart campaign."""
    splits = Splits(**yaml.safe_load(CAMPAIGN.read_text())["splits"])
    hashes = [hash_identity(identity_of(assembled(name))) for name in names]
    return split(np.array(hashes, np.uint64), splits)


def test_no_molecule_stands_twice_and_none_of_the_task_was_seen() -> None:
    names = PRETRAINING + TASK + CANDIDATES
    assert len({identity_of(assembled(name)) for name in names}) == len(names)
    assert set(SCARCE) < set(PRETRAINING)
    assert len(PRETRAINING) >= 40
    assert len(SCARCE) <= 8


def test_the_campaigns_splits_leave_something_in_every_part() -> None:
    assert np.bincount(splits_of(PRETRAINING), minlength=3).min() >= 8
    task = splits_of(TASK)
    assert np.bincount(task, minlength=3).min() >= 1
    counts = [np.bincount(assembled(name).numbers, minlength=9) for name, part in zip(TASK, task, strict=True) if part == 0]
    assert np.linalg.matrix_rank(np.array(counts)) == 4  # else the references of H, C, N, O are not settled
    parts = splits_of(SCARCE)
    assert np.bincount(parts, minlength=3).tolist() == [5, 1, 2]
    elements = [set(assembled(name).numbers) for name in SCARCE]
    trained = set().union(*(e for e, part in zip(elements, parts, strict=True) if part == 0))
    assert all(e <= trained for e in elements)


def test_there_is_as_much_as_promised() -> None:
    sizes = {file.name: len(file.groups) * file.each for file in FILES}
    assert sizes["gfn1.aselmdb"] >= 1000
    assert sizes["gfn2.h5"] <= 100
    assert sizes["emt.extxyz"] >= 400
    assert sizes["task.db"] == 120
    assert sizes["candidates.extxyz"] + 124 >= 500


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([name for name in PRETRAINING if ":" not in name]), st.integers(0, 10_000))
def test_a_distortion_moves_atoms_and_keeps_the_molecule(name: str, seed: int) -> None:
    whole = geometry(name)
    moved = distorted(whole, np.random.default_rng(seed))
    assert identity_of(moved) == identity_of(whole)
    assert np.abs(moved.positions - whole.positions).max() > 1e-3


def test_a_substituted_molecule_has_the_bonds_it_should_and_keeps_them_when_relaxed() -> None:
    raw, relaxed = assembled("CH3CHO:3+OH"), geometry("CH3CHO:3+OH")
    assert raw.get_chemical_formula() == "C2H4O2"
    assert np.array_equal(bonds(raw), bonds(relaxed))
    assert np.abs(label(relaxed, calculator("gfn1")).get_forces()).max() < 0.2


@pytest.mark.parametrize("method", ["gfn1", "gfn2"])
def test_forces_are_the_gradient_and_of_the_order_of_one(method: str) -> None:
    code, random = calculator(method), np.random.default_rng(0)
    made = [label(distorted(geometry("CH3OH"), random), code) for _ in range(10)]
    assert 0.3 < np.sqrt(np.mean([each.get_forces() ** 2 for each in made])) < 3.0
    ends = []
    for step in (1e-3, -1e-3):
        moved = made[0].copy()
        moved.positions[1, 2] += step
        ends.append(label(moved, code).get_potential_energy())
    assert made[0].get_forces()[1, 2] == pytest.approx(-(ends[0] - ends[1]) / 2e-3, abs=1e-3)


def test_alloys_are_of_metals_that_emt_knows_and_feel_forces() -> None:
    random = np.random.default_rng(3)
    made = [label(strained(alloy(random), random), calculator("emt")) for _ in range(8)]
    assert all(set(each.symbols) <= set(METALS) and 8 <= len(each) <= 32 and each.pbc.all() for each in made)
    assert 0.2 < np.sqrt(np.mean(np.concatenate([each.get_forces().ravel() for each in made]) ** 2)) < 3.0


@pytest.mark.parametrize(
    ("name", "reading", "options"),
    [
        ("a.aselmdb", "omol25", {}),
        ("a.h5", "ani1x", {"level": "gfn2_xtb"}),
        ("a.extxyz", "extxyz", {}),
        ("a.db", "ase_db", {}),
    ],
)
def test_each_container_comes_back_through_its_reader(tmp_path: Path, name: str, reading: str, options: dict[str, str]) -> None:
    code, random = calculator("gfn1"), np.random.default_rng(1)
    made = [label(distorted(geometry(m), random), code) for m in ("CH3CH2OH", "CH3OCH3", "CH4")]  # two isomers
    write(tmp_path / name, made, DataFile(name, "gfn1", (), 0, reading, options))
    module = reader(reading)
    found = {each.identity: each for each in module.read(tmp_path / name, module.Config(**options))}
    for atoms in made:
        structure = found[identity_of(atoms)]
        assert structure.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-5)
        assert np.sort(structure.forces.ravel()) == pytest.approx(np.sort(atoms.get_forces().ravel()), abs=1e-6)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_writer_that_fails_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(folder: Path, _structures: list[Atoms], _config: object) -> list[Path]:
        (folder / "frames.extxyz").write_text("half")
        raise OSError("disk full")

    monkeypatch.setattr(extxyz, "write", fails)
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path / "a.extxyz", [], DataFile("a.extxyz", "gfn1", (), 0, "extxyz"))
    assert not (tmp_path / "a.extxyz").exists()


def test_the_same_seed_makes_the_same_data_and_another_one_other_data() -> None:
    file = DataFile("x", "gfn2", ("CH4", "H2CO"), 2, "extxyz")
    reports: list[tuple[int, int]] = []
    once, again = make(file, (0, 0), report=lambda *at: reports.append(at)), make(file, (0, 0))
    other = make(file, (1, 0))
    assert reports == [(1, 2), (2, 2)]
    assert [a.get_potential_energy() for a in once] == [a.get_potential_energy() for a in again]
    assert once[0].get_potential_energy() != other[0].get_potential_energy()


def test_candidates_carry_no_labels_and_some_hold_elements_that_no_branch_knows() -> None:
    made = make(DataFile("x", "gfn1", ("CH4",), 2, "extxyz", labelled=False), (0, 0))
    assert all(each.calc is None for each in made)
    known = {1, 6, 7, 8, *(a.numbers[0] for a in map(Atoms, METALS))}
    assert sum(not set(each.numbers) <= known for each in made) == 4
