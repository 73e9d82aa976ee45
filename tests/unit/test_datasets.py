"""`campaign datasets`: what readers know, what files hold, and what of a store is damaged."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from stores import emt_store

from model.data.store import FORMAT
from model.registry import readers
from tests.contracts.sources import ani1x, ase_db, extxyz
from workflow.cli import campaign
from workflow.datasets import all_datasets, dataset

ROOT = Path(__file__).parents[2]


def run(*args: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(campaign, ["datasets", *map(str, args)])
    assert result.exit_code == code, result.output + repr(result.exception)
    return result


def test_list_names_every_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sorted(each.name for each in all_datasets()) == readers()
    monkeypatch.setenv("COLUMNS", "80")
    lines = run("list").output.splitlines()
    assert [name for name in readers() if not any(line.startswith(f"{name} ") for line in lines)] == []
    listed = json.loads(run("list", "--json").output)
    assert {each["name"]: each["title"] for each in listed} == {each.name: each.facts["title"] for each in all_datasets()}
    assert all(len(line) <= 80 for line in lines)
    words = set(" ".join(lines).split())
    assert [word for each in listed for word in each["licence"].split() if word not in words] == []  # neither cut nor broken


@pytest.mark.parametrize("name", readers())
def test_show_tells_all_that_a_reader_knows(name: str) -> None:
    one, text = dataset(name), " ".join(run("show", name).output.split())
    told = [str(value) for key in ("title", "licence", "citation", "url", "energy_kind") if (value := one.facts[key])]
    told += [each.description for each in one.options] + list(one.facts["pitfalls"])
    missing = [fact for fact in told if "".join(fact.split()) not in text.replace(" ", "")]
    # Where cells of a row are folded side by side, words of one stand between those of another: look for the words.
    assert [fact for fact in missing if not all(word in text for word in fact.split() if len(word) < 12)] == []
    fields = json.loads(run("show", name, "--json").output)
    assert fields["options"] == [vars(each) for each in one.options]
    assert f"reader: {name}" in text


def test_a_wrong_name_is_answered_with_the_nearest() -> None:
    assert "no data set 'extxy'\n  Did you mean 'extxyz'?" in run("show", "extxy", code=2).stderr
    assert "Did you mean 'ani1x'" in run("inspect", ".", "--reader", "anix", code=2).stderr


def test_a_file_is_shown_in_eV(tmp_path: Path) -> None:
    extxyz.write(tmp_path / extxyz.FILE)
    text = run("inspect", tmp_path / extxyz.FILE, "--reader", "extxyz", "--option", "energy_unit=kcal/mol").output
    assert "read as extxyz: 1 file" in text
    assert "CuO, 2 atoms, periodic; -43.3641 eV (-21.6821 eV/atom); largest force 21.682 eV/Å" in text
    assert "HF, 2 atoms, molecule" in text
    assert "charge -1; multiplicity 2" in text
    assert "He, 1 atom, molecule; no energy; no forces" in text
    assert run("inspect", tmp_path / extxyz.FILE, "-n", "1", "--reader", "extxyz").output.count("atoms") == 1


def test_without_a_reader_each_is_tried_and_all_that_fit_are_shown(tmp_path: Path) -> None:
    ani1x.write(tmp_path / ani1x.FILE)
    ase_db.write(tmp_path / ase_db.FILE)
    found = json.loads(run("inspect", tmp_path, "--json").output)
    assert {"ani1x", "ase_db"} <= {each["reader"] for each in found["readings"]}
    record = next(each for each in found["readings"] if each["reader"] == "ani1x")["records"][0]
    assert record["energy_ev"] == pytest.approx(ani1x.EXPECTED[0]["energy"], rel=1e-12)
    assert run("inspect", tmp_path).output.startswith(f"{len(found['readings'])} readers read this; compare")


def test_what_would_be_left_out_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text("2\nProperties=species:S:1:pos:R:3 energy=-1\nH 0 0 0\nH 0 0 0.01\n")
    assert "would be left out: two atoms closer than 0.2 Å" in run("inspect", tmp_path / "a.xyz").output


def test_why_nothing_can_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "noise.bin").write_bytes(bytes(range(256)) * 8)
    text = run("inspect", tmp_path / "noise.bin", code=2).stderr
    assert "no reader reads what is there" in text
    assert [name for name in readers() if f"  {name}: " not in text] == []
    assert "no such file or folder" in run("inspect", tmp_path / "nowhere", code=2).stderr
    assert "truncated, corrupt" in run("inspect", tmp_path / "noise.bin", "--reader", "ani1x", code=2).stderr
    assert "options without a reader" in run("inspect", tmp_path, "--option", "a=1", code=2).stderr
    asked = run("inspect", tmp_path, "--reader", "ani1x", "--option", "lvl=1", code=2)
    assert "Known options: level, forces" in asked.stderr
    unclosed = run("inspect", tmp_path, "--reader", "ani1x", "--option", "level=[1", code=2).stderr
    assert "'level=[1' is not valid YAML" in unclosed
    assert "is no KEY=VALUE" in run("inspect", tmp_path, "--reader", "ani1x", "--option", "lvl", code=2).stderr


def test_a_library_that_ends_its_process_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho 'ModuleNotFoundError: No module named h5py' >&2\nkill -9 $$\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    text = run("inspect", tmp_path, code=2).stderr
    assert "ended with code -9: ModuleNotFoundError" in text
    assert "pip install 'campaign[model]'" in text


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return emt_store(tmp_path_factory.mktemp("store"), "emt", ("Cu", "Au"), 12)


def test_a_store_is_shown_and_is_whole(store: Path) -> None:
    text = run("inspect", store).output
    assert "store of " in text
    assert "splits: " in text and "validation" in text
    assert "eV/atom" in text
    assert run("verify", store).output.endswith(": all as the manifest says\n")


def test_every_damaged_file_of_a_store_is_named(store: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(store, tmp_path / "broken")
    (first,), (second,) = broken.rglob("data.0"), broken.rglob("md.0")
    first.write_bytes(bytes([first.read_bytes()[0] ^ 1]) + first.read_bytes()[1:])
    second.write_bytes(second.read_bytes()[:-1])
    (broken / "rejects.jsonl").unlink()
    result = run("verify", broken, code=1)
    assert f"{first}: other bytes than the manifest says" in result.stderr
    assert f"{second}: {second.stat().st_size} bytes, {second.stat().st_size + 1} by the manifest" in result.stderr
    assert f"{broken / 'rejects.jsonl'}: missing" in result.stderr
    assert result.output.endswith(": 3 damaged\n")


@pytest.mark.parametrize(
    ("manifest", "told"),
    [(None, "no finished store here"), ("{", "not valid JSON"), (f'{{"format": {FORMAT}}}', "manifest is damaged")],
)
def test_what_is_no_store_is_told(manifest: str | None, told: str, tmp_path: Path) -> None:
    if manifest is not None:
        (tmp_path / "manifest.json").write_text(manifest)
    assert told in run("verify", tmp_path, code=1).stderr


def test_edges_of_a_store_are_told(store: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(store, tmp_path / "copy")
    found = json.loads(run("edges", copy, "--cutoff", "5", "--json").output)
    assert found["edges"] > found["atoms"] > found["structures"] == 12
    assert found["quantiles"]["50 %"] <= found["quantiles"]["99 %"] <= found["largest"]
    text = run("edges", copy, "--cutoff", "5").output
    assert f"{found['edges']:,} edges of 12 structures" in text and f"the largest has {found['largest']}" in text
    assert "no finished store here" in run("edges", tmp_path, "--cutoff", "5", code=2).stderr
    assert "Give one above zero in Å" in run("edges", copy, "--cutoff", "-5", code=2).stderr


def test_the_facts_need_no_file_library() -> None:
    barred = "import sys; sys.modules.update(dict.fromkeys(['ase', 'h5py', 'lmdb', 'torch', 'adios2', 'vesin']))"
    code = f"{barred}\nfrom workflow.datasets import all_datasets; print(len(all_datasets()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True, timeout=60)
    assert int(done.stdout) == len(readers())
