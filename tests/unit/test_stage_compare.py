"""Comparing ways to train: what is trained, what is made of the tests, and what is not claimed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from stage_allocation import FakeAllocation, data_receipt, following, request, trained

from model.config import EvaluateConfig, TrainConfig
from model.outcome import Outcome, Status, write_outcome
from workflow.campaign import stage_kind
from workflow.intervals import T_95, interval
from workflow.report.compared import comparison_tables
from workflow.report.facts import StageFacts
from workflow.stages._comparison import disagreements, orders
from workflow.stages.base import StageResult, TaskResult

ERRORS = {"apart": 50.0, "one_head": 90.0, "two_level": 40.0}


def errors(energy: float, force: float, seed: int = 0) -> dict[str, Any]:
    found = {"energy_mae_mev_per_atom": energy + seed, "force_mae_mev_per_angstrom": force + seed}
    return found | {"num_energies": 9, "num_force_components": 90}


NOTHING = {"energy_mae_mev_per_atom": None, "force_mae_mev_per_angstrom": None, "num_energies": 0, "num_force_components": 0}


class Comparing(FakeAllocation):
    """Tests answer by way and seed: other branches' heads are far off in forces, and in energies no further than on their own."""

    def _run(self, name: str, config: Any, nodes: int) -> TaskResult:
        if not isinstance(config, EvaluateConfig):
            return super()._run(name, config, nodes)
        way = next(each for each in ERRORS if f"-{each}-" in name)
        seed, folder = int(name.rpartition("-")[2]), self.task_folder(name)
        folder.mkdir()
        result: dict[str, Any] = {"metrics": {branch: errors(10.0, ERRORS[way], seed) for branch in config.branches}}
        if config.across:
            result["across"] = {a: {b: errors(10.0, 300.0, seed) for b in config.branches if b != a} for a in config.branches}
        outcome = Outcome(Status.DONE, result=result)
        write_outcome(folder, outcome)
        return TaskResult(name, folder, outcome.status, None, "", outcome, ("n1",), 1.0)


def compare(tmp_path: Path, **spec: Any) -> Comparing:
    given = {"backbone": {"name": "painn", "hidden": 8}, "training": {"batch": 4, "seed": 5}, "seeds": 3, "epochs": 2, **spec}
    made = request(tmp_path, "compare", "compare", given, inputs={"data": data_receipt(tmp_path, "gfn1", "emt")}, links=2)
    return Comparing(made, tmp_path, lambda name, config, folder: trained(folder, config, 0.5), num_nodes=4)


def run(made: FakeAllocation) -> StageResult:
    return stage_kind("compare").work(made)


def test_every_way_is_trained_and_tested_with_every_seed(tmp_path: Path) -> None:
    made = compare(tmp_path)
    result = run(made)
    assert result.status is Status.DONE
    training = {name: config for name, config in made.configs.items() if isinstance(config, TrainConfig)}
    assert sorted({name.rpartition("-")[0] for name in training}) == [
        "train-apart-emt",
        "train-apart-gfn1",
        "train-one_head",
        "train-two_level",
    ]
    assert {config.seed for config in training.values()} == {5, 6, 7} and len(training) == 12
    assert {name: config.model.heads for name, config in training.items() if config.model.heads == "shared"}.keys() == {
        f"train-one_head-{seed}" for seed in range(3)
    }
    assert all(config.model.backbone["hidden"] == 8 and config.epochs == 2 for config in training.values())
    tests = {name: config for name, config in made.configs.items() if isinstance(config, EvaluateConfig)}
    assert {name for name, config in tests.items() if config.across} == {f"evaluate-two_level-{seed}" for seed in range(3)}
    assert tests["evaluate-apart-emt-1"].checkpoint == made.task_folder("train-apart-emt-1") / "checkpoints" / "best"
    assert [each.role for each in result.outputs] == ["comparison"]


def test_orders_rest_on_labels_that_disagree(tmp_path: Path) -> None:
    comparison = run(compare(tmp_path)).result["comparison"]
    rows = {(row["branch"], row["way"]): row for row in comparison["errors"]}
    assert len(rows) == 6 and rows["emt", "one_head"]["force"]["values"] == [90.0, 91.0, 92.0]
    assert rows["emt", "one_head"]["force"]["ci95"] == pytest.approx(T_95[3] / 3**0.5)
    said = {(row["branch"], row["quantity"]): row for row in comparison["orders"]}
    assert not said["emt", "energy"]["labels_disagree"] and said["emt", "energy"]["better"] == []
    better = {(each["way"], each["than"]): each["by"]["mean"] for each in said["gfn1", "force"]["better"]}
    assert better == {("apart", "one_head"): 40.0, ("two_level", "one_head"): 50.0, ("two_level", "apart"): 10.0}
    texts = tables(comparison)
    assert "a head for each beats one head for all by 50 ± 0 meV/Å" in texts
    assert "none is claimed: no other branch's labels are seen to disagree with these" in texts
    assert "260 ± 0 meV/Å" in texts and "\nforce\n" in texts


