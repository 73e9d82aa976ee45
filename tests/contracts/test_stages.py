"""What every stage kind owes: described keys, JSON there and back, and problems told with key and remedy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from workflow.campaign import Campaign, stage_kind, stage_kinds
from workflow.draft import load_campaign
from workflow.stages.base import Stage

LEAST: dict[str, dict[str, Any]] = {
    "hpo": {"backbone": "painn"},
    "compare": {"backbone": "painn"},
    "finetune": {"task": "task"},
    "screen": {"candidates": "task"},
}
"""Keys without a default."""

WHOLE: dict[str, dict[str, Any]] = {
    "data": {"kind": "convert", "nodes": 2},
    "search": {
        "kind": "hpo",
        "needs": ["data"],
        "backbone": "painn",
        "nodes": 2,
        "evaluations": 4,
        "space": {"hidden": {"low": 8, "high": 64}},
    },
    "best": {"kind": "promote", "needs": ["search"], "top": 2},
    "train": {"kind": "train", "each": "best", "nodes": 2},
    "alone": {"kind": "train", "needs": ["data"], "backbone": {"name": "egnn", "hidden": 16}, "training": {"batch": 8}},
    "lead": {"kind": "promote", "needs": ["train", "alone"]},
    "tune": {"kind": "finetune", "needs": ["lead"], "task": "task", "training": {"optimizer": {"learning_rate": 0.001}}},
    "wider": {"kind": "train", "needs": ["lead"], "branches": ["emt", "gfn1"]},
    "ways": {"kind": "compare", "needs": ["data"], "backbone": "egnn", "seeds": 2, "ways": ["one_head", "two_level"]},
    "blend": {"kind": "blend", "needs": ["lead"], "options": {"hidden": [16], "epochs": 3}},
    "screen": {"kind": "screen", "needs": ["lead", "blend"], "candidates": "task"},
}


def campaign(tmp_path: Path, stages: dict[str, Any], **header: Any) -> Campaign:
    (tmp_path / "a.xyz").touch()
    source = {"reader": "extxyz", "path": "a.xyz"}
    fields = {
        "name": "test",
        "branches": {"gfn1": source, "emt": source},
        "sources": {"task": source},
        **header,
        "stages": stages,
    }
    path = tmp_path / "campaign.yaml"
    path.write_text(yaml.safe_dump(fields, sort_keys=False))
    return load_campaign(path)


def problems(made: Campaign, stage: str) -> list[tuple[str, str, str]]:
    spec = made.stages[stage]
    return stage_kind(spec.kind).problems(spec, made)


def with_keys(stage: str, **keys: Any) -> dict[str, Any]:
    return {**WHOLE, stage: {**WHOLE[stage], **keys}}


def keys_of(kind: type[BaseModel]) -> list[tuple[str, Any]]:
    return [(name, field.description) for name, field in kind.model_fields.items()]


@pytest.mark.parametrize("name", stage_kinds())
def test_every_key_is_described(name: str) -> None:
    assert [key for key, description in keys_of(stage_kind(name).Spec) if not description] == []


@pytest.mark.parametrize("name", stage_kinds())
def test_a_kind_works_in_an_allocation_or_decides_on_the_login_node(name: str) -> None:
    kind = stage_kind(name)
    assert type(kind).__name__ == "Kind" and kind.Spec.__module__ == f"workflow.stages.{name}"
    overrides = {each for each in ("work", "decide") if getattr(type(kind), each) is not getattr(Stage, each)}
    assert overrides == ({"decide"} if kind.on_login else {"work"})


@pytest.mark.parametrize("name", stage_kinds())
def test_a_spec_survives_the_request(name: str) -> None:
    kind = stage_kind(name)
    spec = next((s for s in WHOLE.values() if s["kind"] == name), None)
    typed = kind.Spec.model_validate(spec or {"kind": name, **LEAST.get(name, {})})
    assert kind.Spec.model_validate(typed.model_dump(mode="json")) == typed


@pytest.mark.parametrize("name", stage_kinds())
def test_a_stage_that_stands_alone_is_answered_not_crashed(name: str, tmp_path: Path) -> None:
    made = campaign(
        tmp_path,
        {"only": {"kind": name, **LEAST.get(name, {})}},
        branches={"a": {"reader": "extxyz", "path": "a.xyz"}},
        sources={},
    )
    for what, key, remedy in problems(made, "only"):
        assert what and remedy and isinstance(key, str)


@pytest.mark.parametrize("stage", WHOLE)
def test_a_right_stage_has_no_problems(stage: str, tmp_path: Path) -> None:
    assert problems(campaign(tmp_path, WHOLE), stage) == []


@pytest.mark.parametrize(
    ("stage", "keys", "what", "key", "remedy"),
    [
        ("search", {"backbone": "pain"}, "no backbone 'pain'", "backbone", "'painn'"),
        ("search", {"space": {"hiden": {"low": 1, "high": 2}}}, "no name in a search 'hiden'", "space.hiden", "'hidden'"),
        ("search", {"space": {"hidden": {"low": 0, "high": 9}}}, "found 0", "space.hidden", ""),
        ("search", {"space": {"mixing": {}}}, "'mixing' has no range", "space.mixing", "choices"),
        ("search", {"initial": [{"hidden": 1000}]}, "hidden = 1000 lies outside", "initial", ""),
        ("search", {"initial": [{"layers": 2}]}, "'layers' does not vary", "initial", ""),
        ("search", {"trial": {"nodes": 2}, "spares": 1}, "a trial takes 2 nodes", "trial.nodes", "at most 1"),
        ("search", {"training": {"batchh": 3}}, "no key 'batchh'", "training.batchh", "'batch'"),
        ("search", {"training": {"optimizer": {"learning_rate": -1}}}, "found -1", "training.optimizer.learning_rate", ""),
        ("search", {"training": {"epochs": 3}}, "'epochs' is set by the stage", "training.epochs", "Take it out"),
        ("search", {"model": {"cutof": 3}}, "no key 'cutof'", "model.cutof", "'cutoff'"),
        ("search", {"model": {"backbone": {}}}, "the backbone is named beside", "model.backbone", "space"),
        ("search", {"needs": []}, "nothing converts gfn1, emt", "needs", "convert"),
        ("best", {"needs": ["data"]}, "nothing to choose from", "needs", "hpo or train"),
        ("best", {"top": 4}, "a search keeps 3 checkpoints", "top", "keep: 4"),
        ("alone", {"branches": ["gfn2"]}, "no branch 'gfn2'", "branches", "Did you mean 'gfn1'"),
        ("ways", {"model": {"heads": "shared"}}, "what the ways differ in", "model.heads", "Take it out"),
        ("ways", {"ways": ["two_level", "two_level"]}, "a way stands twice", "ways", "once"),
        ("ways", {"ways": ["apart"]}, "no heads to compare labels by", "ways", "two_level"),
        ("ways", {"backbone": "pain"}, "no backbone 'pain'", "backbone", "'painn'"),
        ("alone", {"backbone": None}, "no model to train", "backbone", "Name a `backbone`"),
        ("alone", {"backbone": {"name": "egnn", "hiden": 3}}, "no key 'hiden'", "backbone.hiden", "'hidden'"),
        ("alone", {"needs": ["best", "data"]}, "promoted by 'best'", "backbone", "Take `backbone` away"),
        ("train", {"model": {"cutoff": 4.0}}, "the promoted checkpoint settles the model", "model", "start: scratch"),
        ("alone", {"suffices": 30}, "suffices: 30 is more than epochs: 10", "suffices", ""),
        ("alone", {"needs": []}, "nothing converts gfn1, emt", "needs", "convert"),
        ("tune", {"task": "tasc"}, "no source 'tasc'", "task", "'task'"),
        ("tune", {"needs": ["data"]}, "no trained model among its needs", "needs", "promote or train"),
        ("tune", {"needs": ["train"]}, "'train' trains several models", "needs", "promote between"),
        ("tune", {"strategies": ["frozen", "frozen"]}, "a strategy stands twice", "strategies", ""),
        ("blend", {"options": {"hiden": [3]}}, "no key 'hiden'", "options.hiden", "'hidden'"),
        ("blend", {"options": {"checkpoint": "x"}}, "'checkpoint' is set by the stage", "options.checkpoint", ""),
        ("screen", {"candidates": "tsk"}, "no source 'tsk'", "candidates", "'task'"),
        ("data", {"only": ["gfn"]}, "no branch or source 'gfn'", "only", "'gfn1'"),
    ],
)
def test_a_mistake_is_answered_with_its_key_and_a_remedy(
    stage: str, keys: dict[str, Any], what: str, key: str, remedy: str, tmp_path: Path
) -> None:
    found = problems(campaign(tmp_path, with_keys(stage, **keys)), stage)
    assert [each for each in found if what in each[0] and each[1].startswith(key) and remedy in each[2]], found
    assert len(found) == 1, found


def test_only_what_is_converted_can_be_used(tmp_path: Path) -> None:
    made = campaign(tmp_path, with_keys("data", only=["gfn1"]))
    assert [what for what, _, _ in problems(made, "alone")] == ["nothing converts emt before this stage"]
    assert [what for what, _, _ in problems(made, "screen")] == ["nothing converts task before this stage"]


def test_kinds_load_without_the_heavy_packages() -> None:
    code = "import sys, workflow.campaign as c; [c.stage_kind(k) for k in c.stage_kinds()];"
    code += "print([m for m in ('torch', 'parsl', 'deephyper', 'numpy') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert out.stdout.strip() == "[]"
