"""The stages that start one or a few tasks: what they take from their needs, how they resume, what they vouch for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from stage_allocation import FakeAllocation, MemoryRecord, data_receipt, following, request, trained

from model.outcome import CampaignError, Cause, Outcome, Status, write_outcome
from workflow.campaign import stage_kind
from workflow.receipt import Receipt, verify, vouch
from workflow.stages.base import StageResult, TaskResult


def run(made: FakeAllocation) -> StageResult:
    return stage_kind(made.request.kind).work(made)


def next_link(made: FakeAllocation, behaviour: Any) -> FakeAllocation:
    return FakeAllocation(following(made), made.campaign, behaviour, record=MemoryRecord(made.record.lines))


def promoted(campaign: Path, *objectives: float) -> Receipt:
    selected, outputs = [], []
    for number, objective in enumerate(objectives, start=1):
        folder = campaign / "stages" / "best" / f"model-{number}"
        folder.mkdir(parents=True)
        (folder / "model.pt").write_text(str(number))
        outputs += vouch(campaign, f"checkpoint:{number}", folder)
        selected.append(
            {
                "backbone": "painn",
                "objective": objective,
                "seconds": 3.0,
                "epochs": 2,
                "source": {"stage": "search", "trial": number},
                "model": {"backbone": {"name": "painn", "hidden": 8 * number}},
                "training": {"batch": 8, "optimizer": {"learning_rate": 0.5}, "epochs": 2, "fraction": 0.1, "seed": 9},
                "checkpoint": str(folder.relative_to(campaign)),
            }
        )
    return Receipt("", "best", 1, 1, Status.DONE, outputs=tuple(outputs), result={"selected": selected, "ranking": []})


def given(tmp_path: Path, **other: Any) -> Any:
    inputs = {"data": data_receipt(tmp_path, "gfn1", "emt", "task"), "best": promoted(tmp_path, 1.0, 2.0)}
    return {"inputs": inputs, **other}


def train(tmp_path: Path, spec: dict[str, Any], behaviour: Any, stage: str = "train", **other: Any) -> FakeAllocation:
    made = request(tmp_path, stage, "train", spec, **given(tmp_path, **other))
    return FakeAllocation(made, tmp_path, behaviour)


def good(name: str, config: Any, folder: Path) -> Outcome:
    return trained(folder, config, 0.5)


def test_a_model_of_the_file_is_trained_on_all_nodes(tmp_path: Path) -> None:
    made = train(
        tmp_path,
        {"backbone": {"name": "egnn", "hidden": 8}, "model": {"cutoff": 4.0}, "training": {"batch": 4}, "epochs": 3},
        good,
    )
    result = run(made)
    config = made.configs["train"]
    assert (config.model.backbone, config.model.cutoff, config.batch, config.epochs) == ({"name": "egnn", "hidden": 8}, 4.0, 4, 3)
    assert made.most_running == 2 and config.init is None and list(config.branches) == ["gfn1", "emt"]
    assert result.status is Status.DONE and result.result["objective"] == 0.5
    assert result.result["checkpoint"].endswith("train/checkpoints/best")
    verify(tmp_path, result.outputs)
    assert [each.role for each in result.outputs] == ["checkpoint", "parity"]
    question = made.configs["test"]
    assert (question.split, question.checkpoint) == ("test", tmp_path / result.result["checkpoint"])
    assert result.result["test"]["objective"] == 0.7


def test_what_ends_with_the_allocation_is_tested_in_the_next_link(tmp_path: Path) -> None:
    first = train(tmp_path, {"backbone": "painn"}, good, links=2)
    first.stops_after = 1
    result = run(first)
    assert result.status is Status.PARTIAL and "no time was left" in result.message and "test" not in first.configs
    second = next_link(first, good)
    result = run(second)
    assert result.status is Status.DONE and list(second.configs) == ["test"] and result.result["test"]["objective"] == 0.7
    third = run(next_link(second, good))
    assert third.result["test"]["objective"] == 0.7
    assert [each.role for each in third.outputs] == [each.role for each in result.outputs] == ["checkpoint", "parity"]


def test_each_takes_its_own_model_and_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    made = train(tmp_path, {"each": "best", "epochs": 5, "training": {"optimizer": {"weight_decay": 0.1}}}, good, "train/2")
    assert run(made).status is Status.DONE
    config = made.configs["train"]
    assert config.model.backbone == {"name": "painn", "hidden": 16}
    assert config.init == tmp_path / "stages" / "best" / "model-2"
    assert (config.batch, config.optimizer.learning_rate, config.optimizer.weight_decay) == (8, 0.5, 0.1)
    assert (config.epochs, config.fraction, config.seed) == (5, 1.0, 0)


def test_a_promotion_among_the_needs_gives_its_first_model(tmp_path: Path) -> None:
    made = train(tmp_path, {"needs": ["best"], "start": "scratch"}, good)
    run(made)
    assert made.configs["train"].model.backbone["hidden"] == 8 and made.configs["train"].init is None


def test_where_fewer_models_were_selected_there_is_nothing_to_do(tmp_path: Path) -> None:
    made = train(tmp_path, {"each": "best"}, good, "train/3")
    result = run(made)
    assert (result.status, made.configs) == (Status.DONE, {}) and "fewer than 3" in result.message


def test_the_next_link_resumes_exactly(tmp_path: Path) -> None:
    first = train(tmp_path, {"each": "best", "epochs": 6}, lambda n, c, f: trained(f, c, 0.9, epochs=2), "train/1", links=2)
    result = run(first)
    assert result.status is Status.PARTIAL and result.result["epochs"] == 2
    second = next_link(first, good)
    assert run(second).status is Status.DONE
    config = second.configs["train"]
    assert (config.resume, config.init) == (first.task_folder("train") / "checkpoints" / "last", None)


def test_an_attempt_that_left_nothing_is_passed_over(tmp_path: Path) -> None:
    first = train(tmp_path, {"backbone": "painn", "epochs": 6}, lambda n, c, f: trained(f, c, 0.9, epochs=2), links=3)
    run(first)
    second = next_link(first, lambda n, c, f: Cause.STORAGE)
    result = run(second)
    assert (result.status, result.cause) == (Status.FAILED, Cause.STORAGE)
    assert [c.resume for c in second.configs.values()] == [first.task_folder("train") / "checkpoints" / "last"] * 3
    third = next_link(second, good)
    run(third)
    assert third.configs["train"].resume == first.task_folder("train") / "checkpoints" / "last"


def test_a_finished_training_is_not_run_again(tmp_path: Path) -> None:
    first = train(tmp_path, {"backbone": "painn"}, good)
    whole = run(first)
    second = next_link(first, good)
    again = run(second)
    assert second.configs == {} and (again.status, again.result, again.outputs) == (Status.DONE, whole.result, whole.outputs)


def test_a_failed_node_is_tried_again_from_the_checkpoint_and_a_bug_is_not(tmp_path: Path) -> None:
    def behaviour(name: str, config: Any, folder: Path) -> Outcome | Cause:
        outcome = trained(folder, config, 0.5)
        return Cause.NODE_FAILURE if name == "train" else outcome

    made = train(tmp_path / "node", {"backbone": "painn"}, behaviour)
    assert run(made).status is Status.DONE
    assert made.configs["train.2"].resume == made.task_folder("train") / "checkpoints" / "last"
    made = train(tmp_path / "bug", {"backbone": "painn"}, lambda n, c, f: None)
    result = run(made)
    assert (result.status, result.cause, list(made.configs)) == (Status.FAILED, Cause.BUG, ["train"])
    assert result.evidence["task"] == "train"


def test_epochs_that_suffice_end_the_chain(tmp_path: Path) -> None:
    for suffices, status in ((2, Status.DONE), (3, Status.PARTIAL)):
        spec = {"backbone": "painn", "epochs": 6, "suffices": suffices}
        made = train(tmp_path / str(suffices), spec, lambda n, c, f: trained(f, c, 0.9, epochs=2))
        assert run(made).status is status


def test_what_a_training_and_its_test_remark_is_in_the_receipt(tmp_path: Path) -> None:
    class Remarking(FakeAllocation):
        def _run(self, name: str, config: Any, nodes: int) -> TaskResult:
            result = super()._run(name, config, nodes)
            outcome = replace(result.outcome, message=f"{name} found no structure")
            write_outcome(result.folder, outcome)
            return replace(result, outcome=outcome, message=outcome.message)

    made = request(tmp_path, "train", "train", {"backbone": "painn"}, **given(tmp_path))
    first = Remarking(made, tmp_path, good)
    assert run(first).message == "test found no structure; train found no structure"
    assert run(Remarking(following(first), tmp_path, good)).message == "test found no structure; train found no structure"


def test_a_conversion_says_which_branches_have_an_empty_split(tmp_path: Path) -> None:
    def behaviour(name: str, config: Any, folder: Path) -> Outcome:
        config.store.mkdir(parents=True)
        (config.store / "manifest.json").write_text("{}")
        counts = {"train": 5, "validation": 0, "test": 0} if name != "convert-emt" else {"train": 5, "validation": 1, "test": 1}
        return Outcome(Status.DONE, result={"structures": 5, "splits": counts}, outputs={"store": str(config.store)})

    made = FakeAllocation(request(tmp_path, "data", "convert", {}), tmp_path, behaviour, num_nodes=4)
    result = run(made)
    assert (result.status, result.message) == (Status.DONE, "gfn1 has no structure to validate on or to test on")


def test_pieces_that_fit_are_told_the_memory_of_a_device(tmp_path: Path) -> None:
    site = {"node": {"devices": 1, "backend": "gloo", "device_memory_gb": 48.0}}
    for name, training, memory in (("auto", {"micro_batch": "auto"}, 48.0), ("plain", {"micro_batch": 4}, None)):
        made = train(tmp_path / name, {"backbone": "painn", "training": training}, good, site=site)
        assert run(made).status is Status.DONE
        assert made.configs["train"].memory_gb == memory


def test_without_converted_data_it_says_so(tmp_path: Path) -> None:
    made = train(tmp_path, {"backbone": "painn"}, good)
    del made.request.inputs["data"]
    with pytest.raises(CampaignError, match="no converted data of gfn1, emt"):
        run(made)


def test_conversion_packs_sources_and_does_not_repeat_what_is_done(tmp_path: Path) -> None:
    def behaviour(name: str, config: Any, folder: Path) -> Outcome | Cause:
        config.store.mkdir(parents=True)
        (config.store / "manifest.json").write_text("{}")
        if name == "convert-emt":
            return Cause.BAD_CONFIG
        return Outcome(Status.DONE, result={"structures": 5, "atoms": 50}, outputs={"store": str(config.store)})

    first = FakeAllocation(request(tmp_path, "data", "convert", {"shard": 7}), tmp_path, behaviour, num_nodes=4)
    result = run(first)
    assert (result.status, result.cause) == (Status.FAILED, Cause.BAD_CONFIG) and "convert-emt" in result.message
    assert set(first.configs) == {"convert-gfn1", "convert-emt", "convert-task"}
    config = first.configs["convert-gfn1"]
    assert (config.reader, config.shard, config.splits.seed) == ({"name": "extxyz"}, 7, 3)
    assert set(result.result["branches"]) == {"gfn1", "task"}

    def second_try(name: str, config: Any, folder: Path) -> Outcome:
        return Outcome(Status.DONE, result={"structures": 5, "atoms": 50}, outputs={"store": str(config.store)})

    second = next_link(first, second_try)
    result = run(second)
    assert list(second.configs) == ["convert-emt"]
    assert second.configs["convert-emt"].store == first.configs["convert-emt"].store
    assert result.status is Status.DONE
    assert {each.role for each in result.outputs} == {"store:gfn1", "store:emt", "store:task"}
    assert (tmp_path / result.result["branches"]["emt"]["store"]).is_dir()
    verify(tmp_path, result.outputs)


def test_fine_tuning_compares_strategies_in_a_table(tmp_path: Path) -> None:
    def behaviour(name: str, config: Any, folder: Path) -> Outcome:
        if config.strategy == "scratch":
            return Outcome(Status.FAILED, Cause.DIVERGED, "the loss is not finite")
        outcome = trained(folder, config, 0.25)
        outcome.result["metrics"] = {"task": {"energy_mae_mev_per_atom": 3.0, "force_mae_mev_per_angstrom": 40.0}}
        if config.strategy == "unfrozen":
            outcome.result["test"] = {"task": {"energy_mae_mev_per_atom": 3.5, "num_energies": 7}}
            (folder / "parity.json").write_text("{}")
            outcome.outputs["parity"] = "parity.json"
        return outcome

    spec = {"task": "task", "needs": ["best"], "epochs": 4, "training": {"batch": 2}}
    made = FakeAllocation(request(tmp_path, "tune", "finetune", spec, **given(tmp_path)), tmp_path, behaviour, num_nodes=6)
    result = run(made)
    checkpoints = {config.strategy: config.checkpoint for config in made.configs.values()}
    start = tmp_path / "stages" / "best" / "model-1"
    assert checkpoints == {"scratch": None, "frozen": start, "unfrozen": start}
    config = made.configs["finetune-task-frozen"]
    assert (list(config.branches), config.batch, config.epochs, config.model.backbone["hidden"]) == (["task"], 2, 4, 8)
    assert result.status is Status.DONE
    rows = {row["strategy"]: row for row in result.result["table"]}
    assert (rows["frozen"]["energy_mae_mev_per_atom"], rows["frozen"]["split"]) == (3.0, "validation")
    assert (rows["unfrozen"]["energy_mae_mev_per_atom"], rows["unfrozen"]["split"]) == (3.5, "test")
    assert rows["scratch"]["failed"] == "diverged"
    roles = {each.role for each in result.outputs}
    assert roles == {"checkpoint:task:frozen", "checkpoint:task:unfrozen", "parity:task:unfrozen", "table"}
    table = next(each.path for each in result.outputs if each.role == "table")
    assert json.loads((tmp_path / table).read_text()) == result.result["table"]


def test_tasks_of_every_kind_stand_in_one_table(tmp_path: Path) -> None:
    """Metrics as `model.training.scores` gives them, beside those of energies."""
    found = {
        "task": {"energy_mae_mev_per_atom": 3.0, "num_energies": 7},
        "emt": {"kind": "scalar", "unit": "eV/atom", "target_mae": 0.1, "target_mean_baseline": 0.4, "num_targets": 5},
        "gfn1": {"kind": "class", "roc_auc": 0.9, "accuracy": 0.8, "majority_accuracy": 0.6, "num_targets": 9},
    }

    def behaviour(name: str, config: Any, folder: Path) -> Outcome:
        outcome = trained(folder, config, 0.25)
        (task,) = config.branches
        outcome.result["test"] = {task: found[task]}
        return outcome

    spec = {"task": list(found), "needs": ["best"], "strategies": ["unfrozen"]}
    made = FakeAllocation(request(tmp_path, "tune", "finetune", spec, **given(tmp_path)), tmp_path, behaviour, num_nodes=3)
    result = run(made)
    assert result.status is Status.DONE
    rows = {row["task"]: row for row in result.result["table"]}
    assert {task: row["kind"] for task, row in rows.items()} == {"task": "energy", "emt": "scalar", "gfn1": "class"}
    assert all(row.items() >= found[task].items() and row["split"] == "test" for task, row in rows.items())


def test_fine_tuning_goes_on_with_what_is_left(tmp_path: Path) -> None:
    spec = {"task": "task", "needs": ["best"], "epochs": 4, "strategies": ["frozen", "unfrozen"]}
    short = lambda n, c, f: trained(f, c, 0.5, epochs=4 if c.strategy == "frozen" else 1)  # noqa: E731
    first = FakeAllocation(request(tmp_path, "tune", "finetune", spec, **given(tmp_path, links=2)), tmp_path, short)
    assert run(first).status is Status.PARTIAL
    second = next_link(first, good)
    result = run(second)
    assert list(second.configs) == ["finetune-task-unfrozen"]
    assert second.configs["finetune-task-unfrozen"].resume == first.task_folder("finetune-task-unfrozen") / "checkpoints" / "last"
    assert result.status is Status.DONE and len(result.result["table"]) == 2


def test_blend_and_screen_take_the_model_and_each_other(tmp_path: Path) -> None:
    def blends(name: str, config: Any, folder: Path) -> Outcome:
        (folder / "blend").mkdir()
        (folder / "blend" / "weights.pt").write_text("w")
        return Outcome(Status.DONE, result={"metrics": {"mae": 1.0}}, outputs={"blend": "blend"})

    inputs = given(tmp_path)
    made = FakeAllocation(
        request(tmp_path, "blend", "blend", {"needs": ["best"], "options": {"hidden": [8], "epochs": 2}}, **inputs),
        tmp_path,
        blends,
    )
    result = run(made)
    assert made.configs["blend"].hidden == (8,) and made.configs["blend"].checkpoint.name == "model-1"
    assert [each.role for each in result.outputs] == ["blend"] and result.result["metrics"] == {"mae": 1.0}

    def screens(name: str, config: Any, folder: Path) -> Outcome | Cause:
        if name == "screen.2":
            return Cause.NODE_FAILURE  # before anything was taken over
        (folder / "screened").mkdir()
        (folder / "screened" / "a.bp").write_text("x")
        if name == "screen":
            return Cause.NODE_FAILURE
        (folder / "top.json").write_text("[]")
        return Outcome(
            Status.DONE, result={"score": config.score, "count": 1}, outputs={"screened": "screened", "top": "top.json"}
        )

    inputs["inputs"]["blend"] = made.receipt(result)
    spec = {"candidates": "task", "needs": ["best", "blend"], "score": "largest_force", "top": 5, "precision": "fp64"}
    made = FakeAllocation(request(tmp_path, "screen", "screen", spec, **inputs), tmp_path, screens)
    result = run(made)
    config = made.configs["screen.3"]
    assert config.resume == made.configs["screen.2"].resume == made.task_folder("screen")
    assert (config.score, config.top, config.precision) == ("largest_force", 5, "fp64")
    assert config.blend == tmp_path / inputs["inputs"]["blend"].result["blend"] and config.candidates.name == "task"
    assert {each.role for each in result.outputs} == {"screened", "top"}
    verify(tmp_path, result.outputs)
    third = FakeAllocation(following(made), tmp_path, screens)
    assert run(third).outputs == result.outputs and third.configs == {}


def test_screening_without_a_blend_takes_the_mean(tmp_path: Path) -> None:
    made = FakeAllocation(
        request(tmp_path, "screen", "screen", {"candidates": "task", "needs": ["best"]}, **given(tmp_path)),
        tmp_path,
        lambda n, c, f: Outcome(Status.DONE),
    )
    run(made)
    assert made.configs["screen"].blend is None


def test_a_stage_without_a_model_says_what_it_needs(tmp_path: Path) -> None:
    made = FakeAllocation(
        request(tmp_path, "screen", "screen", {"candidates": "task", "needs": ["data"]}, **given(tmp_path)), tmp_path, good
    )
    with pytest.raises(CampaignError, match="no trained model among its needs"):
        run(made)
