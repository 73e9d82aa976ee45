"""Promotion: ranking, groups, checkpoints carried along, and a clear word where there is nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from model.outcome import Cause, Status
from workflow.campaign import stage_kind
from workflow.errors import StageError
from workflow.receipt import Output, Receipt, vouch
from workflow.stages._inputs import Model
from workflow.stages.promote import PromoteSpec, ranked


def model(trial: int, objective: float, seconds: float = 1.0, epochs: float = 1.0, backbone: str = "painn") -> Model:
    return Model(backbone, objective, seconds, epochs, {"backbone": {"name": backbone}}, {}, "c", (), "search", trial)


def order(models: list[Model], **keys: Any) -> list[int | None]:
    return [each.trial for each in ranked(models, PromoteSpec(kind="promote", **keys))]


def search(campaign: Path, name: str, objectives: dict[int, float | None], backbone: str = "painn") -> Receipt:
    outputs: list[Output] = []
    rows: list[dict[str, Any]] = []
    for trial, objective in objectives.items():
        row: dict[str, Any] = {"id": trial, "objective": objective, "epochs": 4, "seconds": 10.0 * trial, "cause": None}
        if objective is None:
            row["cause"] = "oom"
        else:
            checkpoint = campaign / "stages" / name / f"trial-{trial}" / "best"
            checkpoint.mkdir(parents=True)
            (checkpoint / "model.pt").write_text(f"{name} {trial}")
            outputs += vouch(campaign, f"checkpoint:{trial}", checkpoint)
            spec = {"backbone": {"name": backbone, "hidden": trial}}
            row |= {"checkpoint": str(checkpoint.relative_to(campaign)), "model": spec, "training": {"batch": 8}}
        rows.append(row)
    return Receipt(
        "", name, 1, 1, Status.DONE, outputs=tuple(outputs), result={"backbone": backbone, "trials": rows, "best": None}
    )


def decide(campaign: Path, inputs: dict[str, Receipt], **keys: Any) -> Any:
    spec = PromoteSpec(kind="promote", needs=tuple(inputs), **keys)
    return stage_kind("promote").decide(spec, "best", inputs, campaign)


def test_the_lowest_objective_comes_first() -> None:
    assert order([model(1, 3.0), model(2, 1.0), model(3, 2.0)]) == [2, 3, 1]
    assert order([model(1, 3.0), model(2, 1.0), model(3, 2.0)], rank_by=["val_loss"]) == [2, 3, 1]


def test_near_ties_are_broken_by_the_next_quantity() -> None:
    models = [model(1, 1.000, seconds=90.0), model(2, 1.015, seconds=10.0), model(3, 1.03, seconds=1.0), model(4, 5.0)]
    assert order(models, rank_by=["val_loss", "time_to_epoch"]) == [2, 1, 3, 4]
    assert order(models, rank_by=["val_loss", "time_to_epoch"], tolerance=0.0) == [1, 2, 3, 4]


def test_time_to_epoch_is_not_the_whole_time() -> None:
    models = [model(1, 1.0, seconds=20.0, epochs=10.0), model(2, 1.0, seconds=10.0, epochs=1.0)]
    assert order(models, rank_by=["time_to_epoch"]) == [1, 2]
    assert order(models, rank_by=["seconds"]) == [2, 1]


def test_the_winners_files_are_outputs_again(tmp_path: Path) -> None:
    receipt = search(tmp_path, "painn", {1: 2.0, 2: None, 3: 1.0})
    result = decide(tmp_path, {"painn": receipt})
    (chosen,) = result.result["selected"]
    assert (chosen["objective"], chosen["source"], chosen["epochs"]) == (1.0, {"stage": "painn", "trial": 3}, 4)
    assert chosen["model"] == {"backbone": {"name": "painn", "hidden": 3}} and chosen["training"] == {"batch": 8}
    assert [each.path for each in result.outputs] == [f"{chosen['checkpoint']}/model.pt"]
    assert [each["source"]["trial"] for each in result.result["ranking"]] == [3, 1]


def test_per_backbone_selects_within_each(tmp_path: Path) -> None:
    inputs = {"a": search(tmp_path, "a", {1: 9.0, 2: 8.0}, "painn"), "b": search(tmp_path, "b", {1: 1.0, 2: 2.0, 3: 3.0}, "egnn")}
    over_all = decide(tmp_path, inputs, top=2).result["selected"]
    within = decide(tmp_path, inputs, top=2, per="backbone").result["selected"]
    assert [each["objective"] for each in over_all] == [1.0, 2.0]
    assert [(each["backbone"], each["objective"]) for each in within] == [
        ("egnn", 1.0),
        ("egnn", 2.0),
        ("painn", 8.0),
        ("painn", 9.0),
    ]


def test_trainings_are_chosen_from_as_well(tmp_path: Path) -> None:
    inputs = {}
    for number, objective in enumerate([0.5, 0.25], start=1):
        checkpoint = tmp_path / f"train-{number}"
        checkpoint.mkdir()
        (checkpoint / "model.pt").write_text(str(objective))
        facts = {"objective": objective, "epochs": 9, "seconds": 5.0, "model": {"backbone": {"name": "egnn"}}, "training": {}}
        outputs = tuple(vouch(tmp_path, "checkpoint", checkpoint))
        result = {**facts, "checkpoint": checkpoint.name}
        inputs[f"train/{number}"] = Receipt("", f"train/{number}", 1, 1, Status.DONE, outputs=outputs, result=result)
    spec = PromoteSpec(kind="promote", needs=("train",))
    (chosen,) = stage_kind("promote").decide(spec, "lead", inputs, tmp_path).result["selected"]
    assert (chosen["checkpoint"], chosen["source"]) == ("train-2", {"stage": "train/2", "trial": None})


def test_what_it_does_not_need_is_not_chosen_from(tmp_path: Path) -> None:
    receipts = {"a": search(tmp_path, "a", {1: 9.0}), "b": search(tmp_path, "b", {1: 1.0})}
    spec = PromoteSpec(kind="promote", needs=("a",))
    (chosen,) = stage_kind("promote").decide(spec, "best", receipts, tmp_path).result["selected"]
    assert chosen["source"]["stage"] == "a"


def test_nothing_to_select_is_told_with_the_causes(tmp_path: Path) -> None:
    result = decide(tmp_path, {"painn": search(tmp_path, "painn", {1: None, 2: None})})
    assert (result.status, result.cause) == (Status.FAILED, Cause.BAD_CONFIG)
    assert result.message == "best has nothing to promote: painn has no finished model (2 trials; causes: oom)"


def test_a_changed_checkpoint_is_not_promoted(tmp_path: Path) -> None:
    receipt = search(tmp_path, "painn", {1: 2.0})
    (tmp_path / receipt.outputs[0].path).write_text("something else")
    with pytest.raises(StageError, match="differs from its receipt"):
        decide(tmp_path, {"painn": receipt})


def test_a_model_that_nothing_validated_comes_last_and_is_named(tmp_path: Path) -> None:
    receipts = {}
    for name, objective in (("a", None), ("b", 0.5)):
        checkpoint = tmp_path / "stages" / name / "last"
        checkpoint.mkdir(parents=True)
        (checkpoint / "model.pt").write_text(name)
        facts = {"objective": objective, "seconds": 1.0, "epochs": 2, "model": {"backbone": {"name": "painn"}}, "training": {}}
        facts["checkpoint"] = str(checkpoint.relative_to(tmp_path))
        outputs = tuple(vouch(tmp_path, "checkpoint", checkpoint))
        receipts[name] = Receipt("", name, 1, 1, Status.DONE, outputs=outputs, result=facts)
    result = decide(tmp_path, receipts, rank_by=["val_loss", "seconds"])
    assert [each["source"]["stage"] for each in result.result["ranking"]] == ["b", "a"]
    assert result.message == "a: not validated, so without an objective, and ranked last"
    alone = decide(tmp_path, {"a": receipts["a"]})
    assert alone.status is Status.DONE and alone.result["selected"][0]["objective"] is None
