"""The RO-Crate: what another program reads out of it, and that every digest in it holds."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from made_campaign import half, whole
from rocrate.rocrate import ROCrate

from workflow.cli import campaign
from workflow.errors import ConfigError
from workflow.report.crate import METADATA, PROFILE, write_crate


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crate") / "gfm"
    whole(folder)
    source = {"title": "OMol25", "licence": "CC BY 4.0", "citation": "Levine et al.", "level_of_theory": "wB97M-V"}
    manifest = {"source": source, "reader": {"name": "omol25"}, "sources": [{"name": "a.aselmdb", "size": 7, "sha256": "ff"}]}
    store = folder / "stages/data/stores/gfn1"
    store.mkdir(parents=True)
    (store / "manifest.json").write_text(json.dumps(manifest))
    receipt = json.loads((folder / "stages/data/receipt.json").read_text())
    receipt["result"]["branches"]["gfn1"] = {**receipt["result"]["branches"]["gfn1"], "store": "stages/data/stores/gfn1"}
    (folder / "stages/data/receipt.json").write_text(json.dumps(receipt))
    return folder


@pytest.fixture(scope="module")
def crate(folder: Path) -> ROCrate:
    result = CliRunner().invoke(campaign, ["report", str(folder), "--ro-crate"], catch_exceptions=False)
    assert result.output == f"wrote {folder / 'ro-crate'}\n"
    return ROCrate(folder / "ro-crate")


def values(entity: Any, name: str) -> list[Any]:
    found = entity.get(name, [])
    return found if isinstance(found, list) else [found]


def test_the_root_says_what_it_is(crate: ROCrate) -> None:
    root = crate.root_dataset
    assert crate.version == "1.1"
    assert root["conformsTo"].id == PROFILE
    for name in ("name", "description", "datePublished", "license", "author", "identifier"):
        assert root.get(name), name


def test_every_stage_is_an_action_with_program_inputs_and_outputs(crate: ROCrate) -> None:
    actions = {each["name"].split()[1]: each for each in crate.get_by_type("CreateAction")}
    assert {"data", "painn", "egnn", "best", "train/1", "train/2", "lead", "tune", "weights", "screen"} == set(actions)
    assert {each.id for each in values(crate.root_dataset, "mentions")} == {each.id for each in actions.values()}
    for name, action in actions.items():
        assert action["actionStatus"].endswith("CompletedActionStatus"), name
        assert action["agent"].type == "Person"
        assert action["endTime"].startswith("20"), name
    train = actions["train/1"]
    software = {each["name"]: each["softwareVersion"] for each in values(train["instrument"], "softwareRequirements")}
    assert software["torch"] == "2.13.0"
    assert train["instrument"]["softwareVersion"] == "0.1.0"
    assert "painn: hidden 48" in train["description"] and "precision: fp64" in train["description"]
    assert {each["name"] for each in values(train, "object")} == {f"store:{name} of data" for name in ("gfn1", "gfn2", "emt")}
    made = {each["name"]: each for each in values(train, "result")}
    assert made["checkpoint of train/1"]["sha256"] == "0" * 64
    assert made["checkpoint of train/1"].id.startswith("arcp://uuid,c0ffeec0-ffee-")
    assert "results/train-1/parity.json" in made
    assert "checkpoint:20 of painn" in {each["name"] for each in values(actions["best"], "object")}


def test_every_file_in_the_crate_is_as_it_says(crate: ROCrate, folder: Path) -> None:
    held = [each for each in crate.get_by_type("File") if ":" not in each.id]
    assert {"report.html", "campaign.json", "receipts/train-1.json", "results/screen/top.json"} <= {each.id for each in held}
    for each in held:
        data = (folder / "ro-crate" / each.id).read_bytes()
        assert (hashlib.sha256(data).hexdigest(), str(len(data))) == (each["sha256"], each["contentSize"]), each.id
    on_disk = {str(path.relative_to(folder / "ro-crate")) for path in (folder / "ro-crate").rglob("*") if path.is_file()}
    assert on_disk == {each.id for each in held} | {METADATA}


def test_the_lists_hold_what_the_receipts_vouch_for(folder: Path, crate: ROCrate) -> None:
    for stage in ("train-1", "screen", "data"):
        receipt = json.loads((folder / "stages" / stage / "receipt.json").read_text())
        lines = (folder / "ro-crate" / "manifests" / f"{stage}.sha256").read_text().splitlines()
        assert lines == [f"{each['sha256']}  {each['path']}" for each in receipt["outputs"]]


def test_data_sets_name_their_licence(crate: ROCrate) -> None:
    data = next(each for each in crate.get_by_type("CreateAction") if each.id == "#stage-data")
    source = next(each for each in values(data, "object") if each["name"] == "gfn1: OMol25")
    assert source["license"].id == "https://creativecommons.org/licenses/by/4.0/"
    assert "a.aselmdb (7 bytes, SHA-256 ff)" in source["description"] and "Cite: Levine et al." in source["description"]


def test_everything_referred_to_is_described(folder: Path, crate: ROCrate) -> None:
    graph = json.loads((folder / "ro-crate" / METADATA).read_text())["@graph"]
    known = {each["@id"] for each in graph} | {"https://w3id.org/ro/crate/1.1"}
    wanted = {ref["@id"] for each in graph for value in each.values() for ref in (value if isinstance(value, list) else [value])
              if isinstance(ref, dict)}  # fmt: skip
    assert wanted <= known
    parts = {ref["@id"] for each in graph if each["@id"] == "./" for ref in each["hasPart"]}
    assert parts <= known and len(known) == len(graph) + 1


def test_writing_again_replaces_a_crate_and_nothing_else(tmp_path: Path) -> None:
    made = whole(tmp_path / "gfm")
    target = write_crate(made.rundir.root, tmp_path / "out")
    (target / "notes.txt").write_text("mine")
    (made.rundir.root / "stages/screen/receipt.json").unlink()
    write_crate(made.rundir.root, target)
    assert (target / "notes.txt").read_text() == "mine" and not (target / "receipts/screen.json").exists()
    other = half(tmp_path / "other")
    fields = json.loads(other.rundir.campaign.read_text()) | {"campaign_id": "beef" * 8}
    other.rundir.campaign.write_text(json.dumps(fields))
    with pytest.raises(ConfigError, match="no crate of this campaign"):
        write_crate(other.rundir.root, target)
    with pytest.raises(ConfigError, match="no such folder"):
        write_crate(other.rundir.root, tmp_path / "none" / "out")
    with pytest.raises(ConfigError, match="no campaign has begun"):
        write_crate(tmp_path / "nowhere", None)


def test_a_campaign_at_work_gives_a_crate_too(tmp_path: Path) -> None:
    made = half(tmp_path / "gfm")
    crate = ROCrate(write_crate(made.rundir.root, None))
    states = {each.id: each["actionStatus"].rpartition("/")[2] for each in crate.get_by_type("CreateAction")}
    assert states == {
        "#stage-data": "CompletedActionStatus",
        "#stage-painn": "ActiveActionStatus",
        "#stage-egnn": "ActiveActionStatus",
    }
