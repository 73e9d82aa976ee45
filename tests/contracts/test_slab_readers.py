"""What the readers of trajectories have beyond the contract of all: archives, pairs of files, systems, what they refuse."""

from __future__ import annotations

import io
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.trajectory import Trajectory
from ase_db_backends.aselmdb import LMDBDatabase

from model import registry
from model.data.readers import _aselmdb
from model.data.readers.base import info_of
from model.data.structure import Refused, Structure
from model.outcome import CampaignError
from tests.contracts.sources import ms25, oc20, oc22, oc25, odac23
from tests.contracts.test_readers import assert_expected


def read(name: str, *paths: Path, **options: Any) -> list[Any]:
    """Read all files under the paths, and count them."""
    reader = registry.reader(name)
    config = reader.Config(**options)
    found = reader.files(list(paths), config)
    records = [record for file in found for record in reader.read(file, config)]
    assert len(records) == sum(reader.count(file, config) for file in found)
    return records


def files(name: str, *paths: Path, **options: Any) -> list[Path]:
    reader = registry.reader(name)
    return list(reader.files(list(paths), reader.Config(**options)))


def tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


# OC20


def chunk(folder: Path, number: int = 0) -> dict[str, bytes]:
    """Write a chunk and return its two files by the names that they have in the tar."""
    made = folder / "made"
    made.mkdir(exist_ok=True)
    oc20.write(made / oc20.FILE)
    return {f"s2ef/s2ef/{number}{suffix}": (made / f"0{suffix}").read_bytes() for suffix in (".txt.xz", ".extxyz.xz")}


def test_oc20_gives_adsorption_energies_on_request(tmp_path: Path) -> None:
    oc20.write(tmp_path / oc20.FILE)
    found = read("oc20", tmp_path, energy="adsorption")
    assert [s.energy for s in found] == [-264.5 + 262.5, -261.0 + 260.25, -261.125 + 260.25]
    reader = registry.reader("oc20")
    assert info_of(reader, reader.Config(energy="adsorption")).energy_kind == "adsorption"
    assert info_of(reader, reader.Config()).energy_kind == "total"


def test_a_tar_of_oc20_holds_what_its_folder_holds(tmp_path: Path) -> None:
    """Chunks come in the order of their numbers, wherever they stand in the tar."""
    members = {**chunk(tmp_path, 10), **chunk(tmp_path, 2), "s2ef/README.md": b"read me"}
    path = tar(tmp_path / "s2ef_train_200K.tar", members)
    found = read("oc20", path)
    assert_expected(found, oc20.EXPECTED * 2)
    (tmp_path / "unpacked").mkdir()
    for name, data in chunk(tmp_path, 2).items():
        (tmp_path / "unpacked" / Path(name).name).write_bytes(data)
    assert_expected(read("oc20", tmp_path / "unpacked"), oc20.EXPECTED)
    reader = registry.reader("oc20")
    middle = list(reader.read(path, reader.Config(), range(2, 5)))
    assert [s.id for s in middle] == [s.id for s in found[2:5]]


def test_decompressed_chunks_are_read_once(tmp_path: Path) -> None:
    oc20.write(tmp_path / oc20.FILE)
    for name in ("0.extxyz", "0.txt"):
        (tmp_path / name).write_bytes(lzma.decompress((tmp_path / f"{name}.xz").read_bytes()))
    assert files("oc20", tmp_path) == [tmp_path / "0.extxyz.xz"]
    (tmp_path / "0.extxyz.xz").unlink()
    assert_expected(read("oc20", tmp_path), oc20.EXPECTED)


@pytest.mark.parametrize("lines", [2, 4])
def test_a_chunk_with_unequal_counts_is_told_and_refused(lines: int, tmp_path: Path) -> None:
    members = {**chunk(tmp_path, 1), **chunk(tmp_path, 199)}
    text = "".join(f"random{k},frame0,-1.0\n" for k in range(lines))
    members["s2ef/s2ef/199.txt.xz"] = lzma.compress(text.encode())
    found = read("oc20", tar(tmp_path / "s2ef_train_200K.tar", members))
    assert_expected(found[:3], oc20.EXPECTED)
    assert [(r.id, r.reason) for r in found[3:]] == [
        (f"199/{k}", f"199.extxyz.xz has 3 frames, its text file {lines} lines") for k in range(3)
    ]


