"""A store gives back what was put in, block by block, and notices what is missing."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import adios2
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from model.config import ConvertConfig
from model.data import codec, convert, references
from model.data.readers import extxyz
from model.data.shard import content_hash, file_hashes, read_shard, stored, write_shard
from model.data.splits import counts
from model.data.store import FORMAT, Store
from model.outcome import CampaignError
from model.parallel import Ranks
from model.specs import Splits, Storage
from tests.contracts.sources import qm9
from tests.structures import labelled, random_block, store_of

ALL = Splits(validation=0, test=0)


def frames(count: int, seed: int = 0) -> list[Atoms]:
    random = np.random.default_rng(seed)
    made = []
    for k in range(count):
        atoms = molecule(["H2O", "CH4", "CH3OH", "NH3"][k % 4])
        atoms.rattle(0.02, seed=k)
        made.append(labelled(atoms, -14.0 * len(atoms) + random.normal(), random.normal(size=(len(atoms), 3))))
    return made


def test_a_shard_gives_back_its_block(tmp_path: Path) -> None:
    block = random_block(30)
    write_shard(tmp_path / "a.bp", block, {"branch": "x", "unit_energy": "eV", "structures": 30})
    assert content_hash(read_shard(tmp_path / "a.bp", 0, 30)) == content_hash(block)
    part = read_shard(tmp_path / "a.bp", 7, 19)
    assert content_hash(part) == content_hash(block.take(range(7, 19)))
    assert part.ids.tolist() == [str(k) for k in range(7, 19)]
    with adios2.FileReader(str(tmp_path / "a.bp")) as reader:
        assert reader.read_attribute("unit_energy") == "eV"


def test_a_shard_keeps_targets_where_there_are_some(tmp_path: Path) -> None:
    block = random_block(12)
    write_shard(tmp_path / "a.bp", block, {})
    found = read_shard(tmp_path / "a.bp", 3, 12).target
    assert found.dtype == np.float64
    assert np.array_equal(found, np.where(block.pbc.any(axis=1), 0.5 * block.num_atoms, np.nan)[3:], equal_nan=True)
    assert np.isfinite(found).any() and np.isnan(found).any()


@pytest.mark.parametrize("positions", ["float64", "float32"])
@pytest.mark.parametrize("compression", ["none", "deflate"])
def test_however_it_is_stored_it_is_read_back(
    positions: str, compression: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codec, "CHUNK", 8)
    block, storage = random_block(30), Storage(positions=positions, compression=compression)
    write_shard(tmp_path / "a.bp", block, {}, storage)
    kept = stored(block, storage)
    assert np.abs(kept.positions - block.positions).max() <= (0 if positions == "float64" else 2**-24 * 8)
    for start, stop in ((0, 30), (0, 1), (7, 8), (8, 16), (5, 23), (29, 30)):
        assert content_hash(read_shard(tmp_path / "a.bp", start, stop)) == content_hash(kept.take(range(start, stop)))
    with adios2.FileReader(str(tmp_path / "a.bp")) as reader:
        types = {name: about["Type"] for name, about in reader.available_variables().items()}
    single = {"float64": "double", "float32": "float"}[positions]
    assert types["positions"] == (single if compression == "none" else "uint8_t")
    assert types["forces"] == ("double" if compression == "none" else "uint8_t")


def test_what_is_alike_is_stored_smaller(tmp_path: Path) -> None:
    block = random_block(200, periodic=False)
    for compression in ("none", "deflate"):
        write_shard(tmp_path / compression, block, {}, Storage(positions="float32", compression=compression))
    sizes = {c: sum(f.stat().st_size for f in (tmp_path / c).iterdir()) for c in ("none", "deflate")}
    assert sizes["deflate"] < 0.7 * sizes["none"]  # no cell, no stress, no target: much of it is zeros and NaN


def test_a_damaged_chunk_is_told(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.bp", random_block(9), {}, Storage(compression="deflate"))
    data = bytearray((tmp_path / "a.bp" / "data.0").read_bytes())
    place = data.index(b"\x78\x01", len(data) // 4)
    data[place : place + 2] = b"no"
    (tmp_path / "a.bp" / "data.0").write_bytes(data)
    with pytest.raises(CampaignError, match="not a readable shard .a damaged chunk"):
        read_shard(tmp_path / "a.bp", 0, 9)


def test_a_shard_tells_where_it_comes_from(tmp_path: Path) -> None:
    store = store_of(tmp_path, frames(8))
    (shard,) = store.manifest["shards"]
    with adios2.FileReader(str(store.folder / shard["folder"])) as reader:
        told = {name: reader.read_attribute(name) for name in reader.available_attributes()}
    (source,) = store.manifest["sources"]
    assert told["origin_sha256"] == source["sha256"] == hashlib.sha256((tmp_path / "frames.extxyz").read_bytes()).hexdigest()
    assert (told["origin_file"], told["origin_start"], told["origin_stop"]) == ("frames.extxyz", 0, 8)
    assert (told["reader"], told["reader_version"], told["format"]) == ("extxyz", extxyz.INFO.version, FORMAT)
    assert (told["structures"], told["atoms"]) == (8, store.num_atoms)
    histogram = dict(zip(told["elements"].tolist(), told["element_atoms"].tolist(), strict=True))
    assert {str(z): n for z, n in histogram.items()} == store.manifest["elements"]
    assert (told["labelled_energy"], told["labelled_stress"]) == (8, 0)
    assert (told["unit_energy"], told["compression"], told["positions_type"]) == ("eV", "none", "float64")
    assert {"level_of_theory", "energy_kind", "licence", "citation"} <= told.keys()


DOCS = Path(__file__).parents[2] / "docs" / "store.md"
TYPES = {"int64": "int64_t", "uint8": "uint8_t", "int16": "int16_t", "uint64": "uint64_t", "double": "double"}


def told_of(heading: str) -> list[list[str]]:
    """Return the cells of the first table behind a heading of the page, without its own heading."""
    text = DOCS.read_text().partition(f"\n{heading}\n")[2].partition("\n#")[0]
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def scalars(folder: Path, compression: str) -> Path:
    """Convert a source with a list beside it and a scalar target; returns the folder of its one shard."""
    folder.mkdir()
    qm9.write(folder / qm9.FILE)
    about = {"name": "qm9", "target": "gap"}
    config = ConvertConfig(
        name="gap", reader=about, sources=(folder / qm9.FILE,), store="store", storage=Storage(compression=compression)
    )
    convert.run(config, folder, Ranks())
    (shard,) = Store.open(folder / "store").manifest["shards"]
    return folder / "store" / shard["folder"]


def test_the_page_tells_the_variables_of_a_shard(tmp_path: Path) -> None:
    """Name, type and shape of each, as someone would need them who writes a reader from the page."""
    with adios2.FileReader(str(scalars(tmp_path / "plain", "none"))) as reader:
        written = {name: (about["Type"], about["Shape"]) for name, about in reader.available_variables().items()}
        sizes = {"n": 2, "N": 8, "`id_offsets[n]`": len("gdb_1gdb_3")}
    shapes = {"n": [2], "N": [8], "n + 1": [3], "N × 3": [8, 3], "n × 3": [2, 3], "n × 3 × 3": [2, 3, 3]}
    shapes["`id_offsets[n]`"] = [sizes["`id_offsets[n]`"]]
    rows = told_of("## Variables of a shard")
    told = {row[0].strip("`"): (TYPES[row[1].partition(",")[0]], ", ".join(map(str, shapes[row[2]]))) for row in rows}
    assert told == written


def test_the_page_tells_the_attributes_of_a_shard(tmp_path: Path) -> None:
    with adios2.FileReader(str(scalars(tmp_path / "packed", "deflate"))) as reader:
        written = {name: about["Type"] for name, about in reader.available_attributes().items()}
    kinds = {"string": "string", "integer": "int64_t", "integers": "int64_t"}
    told = {}
    for names, types, _ in told_of("### Attributes"):
        each = [kinds[word] for word in types.split(", ")]
        named = [name.strip("`") for name in names.split(", ")]
        told |= dict(zip(named, each * len(named) if len(each) == 1 else each, strict=len(each) > 1))
    assert told == written


def test_a_shards_bytes_depend_on_its_block_alone(tmp_path: Path) -> None:
    for name in ("a.bp", "b.bp"):
        write_shard(tmp_path / name, random_block(9), {"branch": "é"})
    assert file_hashes(tmp_path / "a.bp") == file_hashes(tmp_path / "b.bp")
    write_shard(tmp_path / "b.bp", random_block(9, seed=1), {"branch": "é"})
    assert file_hashes(tmp_path / "a.bp") != file_hashes(tmp_path / "b.bp")


def test_a_store_gives_back_its_source(tmp_path: Path) -> None:
    source = frames(23)
    store = store_of(tmp_path, source, name="ethanol", shard=5)
    assert (store.name, store.num_structures, len(store.manifest["shards"])) == ("ethanol", 23, 5)
    block = store.load()
    assert block.energy == pytest.approx([a.get_potential_energy() for a in source])
    assert block.forces == pytest.approx(np.concatenate([a.get_forces() for a in source]), abs=1e-7)
    assert store.elements == {1, 6, 7, 8}
    assert store.num_atoms == len(block.numbers) == sum(map(len, source))
    store.verify()


def test_any_block_is_a_slice_of_the_whole(tmp_path: Path) -> None:
    store = store_of(tmp_path, frames(23), shard=5)
    whole = store.load()
    for start, stop in ((0, 0), (0, 5), (4, 6), (3, 21), (20, 23), (23, 23)):
        assert content_hash(store.read(start, stop)) == content_hash(whole.take(range(start, stop)))
    with pytest.raises(CampaignError, match="structures 20 to 24 of 23"):
        store.read(20, 24)


def test_the_manifest_tells_what_is_there(tmp_path: Path) -> None:
    splits = Splits(seed=3, validation=0.3, test=0.3)
    store = store_of(tmp_path, frames(12), splits=splits, shard=5)
    block, about = store.load(), store.manifest
    assert about["structures"] == 12
    assert about["split_counts"] == counts(block.identity, splits)
    assert about["labels"] == {"energy": 12, "forces": 12, "stress": 0, "target": 0}
    assert about["elements"]["1"] == int((block.numbers == 1).sum())
    assert about["sources"][0]["name"] == "frames.extxyz"
    assert about["units"]["energy"] == "eV"
    assert about["largest"] == 6


def test_references_are_those_of_the_training_split(tmp_path: Path) -> None:
    splits = Splits(seed=1, validation=0.2, test=0.2)
    store = store_of(tmp_path, frames(40), splits=splits, shard=7, identity=None)
    direct = references.fit(store.load(), splits)
    assert store.references is not None and direct is not None
    assert store.references.energies == pytest.approx(direct.energies, rel=1e-10)
    assert store.references.sigma_energy == pytest.approx(direct.sigma_energy, rel=1e-8)
    assert store.references.count == direct.count == store.manifest["split_counts"]["train"]


def test_candidates_without_energies_have_no_references(tmp_path: Path) -> None:
    store = store_of(tmp_path, [molecule("H2O"), molecule("CH4")])
    assert store.references is None
    assert np.isnan(store.load().energy).all()


@pytest.mark.parametrize("what", ["cut", "gone", "references"])
def test_missing_bytes_are_noticed_when_it_opens(tmp_path: Path, what: str) -> None:
    store = store_of(tmp_path, frames(8), splits=ALL)
    data = store.folder / store.manifest["shards"][0]["folder"] / "data.0"
    if what == "cut":
        data.write_bytes(data.read_bytes()[:-10])
    elif what == "gone":
        data.unlink()
    else:
        data = store.folder / "references.json"
        data.unlink()
    with pytest.raises(CampaignError, match="other bytes than the manifest") as caught:
        Store.open(store.folder)
    assert caught.value.where == str(data)


def test_a_flipped_bit_is_noticed_by_verify(tmp_path: Path) -> None:
    store = store_of(tmp_path, frames(8))
    data = store.folder / store.manifest["shards"][0]["folder"] / "data.0"
    flipped = bytearray(data.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    data.write_bytes(flipped)
    with pytest.raises(CampaignError) as caught:
        Store.open(store.folder).verify()
    assert caught.value.where == str(data)


def test_what_is_no_store_is_said(tmp_path: Path) -> None:
    with pytest.raises(CampaignError, match="no finished store here"):
        Store.open(tmp_path)
    for known in (1, 99):
        (tmp_path / "manifest.json").write_text(json.dumps({"format": known}))
        with pytest.raises(
            CampaignError, match=rf"store format {known}, this version reads {FORMAT}\n *Convert the source again"
        ):
            Store.open(tmp_path)
