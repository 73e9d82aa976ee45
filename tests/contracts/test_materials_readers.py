"""What the readers of crystals have beyond the contract of all: options, forms of their files, what they refuse."""

from __future__ import annotations

import bz2
import gzip
import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pymatgen.core import Lattice
from pymatgen.core import Structure as Crystal

from model import registry
from model.data.readers.base import info_of
from model.data.structure import Refused, Structure
from model.outcome import CampaignError
from tests.contracts.sources import abx3, alexandria, matbench_is_metal, mptrj, omat24, oqmd_abx3
from tests.contracts.test_readers import assert_expected

ROOT = Path(__file__).parents[2]


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


def info(name: str, **options: Any) -> Any:
    reader = registry.reader(name)
    return info_of(reader, reader.Config(**options))


# MPtrj


def test_mptrj_gives_corrected_energies_on_request(tmp_path: Path) -> None:
    mptrj.write(tmp_path / mptrj.FILE)
    found = read("mptrj", tmp_path, energy="corrected")
    assert [s.energy for s in found] == [-7.75, -8.0, -13.75]
    assert found[0].forces.tolist() == mptrj.FORCES
    assert "MP2020" in info("mptrj", energy="corrected").level_of_theory
    assert "MP2020" not in info("mptrj").level_of_theory


def test_mptrj_splits_by_material_on_request(tmp_path: Path) -> None:
    mptrj.write(tmp_path / mptrj.FILE)
    assert [s.identity for s in read("mptrj", tmp_path, identity="material")] == ["mp-1", "mp-1", "mp-7"]