def test_a_chunk_without_its_text_file_is_named(tmp_path: Path) -> None:
    oc20.write(tmp_path / oc20.FILE)
    (tmp_path / "0.txt.xz").unlink()
    with pytest.raises(CampaignError, match="no text file of ids") as caught:
        files("oc20", tmp_path)
    assert caught.value.where == str(tmp_path / "0.txt.xz")
    members = chunk(tmp_path)
    path = tar(tmp_path / "s.tar", {name: data for name, data in members.items() if ".extxyz" in name})
    with pytest.raises(CampaignError, match="KeyError: '0.txt.xz'"):
        read("oc20", path)


@pytest.mark.parametrize("text", ["random1,frame2\n" * 3, "random1,frame2,none\n" * 3])
def test_a_text_file_of_another_form_is_named(text: str, tmp_path: Path) -> None:
    oc20.write(tmp_path / oc20.FILE)
    (tmp_path / "0.txt.xz").write_bytes(lzma.compress(text.encode()))
    reader = registry.reader("oc20")
    with pytest.raises(CampaignError) as caught:
        list(reader.read(tmp_path / oc20.FILE, reader.Config()))
    assert caught.value.where == str(tmp_path / oc20.FILE)


@pytest.mark.parametrize("name", ["oc20", "oc22", "odac23"])
def test_archives_beside_unpacked_files_are_not_read_twice(name: str, tmp_path: Path) -> None:
    oc20.write(tmp_path / oc20.FILE)
    ase.io.write(tmp_path / "1.extxyz", Atoms("H"))
    path = tar(tmp_path / "a.tar", chunk(tmp_path))
    with pytest.raises(CampaignError, match="the same frames twice") as caught:
        files(name, tmp_path)
    assert caught.value.where == str(path)


# Archives


