"""The JSON schema: it takes what the types take, refuses what they refuse, and says what every key means."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from model.registry import backbone_config, backbones, reader, readers
from workflow.campaign import Header, stage_kind, stage_kinds
from workflow.check import check_campaign
from workflow.document import read_document
from workflow.schema import campaign_schema

CAMPAIGNS = sorted((Path(__file__).parents[2] / "campaigns").glob("*.yaml"))
SCHEMA = campaign_schema()
FILE: dict[str, Any] = {
    "name": "first",
    "branches": {"a": {"reader": "extxyz", "path": "a.xyz", "options": {"id": "id"}}},
    "stages": {
        "data": {"kind": "convert", "on": {"local": {"links": 2}}},
        "search": {
            "kind": "hpo",
            "needs": ["data"],
            "training": {"batch": 8, "optimizer": {"ema": 0.99}},
            "model": {"cutoff": 4.0},
            "variants": {"one": {"backbone": "egnn", "space": {"hidden": {"low": 8, "high": 16}}}, "two": {"backbone": "painn"}},
        },
        "best": {"kind": "promote", "needs": ["search"], "per": "backbone"},
        "train": {"kind": "train", "each": "best", "epochs": 3},
        "alone": {"kind": "train", "needs": ["data"], "backbone": {"name": "egnn", "hidden": 16}, "model": {"head_layers": 1}},
        "screen": {"kind": "screen", "needs": ["alone"], "candidates": "a"},
    },
}
WRONG: dict[str, Callable[[dict[str, Any]], Any]] = {
    "$": lambda file: file.update(nme="x"),
    "$.name": lambda file: file.update(name="a/b"),
    "$.branches": lambda file: file["branches"].update({"../b": file["branches"]["a"]}),
    "$.branches.a.reader": lambda file: file["branches"]["a"].update(reader="extxy"),
    "$.branches.a.options": lambda file: file["branches"]["a"].update(options={"eneryg": "E"}),
    "$.branches.a.share": lambda file: file["branches"]["a"].update(share=0),
    "$.stages.data.kind": lambda file: file["stages"]["data"].update(kind="convrt"),
    "$.stages.data": lambda file: file["stages"]["data"].update(epochs=3),
    "$.stages.data.walltime": lambda file: file["stages"]["data"].update(walltime="two hours"),
    "$.stages.data.on.local": lambda file: file["stages"]["data"]["on"]["local"].update(kind="hpo"),
    "$.stages.search.training": lambda file: file["stages"]["search"]["training"].update(epochs=3),
    "$.stages.search.training.optimizer.ema": lambda file: file["stages"]["search"]["training"]["optimizer"].update(ema=2),
    "$.stages.search.model": lambda file: file["stages"]["search"]["model"].update(cutof=3),
    "$.stages.search.variants.one.space": lambda file: file["stages"]["search"]["variants"]["one"]["space"].update(hiden={}),
    "$.stages.search.variants.two.backbone": lambda file: file["stages"]["search"]["variants"]["two"].update(backbone="pain"),
    "$.stages.best.rank_by[0]": lambda file: file["stages"]["best"].update(rank_by=["speed"]),
    "$.stages.alone.backbone": lambda file: file["stages"]["alone"]["backbone"].update(hiden=3),
    "$.stages.screen": lambda file: file["stages"]["screen"].pop("candidates"),
}


def faults(fields: Any) -> list[str]:
    return [each.json_path for each in Draft202012Validator(SCHEMA).iter_errors(fields)]


def checked(folder: Path, fields: dict[str, Any]) -> list[str]:
    """Return what the campaign's own types and stages say, files apart."""
    (folder / "mine.yaml").write_text(yaml.safe_dump(fields, sort_keys=False))
    return [str(each) for each in check_campaign(folder / "mine.yaml", elsewhere=True, models=False).problems]


def test_it_is_a_schema_of_2020_12() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


@pytest.mark.parametrize("path", CAMPAIGNS, ids=lambda path: path.stem)
def test_it_takes_the_campaigns_that_ship(path: Path) -> None:
    assert faults(read_document(path, "").fields) == []


def test_it_takes_what_the_types_take(tmp_path: Path) -> None:
    assert faults(FILE) == []
    assert checked(tmp_path, FILE) == []


@pytest.mark.parametrize("where", WRONG)
def test_it_refuses_what_the_types_refuse_and_names_the_key(where: str, tmp_path: Path) -> None:
    fields = copy.deepcopy(FILE)
    WRONG[where](fields)
    assert faults(fields) == [where]
    assert checked(tmp_path, fields)


def test_what_a_whole_file_lacks_is_told() -> None:
    assert faults({}) == ["$"] * len(SCHEMA["required"])
    assert {"name", "stages"} <= set(SCHEMA["required"])
    assert faults({**FILE, "stages": {}}) == ["$.stages"]
    assert faults([]) == ["$"]


def test_every_key_of_the_types_is_there_with_its_meaning() -> None:
    for record in (stage_kind(name).Spec for name in stage_kinds()):
        properties = SCHEMA["$defs"][record.__name__]["properties"]
        assert {key: each["description"] for key, each in properties.items()} == {
            key: about.description for key, about in record.model_fields.items()
        }
    assert set(SCHEMA["properties"]) == {*Header.model_fields, "stages"}


def test_the_names_of_plugins_are_offered() -> None:
    text = json.dumps(SCHEMA)
    stage = SCHEMA["properties"]["stages"]["patternProperties"]
    kinds = next(iter(stage.values()))["properties"]["kind"]["oneOf"]
    assert [each["const"] for each in kinds] == stage_kinds()
    assert all(each["description"] for each in kinds)
    assert SCHEMA["$defs"]["BranchSource"]["properties"]["reader"]["enum"] == readers()
    for name in readers():
        assert all(json.dumps(about.description) in text for about in reader(name).Config.model_fields.values())
    for name in backbones():
        described = [about for key, about in backbone_config(name).model_fields.items() if key != "name"]
        assert all(json.dumps(about.description) in text for about in described)
