"""The search's loop: real suggestions, real records, tasks as functions."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from stage_allocation import Behaviour, FakeAllocation, MemoryRecord, data_receipt, following, request, trained

from model.config import TrainConfig
from model.outcome import Cause, Outcome, Status
from model.specs import BatchBudget
from workflow.campaign import stage_kind
from workflow.receipt import verify
from workflow.search import feasibility
from workflow.search.feasibility import Batch, batch_of
from workflow.stages.base import StageResult

SPEC: dict[str, Any] = {
    "backbone": "painn",
    "evaluations": 6,
    "trial": {"nodes": 1, "epochs": 4, "fraction": 0.5},
    "space": {
        "hidden": {"low": 8, "high": 64, "log": True},
        "learning_rate": {"low": 1e-4, "high": 1.0, "log": True},
        "layers": 2,
    },
    "training": {"batch": 16, "loss": {"kind": "huber"}},
    "seed": 5,
    "keep": 2,
}


@pytest.fixture(autouse=True)
def ample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a model take as many GB as its hidden width, so that a test can choose what fits."""
    monkeypatch.setattr(feasibility, "needed_gb", lambda config, *_: float(config.model.backbone["hidden"]))


def allocation(tmp_path: Path, behaviour: Behaviour, spec: dict[str, Any] | None = None, **other: Any) -> FakeAllocation:
    inputs = {"data": data_receipt(tmp_path, "gfn1", "emt")}
    return FakeAllocation(
        request(tmp_path, "search", "hpo", {**SPEC, **(spec or {})}, inputs=inputs), tmp_path, behaviour, **other
    )


def good(name: str, config: TrainConfig, folder: Path) -> Outcome:
    return trained(folder, config, 1.0 + config.optimizer.learning_rate)


def run(made: FakeAllocation) -> StageResult:
    return stage_kind("hpo").work(made)


def test_a_search_runs_its_evaluations_side_by_side_and_keeps_the_best(tmp_path: Path) -> None:
    both = threading.Barrier(2)

    def together(name: str, config: TrainConfig, folder: Path) -> Outcome:
        if name in ("trial-1", "trial-2"):
            both.wait(60)
        return good(name, config, folder)

    made = allocation(tmp_path, together)
    result = run(made)
    trials = result.result["trials"]
    assert (result.status, len(trials), made.most_running) == (Status.DONE, 6, 2)
    assert all(each["status"] == "done" and each["epochs"] == 4 for each in trials)
    order = sorted(trials, key=lambda each: each["objective"])
    assert result.result["best"] == order[0]["id"]
    assert {output.role for output in result.outputs} == {f"checkpoint:{each['id']}" for each in order[:2]}
    verify(tmp_path, result.outputs)
    assert [each["id"] for each in trials if "checkpoint" in each] == sorted(each["id"] for each in order[:2])
    assert made.facts["trials"] == {"total": 6, "done": 6, "running": 0, "interrupted": 0, "stopped": 0, "failed": {}}
    assert made.facts["best"] == {"trial": order[0]["id"], "objective": order[0]["objective"]}


def test_a_trial_is_the_file_and_the_point_together(tmp_path: Path) -> None:
    made = allocation(tmp_path, good)
    result = run(made)
    config, point = made.configs["trial-1"], result.result["trials"][0]["config"]
    assert config.model.backbone == {"name": "painn", "hidden": point["hidden"], "layers": 2}
    assert config.optimizer.learning_rate == point["learning_rate"]
    assert (config.batch, config.loss.kind, config.epochs, config.fraction) == (16, "huber", 4, 0.5)
    assert config.branches["emt"].weight == 2.0 and config.branches["gfn1"].store.is_dir()
    assert (config.splits.seed, config.memory_gb, config.resume) == (3, made.device_memory_gb, None)


def test_initial_points_come_first(tmp_path: Path) -> None:
    result = run(allocation(tmp_path, good, {"initial": [{"hidden": 9, "learning_rate": 0.5}, {"hidden": 60}]}))
    configs = [each["config"] for each in result.result["trials"][:2]]
    assert configs[0] == {"hidden": 9, "learning_rate": 0.5}
    assert configs[1]["hidden"] == 60 and 1e-4 < configs[1]["learning_rate"] < 1


