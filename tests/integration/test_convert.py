"""Conversion: the same store whatever the ranks, the stops and the deaths on the way."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import molecule

from model.config import ConvertConfig
from model.data import convert, sources
from model.data.readers import extxyz
from model.data.shard import file_hash
from model.data.store import Store
from model.outcome import CampaignError, Status, read_outcome
from model.parallel import Ranks
from model.specs import Splits
from tests.contracts.sources import qm7x
from tests.structures import labelled, store_of

ROOT = Path(__file__).parents[2]
MPIEXEC = Path(sys.executable).parent / "mpiexec"


def frames(count: int, seed: int = 0) -> list[Atoms]:
    random = np.random.default_rng(seed)
    made = []
    for k in range(count):
        atoms = molecule(["H2O", "CH4", "CH3OH", "C6H6", "NH3"][k % 5])
        atoms.rattle(0.02, seed=k)
        made.append(labelled(atoms, -14.0 * len(atoms) + random.normal(), random.normal(size=(len(atoms), 3))))
    return made


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for k, count in enumerate((70, 5, 41)):
        ase.io.write(folder / f"part{k}.extxyz", frames(count, k), format="extxyz")
    return folder


def config(source: Path, **changes: Any) -> ConvertConfig:
    fields = {"name": "small", "reader": {"name": "extxyz"}, "sources": (source,), "store": "store", "shard": 10}
    return ConvertConfig(**{**fields, **changes})


def task(folder: Path, settings: ConvertConfig) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    return [sys.executable, "-m", "model", "convert", "config.yaml"]


def start(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, stderr=subprocess.DEVNULL)


def contents(store: Path) -> dict[str, bytes]:
    return {str(p.relative_to(store)): p.read_bytes() for p in sorted(store.rglob("*")) if p.is_file()}


@pytest.fixture
def plain(source: Path, tmp_path: Path) -> dict[str, bytes]:
    """Give every file of the store that one rank writes without interruption."""
    folder = tmp_path / "plain"
    folder.mkdir()
    assert convert.run(config(source), folder, Ranks()).status is Status.DONE
    return contents(folder / "store")


def test_the_outcome_tells_what_is_in_the_store(source: Path, tmp_path: Path) -> None:
    outcome = convert.run(config(source), tmp_path, Ranks())
    assert outcome.outputs == {"store": "store"}
    store = Store.open(tmp_path / "store")
    store.verify()
    assert outcome.result["structures"] == store.num_structures == 116
    assert sum(outcome.result["splits"].values()) == 116
    assert outcome.result["elements"]["C"] == store.manifest["elements"]["6"]
    assert set(outcome.result["references"]["energies_ev"]) <= {"H", "C", "N", "O"}
    assert outcome.result["references"]["sigma_energy_ev_per_atom"] > 0
    assert store.load().ids[-1] == "part2.extxyz/40"
    progress = json.loads((tmp_path / "progress.json").read_text())
    assert (progress["unit"], progress["count"] > 0) == ("structures", True)


@pytest.mark.skipif(not MPIEXEC.exists(), reason="no mpiexec in this environment (extra `local`)")
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_any_number_of_ranks_writes_the_same_bytes(ranks: int, source: Path, plain: dict[str, bytes], tmp_path: Path) -> None:
    folder = tmp_path / "ranks"
    command = [str(MPIEXEC), "-n", str(ranks), *task(folder, config(source))]
    assert start(command, folder).wait(120) == 0
    outcome = read_outcome(folder)
    assert outcome is not None and outcome.world_size == ranks
    assert contents(folder / "store") == plain


@pytest.mark.skipif(not MPIEXEC.exists(), reason="no mpiexec in this environment (extra `local`)")
def test_files_read_from_their_beginning_go_on_with_other_ranks(source: Path, tmp_path: Path) -> None:
    """Each of them is one rank's; killed on two ranks among its shards, the rest is done by four, and the bytes are the same."""
    for path in source.iterdir():
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
        path.unlink()
    settings = config(source, shard=2)
    (tmp_path / "plain").mkdir()
    assert convert.run(settings, tmp_path / "plain", Ranks()).status is Status.DONE
    folder = tmp_path / "ranks"
    command, shards = task(folder, settings), folder / "store" / "shards"
    first = start([str(MPIEXEC), "-n", "2", *command], folder)
    while first.poll() is None and len(list(shards.glob("*.json"))) < 4:
        time.sleep(0.002)
    os.killpg(first.pid, signal.SIGKILL)
    assert first.wait(30) == -signal.SIGKILL, "it ended before it was killed"
    kept = {path: path.stat().st_mtime_ns for path in shards.glob("*.json")}
    assert kept and not (folder / "store" / "manifest.json").exists()
    wait_for_ranks(folder)
    assert start([str(MPIEXEC), "-n", "4", *command], folder).wait(120) == 0
    outcome = read_outcome(folder)
    assert outcome is not None and outcome.world_size == 4
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    assert contents(folder / "store") == contents(tmp_path / "plain" / "store")