@pytest.mark.parametrize("slipped", [1 / 1602.1766208 * (1 + 1e-7), -1 / 1602.1766208, 1 / 160.21766208, 1.0])
def test_another_unit_or_sign_of_stress_is_caught(slipped: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mptrj.write(tmp_path / mptrj.FILE)
    monkeypatch.setattr(registry.reader("mptrj"), "KBAR_EV_PER_CUBIC_ANGSTROM", slipped)
    with pytest.raises(AssertionError):
        assert_expected(read("mptrj", tmp_path), mptrj.EXPECTED)


@pytest.mark.parametrize(
    ("species", "reason"),
    [([{"Fe": 0.5, "Mn": 0.5}, "O"], "shared or"), ([{"Fe": 0.9}, "O"], "shared or"), (["Xa", "O"], "KeyError: 'Xa'")],
)
def test_a_site_that_is_no_atom_is_refused(species: list[Any], reason: str, tmp_path: Path) -> None:
    frame = mptrj.frame(["Na", "Cl"], -6.5, 1.0)
    odd = frame | {"structure": Crystal(Lattice.cubic(4), species, [[0, 0, 0], [0.5, 0.5, 0.5]]).as_dict()}
    (tmp_path / "m.json").write_text(json.dumps({"mp-1": {"mp-1-0-0": odd, "mp-1-0-1": frame}}))
    refused, sound = read("mptrj", tmp_path)
    assert isinstance(refused, Refused) and refused.id == "mp-1-0-0" and reason in refused.reason
    assert isinstance(sound, Structure)


def test_deuterium_is_hydrogen(tmp_path: Path) -> None:
    heavy = mptrj.frame(["Na", "D"], -6.5, 1.0)
    (tmp_path / "m.json").write_text(json.dumps({"mp-1": {"mp-1-0-0": heavy}}))
    assert read("mptrj", tmp_path)[0].numbers.tolist() == [11, 1]


def test_a_frame_without_a_key_is_refused_and_the_others_go_on(tmp_path: Path) -> None:
    frame = mptrj.frame(["Na", "Cl"], -6.5, 1.0)
    torn = {key: value for key, value in frame.items() if key != "uncorrected_total_energy"}
    (tmp_path / "m.json").write_text(json.dumps({"mp-1": {"mp-1-0-0": frame, "mp-1-0-1": torn, "mp-1-0-2": frame}}))
    found = read("mptrj", tmp_path)
    assert [type(each) for each in found] == [Structure, Refused, Structure]
    assert "uncorrected_total_energy" in found[1].reason


PEAK = """
import resource
from pathlib import Path
from model.data.readers import mptrj

def work(path):
    config = mptrj.Config()
    number = mptrj.count(path, config)
    assert {len(s.numbers) for s in mptrj.read(path, config, range(number))} == {40}
    return number

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

work(Path("small.json"))
before = peak()
print(work(Path("big.json")), peak() - before)
"""


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """60 MB of MPtrj, counted and read in a process of its own: the peak grows by less than a tenth of that."""
    crystal = Crystal(Lattice.cubic(9), ["Na", "Cl"] * 20, np.random.default_rng(0).random((40, 3)))
    small = mptrj.frame(["Na", "Cl"], -6.5, 1.0)
    frame = json.dumps(small | {"structure": crystal.as_dict(), "force": np.zeros((40, 3)).tolist(), "magmom": [0.1] * 40})
    material = ", ".join(f'"mp-1-0-{step}": {frame}' for step in range(8))
    (tmp_path / "small.json").write_text(f'{{"mp-1": {{{material}}}}}')
    with (tmp_path / "big.json").open("w") as file:
        file.writelines(
            f'{", " if number else "{"}"mp-{number}": {{{material}}}' for number in range(60_000_000 // len(material))
        )
        file.write("}")
    command = [sys.executable, "-c", PEAK]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    frames, growth_kb = map(int, done.stdout.split())
    assert (tmp_path / "big.json").stat().st_size > 59e6 and frames > 3000
    assert growth_kb < 6_000


# Alexandria


def test_alexandria_reads_one_functional_only(tmp_path: Path) -> None:
    for place in ("pbe/alexandria_000", "pbe_2d/alexandria_2d_000", "pbesol/alexandria_ps_000", "scan/alexandria_scan_000"):
        path = tmp_path / f"{place}.json.bz2"
        path.parent.mkdir()
        alexandria.write(path)
    steps = tmp_path / "geo_opt_paths" / "pbe" / "alex_go_aaa_000.json.bz2"
    steps.parent.mkdir(parents=True)
    steps.write_bytes(b"of another layout")
    assert [p.name for p in files("alexandria", tmp_path)] == ["alexandria_000.json.bz2", "alexandria_2d_000.json.bz2"]
    assert [p.name for p in files("alexandria", tmp_path, functional="scan")] == ["alexandria_scan_000.json.bz2"]
    assert len(read("alexandria", tmp_path, functional="pbesol")) == 2
    assert [info("alexandria", functional=f).level_of_theory[:6] for f in ("pbe", "pbesol", "scan")] == [
        "PBE an",
        "PBEsol",
        "SCAN (",
    ]


def test_a_file_of_another_functional_is_named(tmp_path: Path) -> None:
    path = tmp_path / "alexandria_ps_000.json.bz2"
    alexandria.write(path)
    with pytest.raises(CampaignError, match="no file of functional pbe .found: pbesol") as caught:
        files("alexandria", path)
    assert caught.value.where == str(path)
    path.rename(tmp_path / "alex_go_aaa_000.json.bz2")
    with pytest.raises(CampaignError, match="relaxation paths only"):
        files("alexandria", tmp_path)


def test_alexandria_has_no_target_unless_asked(tmp_path: Path) -> None:
    alexandria.write(tmp_path / alexandria.FILE)
    assert np.isnan([s.target for s in read("alexandria", tmp_path)]).all()
    assert [s.target for s in read("alexandria", tmp_path, target="e_above_hull")] == [0.125, 0.125]
    assert info("alexandria").target is None
    asked = info("alexandria", target="e_form")
    assert (asked.target, asked.target_unit, asked.energy_kind) == ("scalar", "eV/atom", "total")


def test_an_entry_without_forces_has_none(tmp_path: Path) -> None:
    entry = alexandria.entry("agm1", -1.0, 0.0, 1.0).as_dict()
    entry["structure"]["sites"][1]["properties"] = {}
    (tmp_path / alexandria.FILE).write_bytes(bz2.compress(json.dumps({"entries": [entry]}).encode()))
    (found,) = read("alexandria", tmp_path)
    assert found.forces is None and found.energy == -1.0


# OMat24


@pytest.mark.parametrize("name", ["omol25", "omat24", "opoly26", "oc25"])
def test_a_tar_as_it_is_published_is_answered_with_what_to_do(name: str, tmp_path: Path) -> None:
    """Sound, and not to be fetched again: it is to be unpacked."""
    omat24.write(tmp_path / omat24.FILE)
    (tmp_path / "set").mkdir()
    packed = tmp_path / "set" / "train.tar.gz"
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(tmp_path / omat24.FILE, omat24.FILE)
    for given in (packed, packed.parent):
        with pytest.raises(CampaignError, match="a tar of .aselmdb files") as caught:
            files(name, given)
        assert caught.value.where == str(packed) and "Unpack it (tar -xf train.tar.gz)" in caught.value.remedy
    (tmp_path / omat24.FILE).rename(packed.with_name(omat24.FILE))
    assert [path.name for path in files(name, packed.parent)] == [omat24.FILE]
    reader = registry.reader(name)
    assert name == "oc25" or any("unpack" in pitfall for pitfall in reader.INFO.pitfalls)


def test_rows_of_omat24_tell_their_subset(tmp_path: Path) -> None:
    path = tmp_path / "omat" / "rattled-300-subsampled" / "train" / omat24.FILE
    path.parent.mkdir(parents=True)
    omat24.write(path)
    assert [s.id for s in read("omat24", tmp_path)] == [f"rattled-300-subsampled/train/data0003/{key}" for key in (1, 2)]


# Tables with structures beside them


@pytest.mark.parametrize(
    ("name", "source", "service"), [("abx3", abx3, "materialsproject"), ("oqmd_abx3", oqmd_abx3, "oqmd.org")]
)
def test_it_is_told_how_to_get_the_structures(name: str, source: Any, service: str, tmp_path: Path) -> None:
    source.write(tmp_path / source.FILE)
    (tmp_path / source.COMPANIONS[0]).unlink()
    with pytest.raises(CampaignError, match="names materials only; their structures are missing") as caught:
        files(name, tmp_path)
    assert caught.value.where == str(tmp_path / source.COMPANIONS[0])
    assert service in caught.value.remedy and "save the JSON answers" in caught.value.remedy


@pytest.mark.parametrize(("name", "source"), [("abx3", abx3), ("oqmd_abx3", oqmd_abx3)])
@pytest.mark.parametrize("damage", [lambda text: text[: len(text) // 2], lambda text: "", lambda text: "[]", lambda text: "{}"])
def test_damaged_answers_are_named(name: str, source: Any, damage: Any, tmp_path: Path) -> None:
    source.write(tmp_path / source.FILE)
    beside = tmp_path / source.COMPANIONS[0]
    beside.write_text(damage(beside.read_text()))
    with pytest.raises(CampaignError) as caught:
        read(name, tmp_path)
    assert caught.value.where == str(beside)


@pytest.mark.parametrize(("name", "source", "key"), [("abx3", abx3, "material_id"), ("oqmd_abx3", oqmd_abx3, "entry_id")])
def test_one_answer_and_a_list_of_records_are_understood(name: str, source: Any, key: str, tmp_path: Path) -> None:
    source.write(tmp_path / source.FILE)
    beside = tmp_path / source.COMPANIONS[0]
    records = [record for answer in json.loads(beside.read_text()) for record in answer["data"]]
    for text in (json.dumps(records), json.dumps({"meta": {}, "data": records})):
        beside.write_text(text)
        assert_expected(read(name, tmp_path), source.EXPECTED)
    torn = [{key: record[key]} if number == 0 else record for number, record in enumerate(records)]
    beside.write_text(json.dumps(torn))
    reasons = {r.id: r.reason for r in read(name, tmp_path) if isinstance(r, Refused)}
    assert list(reasons) == [str(records[0][key])] and "no structure can be made of the answer" in reasons[str(records[0][key])]


def test_rows_without_answer_or_target_are_refused(tmp_path: Path) -> None:
    abx3.write(tmp_path / abx3.FILE)
    lines = (tmp_path / abx3.FILE).read_text().splitlines()
    lines += ["mp-99999,CaTiO3,5,-8.0,-3.0,2.0,", "mp-4019,CaTiO3,5,-8.0,,2.0,", "mp-4019,CaTiO3,5,-8.0, nan,2.0,"]
    (tmp_path / abx3.FILE).write_text("\n".join(lines) + "\n")
    refused = [record for record in read("abx3", tmp_path) if isinstance(record, Refused)]
    assert [(r.id, r.reason[:9]) for r in refused] == [
        ("mp-99999", "no answer"),
        ("mp-4019", "no target"),
        ("mp-4019", "no target"),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("formation_energy (eV/atom)", "formation_energy (meV/atom)"), "no column formation_energy"),
        (lambda text: text.replace("mp-20459,", ""), "line 3 has 6 of 7 columns"),
        (lambda text: text[:-1], "ends within a line"),
    ],
)
def test_a_csv_file_of_another_form_is_named(change: Any, message: str, tmp_path: Path) -> None:
    abx3.write(tmp_path / abx3.FILE)
    (tmp_path / abx3.FILE).write_text(change((tmp_path / abx3.FILE).read_text()))
    with pytest.raises(CampaignError, match=message) as caught:
        read("abx3", tmp_path)
    assert caught.value.where == str(tmp_path / abx3.FILE)


# Matbench


def test_a_class_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / matbench_is_metal.FILE
    matbench_is_metal.write(path)
    frame = json.loads(gzip.decompress(path.read_bytes()))
    frame["data"][0][1] = 0.5
    path.write_bytes(gzip.compress(json.dumps(frame).encode()))
    refused, sound = read("matbench_is_metal", tmp_path)
    assert isinstance(refused, Refused) and "neither true nor false" in refused.reason
    assert sound.target == 1.0


def test_another_task_is_named(tmp_path: Path) -> None:
    matbench_is_metal.write(tmp_path / matbench_is_metal.FILE)
    shutil.move(tmp_path / matbench_is_metal.FILE, tmp_path / "matbench_jdft2d.json.gz")
    with pytest.raises(CampaignError, match="columns structure, is_metal instead of structure and exfoliation_en"):
        read("matbench_jdft2d", tmp_path)


def test_columns_may_stand_in_another_order(tmp_path: Path) -> None:
    path = tmp_path / matbench_is_metal.FILE
    matbench_is_metal.write(path)
    frame = json.loads(gzip.decompress(path.read_bytes()))
    turned = {"data": [row[::-1] for row in frame["data"]], "columns": frame["columns"][::-1], "index": frame["index"]}
    path.write_bytes(gzip.compress(json.dumps(turned).encode()))
    assert_expected(read("matbench_is_metal", tmp_path), matbench_is_metal.EXPECTED)