def test_what_does_not_fit_is_refused_without_a_task(tmp_path: Path) -> None:
    made = allocation(tmp_path, good, {"initial": [{"hidden": 64}, {"hidden": 8}]}, device_memory_gb=40.0)
    result = run(made)
    first = result.result["trials"][0]
    assert (first["status"], first["cause"], first["tasks"]) == ("failed", "oom", [])
    assert "64.0 GB" in first["message"] and "trial-1" not in made.configs
    assert {"event": "tell", "trial": 1, "value": "oom"}.items() <= next(
        e for e in made.record.lines if e["event"] == "tell"
    ).items()
    assert result.status is Status.DONE and len(result.result["trials"]) == 6


def test_faults_of_a_trial_are_told_and_do_not_run_again(tmp_path: Path) -> None:
    def behaviour(name: str, config: TrainConfig, folder: Path) -> Outcome:
        if name == "trial-2":
            return Outcome(Status.FAILED, Cause.DIVERGED, "the loss is not finite")
        return trained(folder, config, float("nan") if name == "trial-3" else 1.0)

    made = allocation(tmp_path, behaviour)
    result = run(made)
    told = {e["trial"]: e["value"] for e in made.record.lines if e["event"] == "tell"}
    assert told == {1: 1.0, 2: "diverged", 3: "diverged", 4: 1.0, 5: 1.0, 6: 1.0}
    assert len(made.configs) == 6
    assert made.facts["trials"]["failed"] == {"diverged": 2}
    assert [each["cause"] for each in result.result["trials"][1:3]] == ["diverged", "diverged"]


def test_a_failed_node_costs_no_trial_and_the_trial_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    def behaviour(name: str, config: TrainConfig, folder: Path) -> Outcome | Cause:
        outcome = trained(folder, config, 1.0)
        return Cause.NODE_FAILURE if name == "trial-2" else outcome

    made = allocation(tmp_path, behaviour)
    second = run(made).result["trials"][1]
    assert made.configs["trial-2-2"].resume == made.task_folder("trial-2") / "checkpoints" / "last"
    assert (second["status"], second["interrupted"], len(second["tasks"])) == ("done", 1, 2)
    told = [e["trial"] for e in made.record.lines if e["event"] == "tell"]
    assert sorted(told) == [1, 2, 3, 4, 5, 6]


def test_a_fault_that_stays_is_left_to_the_next_attempt(tmp_path: Path) -> None:
    made = allocation(tmp_path, lambda name, config, folder: Cause.LAUNCHER if "trial-2" in name else good(name, config, folder))
    result = run(made)
    assert (result.status, result.cause) == (Status.FAILED, Cause.LAUNCHER)
    assert [name for name in made.configs if name.startswith("trial-2")] == ["trial-2", "trial-2-2", "trial-2-3"]
    assert Counter(each["status"] for each in result.result["trials"]) == {"done": 5, "interrupted": 1}


def test_where_every_task_fails_by_the_machine_few_trials_are_begun(tmp_path: Path) -> None:
    made = allocation(tmp_path, lambda name, config, folder: Cause.LAUNCHER, spec={"evaluations": 200})
    result = run(made)
    assert (result.status, result.cause) == (Status.FAILED, Cause.LAUNCHER)
    assert 6 <= len(made.configs) <= 7, "three tries for each of two slots, and what ran beside the last"
    assert {each["status"] for each in result.result["trials"]} == {"interrupted"}


def test_faults_of_the_machine_between_successes_end_nothing(tmp_path: Path) -> None:
    begun: list[str] = []

    def behaviour(name: str, config: TrainConfig, folder: Path) -> Outcome | Cause:
        begun.append(name)
        return Cause.NODE_FAILURE if len(begun) % 3 else good(name, config, folder)

    result = run(allocation(tmp_path, behaviour, spec={"attempts": 9}))
    assert result.status is Status.DONE and len(result.result["trials"]) == 6 and len(begun) > 12


def test_a_bug_stops_the_search_and_is_tried_again_when_resumed(tmp_path: Path) -> None:
    made = allocation(tmp_path, lambda name, config, folder: None if name == "trial-2" else good(name, config, folder))
    result = run(made)
    assert (result.status, result.cause) == (Status.FAILED, Cause.BUG)
    assert "trial-2" in result.message and len(made.configs) < 6
    again = FakeAllocation(following(made, link=1, attempt=2), tmp_path, good, record=MemoryRecord(made.record.lines))
    result = run(again)
    assert result.status is Status.DONE and "trial-2-2" in again.configs
    assert result.result["trials"][1]["status"] == "done"


