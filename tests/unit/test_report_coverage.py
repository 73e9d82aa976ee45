"""What data cover: every element in its place, energies before and after references, what has no reference named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.data import chemical_symbols

from model.config import ConvertConfig
from model.data import convert, spread
from model.data.spread import spreads
from model.data.store import Store
from model.parallel import Ranks
from model.specs import Splits
from tests.structures import labelled, store_of
from workflow.report.coverage import coverage, periodic_table
from workflow.report.elements import SYMBOLS, place
from workflow.report.facts import StageFacts
from workflow.report.status import StageStatus

NONE = Splits(validation=0, test=0)


def test_every_element_has_a_place_of_its_own() -> None:
    assert chemical_symbols[1:] == SYMBOLS
    places = [place(z) for z in range(1, 119)]
    assert len(set(places)) == 118
    groups = {
        0: "H Li Na K Rb Cs Fr",
        1: "Be Mg Ca Sr Ba Ra",
        12: "B Al Ga In Tl Nh",
        17: "He Ne Ar Kr Xe Rn Og",
        3: "Ti Zr Hf Rf",
    }
    for column, symbols in groups.items():
        assert {place(chemical_symbols.index(symbol))[1] for symbol in symbols.split()} == {column}
    assert [place(z)[0] for z in (56, 72, 57, 71, 89, 103)] == [5, 5, 7.4, 7.4, 8.4, 8.4]


def test_the_table_names_all_elements_and_counts_data_sets() -> None:
    drawing = periodic_table("x", {"H": 1000, "Og": 1}, {"H": 3, "Og": 1})
    texts = [part.partition("<")[0].strip() for part in drawing.split(">")]
    assert set(SYMBOLS) <= set(texts) and texts.count("3") == 1


def frames(count: int) -> list[Atoms]:
    random = np.random.default_rng(0)
    made = []
    for k in range(count):
        atoms = molecule("H2O" if k % 2 else "CH4")
        atoms.rattle(0.02, seed=k)
        energy = {"O": -2040.0, "C": -1028.0, "H": -13.6}
        total = sum(energy[s] for s in atoms.get_chemical_symbols()) + 0.1 * random.normal()
        made.append(labelled(atoms, total, random.normal(size=(len(atoms), 3))))
    return made


def test_spreads_are_those_of_the_store(tmp_path: Path) -> None:
    store = store_of(tmp_path, frames(40), splits=NONE, shard=7)
    block, found = store.load(), spreads(store, store.references)
    before = block.energy / block.num_atoms
    assert found["structures"] == 40
    assert found["energy_ev_per_atom"]["mean"] == pytest.approx(before.mean())
    assert found["energy_ev_per_atom"]["std"] == pytest.approx(before.std())
    assert found["residual_ev_per_atom"]["std"] == pytest.approx(store.references.sigma_energy, rel=1e-6)
    assert found["residual_ev_per_atom"]["std"] < 1e-3 * found["energy_ev_per_atom"]["std"]
    assert found["force_ev_per_angstrom"]["count"] == len(block.numbers) == sum(found["force_ev_per_angstrom"]["counts"])


def test_a_large_store_is_sampled_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_of(tmp_path, frames(40), splits=NONE, shard=4)
    monkeypatch.setattr(spread, "MOST_SHARDS", 3)
    monkeypatch.setattr(spread, "MOST_STRUCTURES", 6)
    assert spread._sample(store).ids.tolist() == [f"frames.extxyz/{k}" for k in (0, 1, 16, 17, 36, 37)]


def test_without_labels_there_is_nothing_to_spread(tmp_path: Path) -> None:
    store = store_of(tmp_path, [Atoms("H"), Atoms("He")])
    assert spreads(store, store.references) == {"structures": 2}


def stage_of(**branches: object) -> StageFacts:
    status = StageStatus(key="data", kind="convert", state="done", needs=())
    return StageFacts(status=status, result={"branches": branches})


def test_what_was_converted_is_told(tmp_path: Path) -> None:
    """An element that the training split lacks is named, in the store, the outcome and the report."""
    made = [*frames(12), labelled(Atoms("He"), -78.0, np.zeros((1, 3)))]
    for atoms in made:
        atoms.info["identity"] = atoms.get_chemical_formula()
    splits = next(
        Splits(seed=seed, validation=0, test=0.3)
        for seed in range(99)
        if _parts(seed, "He") == 2 and _parts(seed, "H2O") == _parts(seed, "CH4") == 0
    )
    for atoms in made:
        results = atoms.calc.results
        atoms.info |= {"energy": results["energy"]}
        atoms.arrays["forces"] = results["forces"]
        atoms.calc = None
    store = store_of(tmp_path, made, splits=splits, identity="identity")
    assert store.manifest["elements_without_reference"] == [2]
    config = ConvertConfig(
        name="branch",
        reader={"name": "extxyz", "identity": "identity"},
        sources=(tmp_path / "frames.extxyz",),
        store="store",
        splits=splits,
    )
    result = convert.run(config, tmp_path, Ranks()).result
    assert result["elements_without_reference"] == ["He"]
    picture, table, histograms = coverage(stage_of(water=result), ())
    assert (
        "water: He" in picture.warning
        and picture.picture is not None
        and "Periodic table of 4 elements" in picture.picture.alternative
    )
    assert table.table is not None
    row = dict(zip(table.table.columns, table.table.rows[0], strict=True))
    assert (row["without data"], row[">elements"], row[">rank of the fit"]) == ("He", "4", "2 of 3")
    assert float(row[">spread after references"]) < float(row[">its spread"].replace(",", ""))
    assert histograms.picture is not None and "after references (eV/atom)" in histograms.picture.alternative


def _parts(seed: int, identity: str) -> int:
    from model.data.block import hash_identity
    from model.data.splits import split

    return int(split(np.array([hash_identity(identity)], np.uint64), Splits(seed=seed, validation=0, test=0.3))[0])


def test_results_of_earlier_versions_leave_out_what_they_do_not_have() -> None:
    assert coverage(stage_of(), ()) == []
    assert coverage(stage_of(old={"structures": 3}), ()) == []
    (only,) = coverage(stage_of(old={"structures": 3, "elements": {"H": 3}}), ())
    assert only.picture is not None and not only.warning


def test_a_store_is_open_without_its_references(tmp_path: Path) -> None:
    assert Store.open(store_of(tmp_path, [Atoms("H")]).folder).manifest["elements_without_reference"] == []