def wait_for_ranks(folder: Path) -> None:
    """Wait until no process works in a folder: ranks of a killed launcher end a moment after it."""

    def working() -> list[Path]:
        links = (each / "cwd" for each in Path("/proc").iterdir() if each.name.isdigit())
        return [link for link in links if _target(link) == folder]

    deadline = time.monotonic() + 30
    while working() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not working()


def _target(link: Path) -> Path | None:
    try:
        return link.readlink()
    except OSError:
        return None


def test_killed_at_any_moment_it_goes_on_and_writes_the_same_bytes(source: Path, tmp_path: Path) -> None:
    settings = config(source, shard=2)  # 59 shards, so that it is still at work when it is killed
    (tmp_path / "plain").mkdir()
    convert.run(settings, tmp_path / "plain", Ranks())
    folder = tmp_path / "killed"
    command = task(folder, settings)
    shards = folder / "store" / "shards"
    written: dict[Path, int] = {}
    for wanted in (1, 8, 20):
        process = start(command, folder)
        while process.poll() is None and len(list(shards.glob("*.json"))) < wanted:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL, "it ended before it was killed"
        assert not (folder / "store" / "manifest.json").exists()
        kept = {path: path.stat().st_mtime_ns for path in shards.glob("*.json")}
        assert all(kept[path] == when for path, when in written.items()), "a finished shard was written again"
        written = kept
    assert start(command, folder).wait(60) == 0
    assert all(path.stat().st_mtime_ns == when for path, when in written.items())
    assert contents(folder / "store") == contents(tmp_path / "plain" / "store")


def test_half_a_shard_counts_for_nothing(source: Path, plain: dict[str, bytes], tmp_path: Path) -> None:
    """Killed between the shard's rename and its summary, or within the shard: both leave no summary."""
    convert.run(config(source), tmp_path, Ranks())
    shards = tmp_path / "store" / "shards"
    (shards / "00000-000002.json").unlink()
    (shards / "00000-000002.bp" / "data.0").write_bytes(b"half")
    shutil.copytree(shards / "00000-000000.bp", shards / ".00000-000003.bp")
    convert.run(config(source), tmp_path, Ranks())
    assert contents(tmp_path / "store") == plain