def test_a_link_that_ends_is_carried_on_by_the_next_with_the_same_suggestions(tmp_path: Path) -> None:
    whole = run(allocation(tmp_path / "whole", good, num_nodes=1))
    interrupted: set[str] = set()

    def behaviour(name: str, config: TrainConfig, folder: Path) -> Outcome:
        if name != "trial-4":
            return good(name, config, folder)
        interrupted.add(name)
        return trained(folder, config, 9.0, epochs=2)

    parts = tmp_path / "parts"
    first = allocation(parts, behaviour, num_nodes=1, stops_after=4)
    result = run(first)
    assert (result.status, result.result["trials"][3]["status"], interrupted) == (Status.DONE, "interrupted", {"trial-4"})
    assert "links ran out" in result.message
    second = FakeAllocation(following(first), parts, good, num_nodes=1, record=MemoryRecord(first.record.lines))
    result = run(second)
    assert result.status is Status.DONE and result.result["note"] == ""
    assert list(second.configs) == ["trial-4-2", "trial-5", "trial-6"]
    assert second.configs["trial-4-2"].resume == first.task_folder("trial-4") / "checkpoints" / "last"
    assert result.result["trials"][3]["interrupted"] == 1
    assert [t["config"] for t in result.result["trials"]] == [t["config"] for t in whole.result["trials"]]
    verify(parts, result.outputs)


def test_with_links_left_the_search_is_partial(tmp_path: Path) -> None:
    made = allocation(tmp_path, good, stops_after=2)
    made.request = following(made, link=1, links=3)
    result = run(made)
    assert result.status is Status.PARTIAL and result.message == "2 of 6 trials settled"


def test_a_cancelled_search_is_not_done(tmp_path: Path) -> None:
    made = allocation(tmp_path, good, stops_after=2)
    made.folder.stop.touch()
    assert run(made).status is Status.PARTIAL


def test_a_trial_that_died_with_its_agent_is_resumed_and_the_record_says_so(tmp_path: Path) -> None:
    class Died(Exception):
        pass

    def behaviour(name: str, config: TrainConfig, folder: Path) -> Outcome:
        outcome = good(name, config, folder)
        if name == "trial-2":
            raise Died
        return outcome

    first = allocation(tmp_path, behaviour, num_nodes=1)
    with pytest.raises(Died):
        run(first)
    second = FakeAllocation(following(first), tmp_path, good, num_nodes=1, record=MemoryRecord(first.record.lines))
    result = run(second)
    assert result.status is Status.DONE
    assert [e["trial"] for e in second.record.lines if e["event"] == "lost"] == [2]
    assert second.configs["trial-2-2"].resume == first.task_folder("trial-2") / "checkpoints" / "last"


def test_a_settled_trial_that_was_not_told_is_told_on_resume(tmp_path: Path) -> None:
    made = allocation(tmp_path, good, num_nodes=1)
    run(made)
    last = next(i for i, e in enumerate(made.record.lines) if e["event"] == "tell" and e["trial"] == 2)
    again = FakeAllocation(following(made), tmp_path, good, num_nodes=1, record=MemoryRecord(made.record.lines[:last]))
    result = run(again)
    assert result.result["note"] == "" and result.status is Status.DONE
    assert [e["trial"] for e in again.record.lines if e["event"] == "tell"] == [1, 2, 3, 4, 5, 6]
    assert list(again.configs) == ["trial-3", "trial-4", "trial-5", "trial-6"]


def test_a_damaged_checkpoint_is_not_held_against_the_trial(tmp_path: Path) -> None:
    def behaviour(name: str, config: TrainConfig, folder: Path) -> Outcome | Cause:
        outcome = trained(folder, config, 1.0)
        if name == "trial-1":
            return Cause.NODE_FAILURE
        return Outcome(Status.FAILED, Cause.BAD_CONFIG, "the checkpoint is damaged") if config.resume else outcome

    made = allocation(tmp_path, behaviour)
    result = run(made)
    assert [made.configs[name].resume is None for name in ("trial-1", "trial-1-2", "trial-1-3")] == [True, False, True]
    assert result.result["trials"][0]["status"] == "done"


def test_nothing_that_succeeds_fails_the_stage_with_the_commonest_cause(tmp_path: Path) -> None:
    made = allocation(tmp_path, good, device_memory_gb=1.0)
    result = run(made)
    assert (result.status, result.cause) == (Status.FAILED, Cause.OOM)
    assert result.message == "none of 6 trials succeeded: 6 oom" and made.configs == {}


