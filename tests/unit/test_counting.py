"""Edges are counted once for a store, a cutoff and a cap, and are those of the neighbour lists."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import neighbor_list

from model.data import counting
from model.data.counting import COUNTS, counts_folder, edge_counts
from model.data.store import FORMAT, MANIFEST, Store
from model.outcome import CampaignError
from model.parallel import Ranks
from tests.stores import emt_store

ROOT = Path(__file__).parents[2]
MPIEXEC = Path(sys.executable).parent / "mpiexec"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(emt_store(tmp_path, "emt", ("Cu", "Au"), 12))


def by_ase(store: Store, cutoff: float) -> list[int]:
    block = store.load()
    spans = zip(block.offsets.tolist(), block.offsets[1:].tolist(), strict=False)
    structures = [
        Atoms(block.numbers[a:b], block.positions[a:b], cell=block.cell[k], pbc=block.pbc[k]) for k, (a, b) in enumerate(spans)
    ]
    return [len(neighbor_list("i", atoms, cutoff)) for atoms in structures]


@pytest.mark.parametrize("cutoff", [3.0, 9.5])
def test_counts_are_those_of_ase(store: Store, cutoff: float) -> None:
    """In some cells the larger cutoff reaches an atom's own images."""
    counts = edge_counts(store, cutoff, None, Ranks())
    assert counts.dtype == np.uint32
    assert counts.tolist() == by_ase(store, cutoff)


def test_a_cap_bounds_the_edges_of_each_atom(store: Store) -> None:
    capped = edge_counts(store, 9.5, 4, Ranks())
    block = store.load()
    assert (capped <= 4 * block.num_atoms).all() and (
        capped[block.pbc.any(axis=1)] == 4 * block.num_atoms[block.pbc.any(axis=1)]
    ).all()


def test_what_was_counted_is_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first = edge_counts(store, 5.0, None, Ranks())
    monkeypatch.setattr(counting, "_count", None)  # not called again
    assert edge_counts(store, 5.0, None, Ranks()).tolist() == first.tolist()
    about = json.loads((counts_folder(store, 5.0, None) / COUNTS).read_text())
    assert (about["cutoff_angstrom"], about["max_neighbors"], about["structures"]) == (5.0, None, 12)
    (file,) = about["files"]
    raw = (counts_folder(store, 5.0, None) / file["name"]).read_bytes()
    assert np.frombuffer(raw, "<u4").tolist() == first.tolist()
    for cutoff, cap in ((5.0, 4), (5.5, None)):
        with pytest.raises(TypeError):
            edge_counts(store, cutoff, cap, Ranks())


def test_how_counts_vary_is_said_of_those_of_an_earlier_release_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first = edge_counts(store, 5.0, None, Ranks())
    path = counts_folder(store, 5.0, None) / COUNTS
    told = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in told.items() if key != "edges"}))
    monkeypatch.setattr(counting, "_count", None)  # nothing is counted again
    assert edge_counts(store, 5.0, None, Ranks()).tolist() == first.tolist()
    assert json.loads(path.read_text()) == told


def test_a_part_that_was_cut_is_counted_again(store: Store) -> None:
    first = edge_counts(store, 5.0, None, Ranks())
    (part,) = counts_folder(store, 5.0, None).glob("*.u32")
    part.write_bytes(part.read_bytes()[:-4])
    assert edge_counts(store, 5.0, None, Ranks()).tolist() == first.tolist()


def test_another_store_has_counts_of_its_own(store: Store, tmp_path: Path) -> None:
    folder = counts_folder(store, 5.0, None)
    manifest = store.folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"emt"', '"tme"'))
    assert counts_folder(Store.open(store.folder), 5.0, None) != folder


def test_nothing_is_written_into_the_store(store: Store) -> None:
    before = sorted(store.folder.rglob("*"))
    edge_counts(store, 5.0, None, Ranks())
    assert sorted(store.folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("cutoff", "cap", "said"),
    [
        ("inf", None, "a cutoff of inf Å"),
        ("0", None, "a cutoff of 0 Å"),
        ("nan", None, "a cutoff of nan Å"),
        ("-1", None, "a cutoff of -1 Å"),
        ("5", 0, "a cap of 0"),
    ],
)
def test_what_is_no_cutoff_or_cap_is_told_by_its_option(store: Store, cutoff: str, cap: int | None, said: str) -> None:
    with pytest.raises(CampaignError, match=said) as caught:
        edge_counts(store, float(cutoff), cap, Ranks())
    assert caught.value.where == ("--cutoff" if cap is None else "--max-neighbors") and "above zero" in caught.value.remedy
    assert not store.folder.with_name(f"{store.folder.name}.edges").exists()


@pytest.mark.skipif(not MPIEXEC.exists(), reason="no mpiexec in this environment (extra `local`)")
def test_ranks_divide_the_shards(store: Store) -> None:
    command = [str(MPIEXEC), "-n", "2", sys.executable, "-m", "model.data.counting", str(store.folder), "--cutoff", "5"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True, timeout=120)
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["edges"] == edge_counts(store, 5.0, None, Ranks()).sum()


def test_what_is_no_store_is_told(store: Store, tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("hello")
    with pytest.raises(CampaignError, match="that is a file, and a store is a folder"):
        Store.open(tmp_path / "plain")
    for text, said in (("[1]", "store format None"), (f'{{"format": {FORMAT}}}', "the manifest is damaged")):
        (store.folder / MANIFEST).write_text(text)
        with pytest.raises(CampaignError, match=said):
            Store.open(store.folder)