def test_asked_to_stop_it_ends_in_order_and_goes_on_later(source: Path, plain: dict[str, bytes], tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    stop.touch()
    outcome = convert.run(config(source, stop=stop), tmp_path, Ranks())
    assert outcome.status is Status.PARTIAL
    assert not (tmp_path / "store" / "manifest.json").exists()
    stop.unlink()
    assert convert.run(config(source, stop=stop), tmp_path, Ranks()).status is Status.DONE
    assert contents(tmp_path / "store") == plain


def test_a_revoked_task_commits_nothing(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "revoked"
    (tmp_path / "heartbeat.json").write_text('{"count": 1}')
    (tmp_path / "revoked.json").touch()
    owner = {"heartbeat": tmp_path / "heartbeat.json", "revoked": tmp_path / "revoked.json", "ttl_s": 60}
    command = task(folder, config(source, owner=owner))
    assert start(command, folder).wait(60) == 97
    assert not list(folder.rglob("*.bp")) and not (folder / "outcome.json").exists()


def test_a_damaged_file_is_named_and_the_others_go_on(source: Path, tmp_path: Path) -> None:
    whole = (source / "part1.extxyz").read_bytes()
    (source / "part1.extxyz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CampaignError, match="part1.extxyz"):
        convert.run(config(source), tmp_path, Ranks())
    shards = tmp_path / "store" / "shards"
    kept = {path: path.stat().st_mtime_ns for path in shards.glob("*.json")}
    assert len(kept) == 7 + 5
    (source / "part1.extxyz").write_bytes(whole)
    assert convert.run(config(source), tmp_path, Ranks()).result["structures"] == 116
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())


def test_a_source_that_changed_is_converted_anew(source: Path, tmp_path: Path) -> None:
    convert.run(config(source), tmp_path, Ranks())
    ase.io.write(source / "part1.extxyz", frames(8, 5), format="extxyz")
    assert convert.run(config(source), tmp_path, Ranks()).result["structures"] == 119
    Store.open(tmp_path / "store").verify()


def test_an_edit_to_equal_size_is_noticed(source: Path, tmp_path: Path) -> None:
    """Even with the old times put back, as `cp -p` and `touch -r` do; only the shards of that file are made anew."""
    convert.run(config(source), tmp_path, Ranks())
    shards = tmp_path / "store" / "shards"
    before = {path.name: path.stat().st_mtime_ns for path in shards.glob("*.json")}
    path = source / "part1.extxyz"
    times, text = path.stat(), path.read_text()
    path.write_text(text.replace("energy=-", "energy= ", 1))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_size == times.st_size and path.stat().st_mtime_ns == times.st_mtime_ns
    energy = Store.open(tmp_path / "store").load().energy[70]
    convert.run(config(source), tmp_path, Ranks())
    store = Store.open(tmp_path / "store")
    assert store.load().energy[70] == -energy
    again = {path.name: path.stat().st_mtime_ns for path in shards.glob("*.json")}
    assert {name for name in again if again[name] != before[name]} == {"00001-000000.json"}
    assert store.manifest["sources"][1]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_that_was_only_touched_is_looked_at_and_not_converted_again(
    source: Path, plain: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert.run(config(source), tmp_path, Ranks())
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "store" / "shards").glob("*.json")}
    (source / "part2.extxyz").touch()
    looked: list[str] = []
    monkeypatch.setattr(sources, "file_hash", lambda path: looked.append(path.name) or file_hash(path))
    convert.run(config(source), tmp_path, Ranks())
    assert looked == ["part2.extxyz"]
    assert all(path.stat().st_mtime_ns == when for path, when in written.items())
    found = contents(tmp_path / "store")
    assert {name for name in plain if found[name] != plain[name]} == {"sources/00002.json"}


def test_files_beside_a_source_count_as_parts_of_it(tmp_path: Path) -> None:
    """A list of what to leave out, edited: another conversion would give other records."""
    (tmp_path / "source").mkdir()
    qm7x.write(tmp_path / "source" / qm7x.FILE)
    listed = tmp_path / "source" / "DupMols.dat"
    about = config(tmp_path / "source", reader={"name": "qm7x"})
    assert convert.run(about, tmp_path, Ranks()).result["structures"] == 3
    listed.write_text(listed.read_text().replace("Geom-m2-i1-c1-opt", "Geom-m1-i1-c1-opt"))
    assert convert.run(about, tmp_path, Ranks()).result["structures"] == 2
    (source,) = Store.open(tmp_path / "store").manifest["sources"]
    assert [each["name"] for each in source["beside"]] == ["DupMols.dat"]


def test_a_source_that_changes_while_it_is_read_is_named(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = convert._read

    def touched(job: Any, span: Any) -> Any:
        if span.file == 2:
            job.plan.files[2].touch()
        return real(job, span)

    monkeypatch.setattr(convert, "_read", touched)
    with pytest.raises(CampaignError, match="part2.extxyz.*changed while it was read"):
        convert.run(config(source), tmp_path, Ranks())


def test_a_reader_of_another_version_is_not_mixed_in(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert.run(config(source), tmp_path, Ranks())
    monkeypatch.setattr(extxyz, "INFO", replace(extxyz.INFO, version=extxyz.INFO.version + 1))
    with pytest.raises(CampaignError, match="holds another conversion .different: reader_version"):
        convert.run(config(source), tmp_path, Ranks())


def test_positions_in_single_precision_and_compressed(source: Path, tmp_path: Path) -> None:
    for name, storage in {"wide": {}, "narrow": {"positions": "float32", "compression": "deflate"}}.items():
        (tmp_path / name).mkdir()
        convert.run(config(source, storage=storage), tmp_path / name, Ranks())
        Store.open(tmp_path / name / "store").verify()
    wide, narrow = (Store.open(tmp_path / name / "store").load() for name in ("wide", "narrow"))
    assert 0 < np.abs(wide.positions - narrow.positions).max() < 1e-6
    assert np.array_equal(wide.forces, narrow.forces) and np.array_equal(wide.energy, narrow.energy)
    with pytest.raises(CampaignError, match="holds another conversion .different: storage"):
        convert.run(config(source, storage={"positions": "float32"}), tmp_path / "wide", Ranks())


def test_a_source_that_lost_its_energies_leaves_no_references(tmp_path: Path) -> None:
    first = store_of(
        tmp_path, [Atoms("H", info={"energy": -13.0}), Atoms("He", info={"energy": -78.0})], splits=Splits(validation=0, test=0)
    )
    assert first.references is not None
    again = store_of(tmp_path, [Atoms("H"), Atoms("He")], splits=Splits(validation=0, test=0))
    assert again.references is None
    assert "references.json" not in again.manifest["files"]


def test_a_reader_without_a_name_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(CampaignError, match="no reader ''"):
        convert.run(config(source, reader={}), tmp_path, Ranks())


def test_bad_records_are_put_aside_with_their_place(source: Path, tmp_path: Path) -> None:
    bad = frames(12, 9)
    bad[3].positions[1] = bad[3].positions[0]
    bad[11].calc.results["forces"][2] = [0, 2000, 0]
    ase.io.write(source / "part1.extxyz", bad, format="extxyz")
    outcome = convert.run(config(source), tmp_path, Ranks())
    assert (outcome.result["structures"], outcome.result["rejected"]) == (70 + 10 + 41, 2)
    rejects = [json.loads(line) for line in (tmp_path / "store" / "rejects.jsonl").read_text().splitlines()]
    assert [(r["file"], r["position"]) for r in rejects] == [("part1.extxyz", 3), ("part1.extxyz", 11)]
    assert "closer than" in rejects[0]["reason"] and "2000 eV/Å" in rejects[1]["reason"]
    assert not {"part1.extxyz/3", "part1.extxyz/11"} & set(Store.open(tmp_path / "store").load().ids.tolist())


def test_a_shard_of_rejects_alone_is_no_shard(tmp_path: Path) -> None:
    bad = frames(4)
    for atoms in bad[:2]:
        atoms.positions[:] = 0
    ase.io.write(tmp_path / "a.extxyz", bad, format="extxyz")
    convert.run(config(tmp_path / "a.extxyz", shard=2), tmp_path, Ranks())
    store = Store.open(tmp_path / "store")
    assert len(store.manifest["shards"]) == 1
    assert store.load().ids.tolist() == ["a.extxyz/2", "a.extxyz/3"]


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    bad = frames(3)
    for atoms in bad:
        atoms.positions[:] = 0
    ase.io.write(tmp_path / "a.extxyz", bad, format="extxyz")
    with pytest.raises(CampaignError, match="no usable structure .3 × two atoms closer"):
        convert.run(config(tmp_path / "a.extxyz"), tmp_path, Ranks())


def test_a_limit_takes_the_first_records(source: Path, tmp_path: Path) -> None:
    outcome = convert.run(config(source, limit=73), tmp_path, Ranks())
    assert outcome.result["structures"] == 73
    assert Store.open(tmp_path / "store").load().ids[-1] == "part1.extxyz/2"


def test_another_conversion_is_not_mixed_in(source: Path, tmp_path: Path) -> None:
    convert.run(config(source), tmp_path, Ranks())
    with pytest.raises(CampaignError, match="holds another conversion .different: reader"):
        convert.run(config(source, reader={"name": "extxyz", "energy_unit": "Hartree"}), tmp_path, Ranks())


def test_shards_of_an_older_format_are_not_mixed_in(source: Path, tmp_path: Path) -> None:
    """As an interrupted conversion of an earlier version leaves them: a plan without a format, no manifest."""
    convert.run(config(source), tmp_path, Ranks())
    plan = json.loads((tmp_path / "store" / "plan.json").read_text())
    del plan["format"]
    (tmp_path / "store" / "plan.json").write_text(json.dumps(plan))
    (tmp_path / "store" / "manifest.json").unlink()
    with pytest.raises(CampaignError, match="holds another conversion .different: format"):
        convert.run(config(source), tmp_path, Ranks())


def test_a_wrong_option_is_named(source: Path, tmp_path: Path) -> None:
    with pytest.raises(CampaignError, match="option 'energy_unt'") as caught:
        convert.run(config(source, reader={"name": "extxyz", "energy_unt": "eV"}), tmp_path, Ranks())
    assert "energy_unit" in caught.value.remedy
    with pytest.raises(CampaignError, match="Did you mean 'extxyz'"):
        convert.run(config(source, reader={"name": "extxzy"}), tmp_path, Ranks())