def test_what_does_not_fit_before_the_deadline_is_not_started_over_and_over(tmp_path: Path) -> None:
    made = allocation(
        tmp_path, lambda name, config, folder: good(name, config, folder) if name == "trial-1" else Cause.WALLTIME, num_nodes=1
    )
    made.request = following(made, link=1, links=2)
    result = run(made)
    assert result.status is Status.PARTIAL and list(made.configs) == ["trial-1", "trial-2"]
    assert result.result["trials"][1]["status"] == "interrupted"


def test_trials_whose_epoch_is_longer_than_a_job_start_all_the_same(tmp_path: Path) -> None:
    made = allocation(tmp_path, good, num_nodes=1, time_left_s=0.2)  # an epoch takes 0.25 s: four of them 1 s
    result = run(made)
    assert [each["status"] for each in result.result["trials"]] == ["done"] * 6


def test_too_few_healthy_nodes_for_a_trial_are_the_nodes_fault_and_spend_nothing(tmp_path: Path) -> None:
    made = allocation(tmp_path, good, spec={"trial": {"nodes": 2, "epochs": 4}}, num_nodes=1)
    result = run(made)
    assert (result.status, result.cause) == (Status.FAILED, Cause.NODE_FAILURE)
    assert result.message == "a trial takes 2 nodes and 1 of the allocation answer"
    assert made.configs == {} and not [line for line in made.record.lines if line["event"] == "ask"]


def test_the_batch_of_a_rank_follows_the_shares_of_the_branches() -> None:
    config = TrainConfig.model_validate(
        {
            "model": {"backbone": {"name": "painn"}, "cutoff": 5.0},
            "branches": {"small": {"store": "/a"}, "large": {"store": "/b"}},
            "batch": 40,
        }
    )
    facts = {"small": {"structures": 300, "atoms": 900}, "large": {"structures": 100, "atoms": 10_000}}
    batch = batch_of(config, facts, ranks=4)
    assert batch.atoms == 273  # 10 structures a rank: 7.5 of 3 atoms, 2.5 of 100
    assert batch.edges == pytest.approx(7.5 * 3 * 2 + 250 * 52.36, abs=2)
    assert batch.triplets == pytest.approx(7.5 * 3 * 2**2 + 250 * 52.36**2, rel=1e-4)
    assert isinstance(batch, Batch)
    one = batch_of(config.model_copy(update={"micro_batch": "auto"}), facts, ranks=4)
    assert one == batch_of(config.model_copy(update={"micro_batch": 1}), facts, ranks=4) and one.atoms == 100, (
        "the larger kind must fit"
    )
    assert batch_of(config.model_copy(update={"micro_batch": 16}), facts, ranks=4) == batch, "a rank has ten"
    fields = config.model_dump()
    given = TrainConfig.model_validate(fields | {"branches": {"small": {"store": "/a", "share": 0.5}, "large": {"store": "/b"}}})
    assert batch_of(given, facts, ranks=4).atoms == 515  # a stated half stays one: 5 of 3 atoms, 5 of 100
    even = TrainConfig.model_validate(fields | {"temperature": 1e9})
    assert batch_of(even, facts, ranks=4).atoms == 515  # 5 of 3 atoms, 5 of 100


def test_a_budget_foretells_the_batch_of_a_rank() -> None:
    config = TrainConfig.model_validate(
        {
            "model": {"backbone": {"name": "painn"}, "cutoff": 5.0},
            "branches": {"small": {"store": "/a"}, "large": {"store": "/b"}},
            "batch": {"edges": 40_000},
        }
    )
    facts = {"small": {"structures": 300, "atoms": 900}, "large": {"structures": 100, "atoms": 10_000}}
    assert batch_of(config, facts, ranks=4).edges == pytest.approx(10_000, abs=2)
    atoms = config.model_copy(update={"batch": BatchBudget(atoms=4000)})
    assert batch_of(atoms, facts, ranks=4).atoms == pytest.approx(1000, abs=1)
    few = config.model_copy(update={"batch": BatchBudget(edges=8)})
    assert batch_of(few, facts, ranks=4).atoms == 100, "one structure, whatever the budget"


def test_trials_without_a_validation_label_are_told_what_they_lack(tmp_path: Path) -> None:
    made = allocation(tmp_path, lambda name, config, folder: trained(folder, config, None), {"evaluations": 2})  # type: ignore[arg-type]
    result = run(made)
    assert (result.status, result.cause) == (Status.FAILED, Cause.BAD_CONFIG)
    assert "splits.validation" in result.result["trials"][0]["message"]