def tables(comparison: Mapping[str, Any]) -> str:
    class Stage:
        key, result = "compare", {"comparison": comparison}

    made: StageFacts = Stage()  # type: ignore[assignment]  # what the tables read of it
    return "\n".join(cell for table in comparison_tables(made) for row in table.rows for cell in row)


def test_the_next_link_does_what_is_left(tmp_path: Path) -> None:
    first = compare(tmp_path)
    first.stops_after = 3
    assert run(first).status is Status.PARTIAL
    assert not any(isinstance(config, EvaluateConfig) for config in first.configs.values())
    second = Comparing(following(first), tmp_path, first.behaviour, num_nodes=4)
    result = run(second)
    assert result.status is Status.DONE and all(isinstance(config, EvaluateConfig) for config in second.configs.values())
    assert len(result.result["comparison"]["errors"]) == 6


def test_a_difference_within_the_seeds_is_no_order() -> None:
    noisy = {way: [{"a": errors(0, force)} for force in values] for way, values in {"x": (10, 30, 20), "y": (21, 12, 31)}.items()}
    apart = [{"labels": "a", "head": "b", "energy_disagree": True, "force_disagree": True}]
    assert [row["better"] for row in orders(noisy, apart)] == [[], []]
    sure = {"x": noisy["x"], "y": [{"a": errors(0, force)} for force in (110, 131, 119)]}
    assert [each["way"] for each in orders(sure, apart)[1]["better"]] == ["x"]


def test_branches_without_a_common_element_are_not_compared() -> None:
    own = [{"a": errors(5, 5, seed), "b": errors(5, 5, seed)} for seed in range(2)]
    rows = disagreements(own, [{"a": {"b": NOTHING}, "b": {"a": errors(500, 5, seed)}} for seed in range(2)])
    assert rows[0]["energy_above_own"] is None and not rows[0]["energy_disagree"]
    assert rows[1]["energy_above_own"]["mean"] == 495 and not rows[1]["energy_disagree"]


def test_a_head_that_has_learned_less_is_no_disagreement() -> None:
    """b's head is far off on a's labels, and no less on its own, where a's head does as well: a and b may be the same."""
    own = [{"a": errors(5, 20, seed), "b": errors(50, 90, seed)} for seed in range(3)]
    across = [{"a": {"b": errors(55, 100, seed)}, "b": {"a": errors(6, 300, seed)}} for seed in range(3)]
    one, other = disagreements(own, across)
    assert (one["energy_above_own"]["mean"], other["energy_above_own"]["mean"]) == (50, -44)
    assert not one["energy_disagree"] and not other["energy_disagree"]
    assert (one["force_above_own"]["mean"], other["force_above_own"]["mean"]) == (80, 210)
    assert one["force_disagree"] and other["force_disagree"]


def test_an_interval_is_students() -> None:
    found = interval([1.0, 2.0, 3.0])
    assert (found.mean, found.half) == (2.0, pytest.approx(4.303 / 3**0.5)) and not found.is_positive
    assert interval([1.0, 1.1]).is_positive == (1.05 > 12.706 * 0.05) and not interval([-3.0, -3.01]).is_positive


def test_what_could_not_be_validated_or_tested_is_said(tmp_path: Path) -> None:
    class Blind(Comparing):
        def _run(self, name: str, config: Any, nodes: int) -> TaskResult:
            result = super()._run(name, config, nodes)
            assert result.outcome is not None
            if isinstance(config, EvaluateConfig):
                outcome = replace(result.outcome, message="no structure of emt in the test split")
            else:
                outcome = replace(result.outcome, outputs={"last": "checkpoints/last"})
            return replace(result, outcome=outcome)

    made = compare(tmp_path)
    result = run(Blind(following(made), tmp_path, made.behaviour, num_nodes=4))
    told = "12 of 12 trainings had nothing to validate on: their last epoch was tested; no structure of emt in the test split"
    assert (result.status, result.message) == (Status.DONE, told)