@pytest.mark.parametrize(
    ("name", "form"), [("oc20", ""), *((n, f) for n in ("oc22", "odac23") for f in ("", ".gz", ".xz", ".bz2"))]
)
def test_an_archive_that_was_cut_is_named(name: str, form: str, tmp_path: Path) -> None:
    """Between two members, within a header, in the data, before the end mark: `tarfile` alone notices the third."""
    members = {**chunk(tmp_path, 0), **chunk(tmp_path, 1)}
    if name != "oc20":
        text = io.StringIO()
        ase.io.write(text, [oc22.slab(-1.0, 1.0)], format="extxyz")
        members = {f"train/{k}.extxyz": text.getvalue().encode() for k in range(4)}
    path = tar(tmp_path / f"a.tar{form}", members, f"w:{form[1:]}")
    whole = path.read_bytes()
    assert read(name, path)
    if form:
        cuts = [len(whole) - 1, len(whole) - 9, len(whole) // 2, 30]
    else:
        with tarfile.open(path) as archive:
            last = archive.getmembers()[-1]
        cuts = [last.offset, last.offset + 100, last.offset_data + 10, last.offset_data + 512 * ((last.size + 511) // 512)]
    for keep in cuts:
        path.write_bytes(whole[:keep])
        with pytest.raises(CampaignError) as caught:
            read(name, path)
        assert caught.value.where == str(path), keep


def test_a_compressed_tar_of_oc20_is_refused(tmp_path: Path) -> None:
    path = tar(tmp_path / "s2ef.tar.gz", chunk(tmp_path), "w:gz")
    with pytest.raises(CampaignError, match="not in this reader's format"):
        read("oc20", path)


def test_an_archive_of_something_else_is_named(tmp_path: Path) -> None:
    for name in ("oc20", "oc22", "odac23"):
        path = tar(tmp_path / "papers.tar", {"paper.pdf": b"%PDF"})
        with pytest.raises(CampaignError, match="N.extxyz.xz|no file in it ends in"):
            read(name, path)


def test_ids_are_the_same_packed_or_not(tmp_path: Path) -> None:
    odac23.write(tmp_path / odac23.FILE)
    packed = read("odac23", tmp_path)
    with tarfile.open(tmp_path / odac23.FILE) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    unpacked = read("odac23", tmp_path / "unpacked")
    assert_expected(unpacked, odac23.EXPECTED)
    assert [s.id for s in packed] == [s.id for s in unpacked]


# OC22


def trajectory(path: Path, frames: list[Atoms]) -> bytes:
    with Trajectory(path, "w") as file:
        for atoms in frames:
            file.write(atoms)
    return path.read_bytes()


@pytest.fixture
def slabs() -> list[Atoms]:
    return [oc22.slab(energy, 1.0) for energy in oc22.ENERGIES]


def test_oc22_reads_trajectories_packed_or_not(slabs: list[Atoms], tmp_path: Path) -> None:
    data = trajectory(tmp_path / "oc22_0.traj", slabs)
    assert_expected(read("oc22", tmp_path), oc22.EXPECTED)
    path = tar(tmp_path / "raw.tar.gz", {"train_s2ef_t.txt": b"oc22_0.traj\n", "raw_trajs/oc22_0.traj": data}, "w:gz")
    assert_expected(read("oc22", path), oc22.EXPECTED)


def test_a_damaged_trajectory_is_named(slabs: list[Atoms], tmp_path: Path) -> None:
    data = trajectory(tmp_path / "a.traj", slabs)
    for keep in (len(data) - 5, len(data) // 2, 100, 0):
        (tmp_path / "a.traj").write_bytes(data[:keep])
        with pytest.raises(CampaignError) as caught:
            read("oc22", tmp_path)
        assert caught.value.where == str(tmp_path / "a.traj")


def test_several_tars_in_a_row_are_read_to_the_end(slabs: list[Atoms], tmp_path: Path) -> None:
    """As ColabFit publishes them: `tar --ignore-zeros`."""
    joined = b""
    for number, atoms in enumerate(slabs):
        text = io.StringIO()
        ase.io.write(text, [atoms], format="extxyz")
        joined += tar(tmp_path / "one.tar", {f"train/{number}.extxyz": text.getvalue().encode()}).read_bytes()
    (tmp_path / "one.tar").unlink()
    (tmp_path / "DS_0.tar.xz").write_bytes(lzma.compress(joined))
    assert [(s.id, s.energy) for s in read("oc22", tmp_path)] == [
        (f"train/{number}/0", energy) for number, energy in enumerate(oc22.ENERGIES)
    ]


@pytest.mark.parametrize("given", ["folder", "file"])
def test_pickled_containers_are_never_opened(given: str, tmp_path: Path) -> None:
    path = tmp_path / "data.0000.lmdb"
    path.write_bytes(b"\x80\x04cos\nsystem\n")
    with pytest.raises(CampaignError, match="pickled objects, which are never opened") as caught:
        files("oc22", tmp_path if given == "folder" else path)
    assert caught.value.where == str(path) and "colabfit" in caught.value.remedy
    path.with_suffix(".traj").write_bytes(b"PickleTrajectory" + b"\x80\x04cos\nsystem\n")
    with pytest.raises(CampaignError, match="no ASE trajectory"):
        read("oc22", path.with_suffix(".traj"))


@pytest.mark.parametrize(("lacking", "reason"), [(("energy",), "no energy"), (("energy", "forces"), "no energy and no forces")])
def test_a_frame_without_labels_is_refused(lacking: tuple[str, ...], reason: str, slabs: list[Atoms], tmp_path: Path) -> None:
    kept = {name: value for name, value in slabs[1].calc.results.items() if name not in lacking}
    slabs[1].calc = SinglePointCalculator(slabs[1], **kept)
    ase.io.write(tmp_path / "0.extxyz", slabs, format="extxyz")
    found = read("odac23", tmp_path)
    assert [type(each) for each in found] == [Structure, Refused, Structure]
    assert (found[1].id, found[1].reason) == ("0/1", reason)


# OC25


def test_a_row_without_labels_is_refused(tmp_path: Path) -> None:
    atoms = Atoms("PtOHH", oc25.PLACES, cell=oc25.CELL, pbc=True)
    with LMDBDatabase(str(tmp_path / oc25.FILE), create_indices=False, use_lock_file=False, serial=True) as database:
        database.write(atoms, data={"energy": -1.0})
    (refused,) = read("oc25", tmp_path)
    assert (refused.id, refused.reason) == ("data0000/1", "no forces")


def test_labels_are_looked_for_in_the_row_its_keys_and_its_data() -> None:
    array = {"__ndarray__": [[1, 3], "float64", [0.5, 0.0, -0.5]]}
    row = {
        "energy": None,
        "key_value_pairs": {"energy": -2.0},
        "data": {"energy": -3.0, "forces": array, "stress": [1, 2, 3, 4, 5, 6]},
    }
    labels = _aselmdb.labels(row)
    assert labels["energy"] == -2.0 and labels["forces"].tolist() == [[0.5, 0.0, -0.5]]
    assert labels["stress"].tolist() == [[1, 6, 5], [6, 2, 4], [5, 4, 3]]
    assert _aselmdb.labels({"energy": -1.0}) == {"energy": -1.0, "forces": None, "stress": None}


# MS25


@pytest.fixture
def systems(tmp_path: Path) -> Path:
    for system, parts in {"HEA": ("train", "train-1000", "val", "test", "neb"), "CHA": ("train",)}.items():
        folder = tmp_path / "ms25" / system / "set1"
        folder.mkdir(parents=True)
        for part in parts:
            ms25.write(folder / f"{part}.traj")
    return tmp_path / "ms25"


def test_one_system_is_read(systems: Path) -> None:
    found = files("ms25", systems, system="HEA")
    assert [path.name for path in found] == ["test.traj", "train.traj", "val.traj"]
    assert read("ms25", systems, system="HEA")[0].id == "HEA/test/0"
    assert [p.name for p in files("ms25", systems, system="HEA", parts=("train-1000",))] == ["train-1000.traj"]
    assert len(read("ms25", systems / "CHA")) == 3


def test_systems_are_not_mixed(systems: Path) -> None:
    with pytest.raises(CampaignError, match="several systems: CHA, HEA"):
        files("ms25", systems)
    with pytest.raises(CampaignError, match="no train.traj or val.traj or test.traj of Zr-O .found: CHA, HEA"):
        files("ms25", systems, system="Zr-O")
    with pytest.raises(CampaignError, match="no neb.traj of CHA"):
        files("ms25", systems / "CHA", system="CHA", parts=("neb",))


def test_a_trajectory_given_by_name_is_read(systems: Path) -> None:
    assert files("ms25", systems / "HEA" / "set1" / "neb.traj") == [systems / "HEA" / "set1" / "neb.traj"]


def test_ms25_splits_by_formula_on_request(tmp_path: Path) -> None:
    ms25.write(tmp_path / ms25.FILE)
    assert {s.identity for s in read("ms25", tmp_path, identity="formula")} == {"crystal:Mg1O1"}


def test_a_frame_without_energy_is_refused(tmp_path: Path) -> None:
    trajectory(tmp_path / "train.traj", [Atoms("MgO", ms25.PLACES, cell=ms25.CELL, pbc=True)])
    (refused,) = read("ms25", tmp_path)
    assert "neither in a calculator nor as info['E']" in refused.reason


# Spans


def spans_of(reader: Any, path: Path, opened: Callable[[], int]) -> list[int]:
    counts = []
    for span in (range(1), range(1, 2), range(2, 3), range(1), range(1, 3)):
        assert [s.id for s in reader.read(path, reader.Config(), span)] == [e["id"] for e in odac23.EXPECTED][
            span.start : span.stop
        ]
        counts.append(opened())
    return counts


def test_ascending_spans_are_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a span before the last one starts anew."""
    reader, opened = registry.reader("odac23"), [0]
    real = reader.records

    def counting(*arguments: Any) -> Any:
        opened[0] += 1
        return real(*arguments)

    odac23.write(tmp_path / odac23.FILE)
    monkeypatch.setattr(reader, "records", counting)
    assert spans_of(reader, tmp_path / odac23.FILE, lambda: opened[0]) == [1, 1, 1, 2, 2]


def test_a_file_that_changed_between_spans_is_read_anew(tmp_path: Path) -> None:
    reader, path = registry.reader("odac23"), tmp_path / odac23.FILE
    odac23.write(path)
    assert [s.energy for s in reader.read(path, reader.Config(), range(1))] == [-31.5]
    odac23.write(path, 2.0)
    assert [s.energy for s in reader.read(path, reader.Config(), range(1, 3))] == [-63.5, -60.5]


def test_a_span_that_was_left_early_leaves_nothing_behind(tmp_path: Path) -> None:
    reader, path = registry.reader("odac23"), tmp_path / odac23.FILE
    odac23.write(path)
    records = reader.read(path, reader.Config(), range(3))
    assert next(records).energy == -31.5
    records.close()
    assert [s.energy for s in reader.read(path, reader.Config(), range(1, 3))] == [-31.75, -30.25]
