"""Stages carried out by real agents: a search that is stopped and killed goes on, is promoted, and trained further."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stage_world import StageWorld, as_json, make_world

from model.config import TrainConfig, load
from model.outcome import Status, read_json, read_outcome
from workflow.campaign import stage_kind
from workflow.chained import read_chain
from workflow.receipt import Receipt, read_receipt, verify
from workflow.rundir import AttemptDir
from workflow.stages.promote import PromoteSpec

SEARCH: dict[str, Any] = {
    "backbone": "painn",
    "needs": ["data"],
    "evaluations": 3,
    "links": 4,
    "keep": 2,
    "seed": 3,
    "trial": {"nodes": 1, "epochs": 3},
    "space": {
        "hidden": {"low": 8, "high": 24},
        "learning_rate": {"low": 1e-3, "high": 1e-1, "log": True},
        "layers": 1,
        "radial": 4,
        "head_hidden": 8,
    },
    "model": {"cutoff": 4.0},
    "training": {"batch": 4, "precision": "fp64", "checkpoint_every_s": 0.01, "progress_every_s": 0.05},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> StageWorld:
    return make_world(tmp_path_factory.mktemp("stages"))


def until(condition: Callable[[], object], agent: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < give_up and agent.poll() is None, "it did not come about"
        time.sleep(0.02)


def steps(attempt: AttemptDir, task: str) -> int:
    log = attempt.tasks / task / "steps.log"
    return len(log.read_text().splitlines()) if log.exists() else 0


def lines(attempt: AttemptDir, event: str) -> list[dict[str, Any]]:
    return [each for each in read_chain(attempt.record).events if each["event"] == event]


def finish(world: StageWorld, attempt: AttemptDir, agent: subprocess.Popen[bytes]) -> Receipt:
    agent.wait(timeout=120)
    receipt = read_receipt(attempt.receipt)
    assert receipt is not None, attempt.log.read_text()
    world.receipts[receipt.stage] = receipt
    return receipt


@pytest.mark.timeout(600)
def test_a_search_stopped_and_killed_is_promoted_and_trained_further(world: StageWorld) -> None:
    _convert(world)
    _stopped_in_order(world)
    _killed(world)
    _carried_to_its_end(world)
    _promoted(world)
    _trained_further(world)
    _fine_tuned(world)
    _compared_by_the_tasks_own_rules(world)
    _blended_and_screened(world)


def _convert(world: StageWorld) -> None:
    receipt = world.run("data", "convert")
    assert receipt.status is Status.DONE, as_json(receipt)
    assert {each.role for each in receipt.outputs} == {"store:noble", "store:mixed", "store:task", "store:wide"}
    assert receipt.result["branches"]["noble"]["structures"] == 60


def _stopped_in_order(world: StageWorld) -> None:
    """A signal advances the deadline: both trials leave a checkpoint, and none has cost a trial."""
    attempt = world.attempt("search", "hpo", **SEARCH)
    agent = world.start(attempt)
    until(lambda: min(steps(attempt, "trial-1"), steps(attempt, "trial-2")) > 2, agent)
    os.kill(agent.pid, signal.SIGUSR1)
    receipt = finish(world, attempt, agent)
    assert receipt.status is Status.PARTIAL, as_json(receipt)
    assert [each["status"] for each in receipt.result["trials"]] == ["interrupted"] * 2
    outcome = read_outcome(attempt.tasks / "trial-1")
    assert outcome is not None and (outcome.status, outcome.world_size) == (Status.PARTIAL, 1)


def _killed(world: StageWorld) -> None:
    """The agent dies in the middle of the resumed trials; their ranks die with it."""
    attempt = world.attempt("search", "hpo", link=2, **SEARCH)
    agent = world.start(attempt)
    until(lambda: min(steps(attempt, "trial-1-2"), steps(attempt, "trial-2-2")) > 2, agent)
    agent.kill()
    agent.wait()
    assert read_receipt(attempt.receipt) is None
    resumed = {each["trial"]: each["resume"] for each in lines(attempt, "task")}
    assert resumed[1].endswith("link-1/attempt-1/run/tasks/trial-1/checkpoints/last")
    world.receipts.pop("search")


def _carried_to_its_end(world: StageWorld) -> None:
    attempt = world.attempt("search", "hpo", link=3, **SEARCH)
    receipt = finish(world, attempt, world.start(attempt))
    assert receipt.status is Status.DONE, as_json(receipt)
    trials, note = receipt.result["trials"], receipt.result["note"]
    assert note == "" and [each["status"] for each in trials] == ["done"] * 3
    assert [each["interrupted"] for each in trials] == [2, 2, 0]
    assert [each["trial"] for each in lines(attempt, "lost")] == [1, 2]
    assert [len(each["tasks"]) for each in trials] == [3, 3, 1]
    assert all(each["epochs"] == 3 and each["objective"] > 0 for each in trials)
    assert len({each["config"]["learning_rate"] for each in trials}) == 3
    verify(world.campaign, receipt.outputs)
    heartbeat = read_json(attempt.heartbeat)
    assert heartbeat["progress"]["trials"] == {"total": 3, "done": 3, "running": 0, "interrupted": 0, "stopped": 0, "failed": {}}
    assert heartbeat["progress"]["best"]["trial"] == receipt.result["best"]


def _promoted(world: StageWorld) -> None:
    spec = PromoteSpec(kind="promote", needs=("search",), top=2)
    result = stage_kind("promote").decide(spec, "best", world.receipts, world.campaign)
    assert result.status is Status.DONE
    objectives = [each["objective"] for each in result.result["selected"]]
    assert objectives == sorted(each["objective"] for each in world.receipts["search"].result["trials"])[:2]
    world.receipts["best"] = Receipt("", "best", 1, 1, result.status, outputs=result.outputs, result=result.result)


def _trained_further(world: StageWorld) -> None:
    """The best model goes on from its checkpoint on both nodes; its second link resumes the first one exactly.

    With a learning rate of nearly nothing, the promoted weights must give the promoted objective again.
    """
    still = {"learning_rate": 1e-12, "schedule": "constant"}
    keys = {"needs": ["best"], "epochs": 3, "links": 2, "training": {"checkpoint_every_s": 0.01, "batch": 8, "optimizer": still}}
    attempt = world.attempt("train", "train", **keys)
    agent = world.start(attempt)
    until(lambda: steps(attempt, "train") > 2, agent)
    os.kill(agent.pid, signal.SIGUSR1)
    assert finish(world, attempt, agent).status is Status.PARTIAL
    config = load("train", attempt.tasks / "train" / "config.yaml")
    assert isinstance(config, TrainConfig) and config.resume is None and config.init is not None
    receipt = world.run("train", "train", link=2, **keys)
    assert receipt.status is Status.DONE and receipt.result["epochs"] == 3, as_json(receipt)
    second = AttemptDir(world.campaign / world.previous["train"][1])
    outcome = read_outcome(second.tasks / "train")
    assert outcome is not None and (outcome.world_size, outcome.hosts) == (2, ("node1", "node2"))
    total = steps(attempt, "train") + steps(second, "train")
    assert total == outcome.result["steps"], "no step was made twice, none was lost"
    assert receipt.result["objective"] == pytest.approx(world.receipts["best"].result["selected"][0]["objective"], rel=1e-6)


def _fine_tuned(world: StageWorld) -> None:
    """Two tasks, one of energies and forces and one of classes, two ways each."""
    keys: dict[str, Any] = {"task": ["task", "wide"], "strategies": ["scratch", "unfrozen"], "training": {"batch": 8}}
    receipt = world.run("tune", "finetune", needs=["train"], epochs=2, **keys)
    assert receipt.status is Status.DONE, as_json(receipt)
    rows = {(each["task"], each["strategy"]): each for each in receipt.result["table"]}
    assert set(rows) == {(task, strategy) for task in keys["task"] for strategy in keys["strategies"]}
    for strategy in keys["strategies"]:
        energy, wide = rows["task", strategy], rows["wide", strategy]
        assert energy["kind"] == "energy" and energy["force_mae_mev_per_angstrom"] > 0
        assert wide["kind"] == "class" and 0 <= wide["roc_auc"] <= 1 and wide["num_targets"] == wide["num_structures"] > 0
    roles = {f"{what}:{task}:{strategy}" for what in ("checkpoint", "parity") for task, strategy in rows}
    assert {each.role for each in receipt.outputs} == {"table", *roles}
    assert Path(world.campaign / next(each.path for each in receipt.outputs if each.role == "table")).is_file()


def _compared_by_the_tasks_own_rules(world: StageWorld) -> None:
    """A task that ships, with folds: the rate is chosen on validation by the first, the others are trained with it."""
    keys: dict[str, Any] = {"task": {"wide": "matbench_is_metal"}, "strategies": ["scratch", "unfrozen"]}
    keys |= {"precisions": ["fp64"], "learning_rates": [1e-2, 1e-9], "repeats": 2, "training": {"batch": 8}}
    receipt = world.run("compare", "finetune", needs=["train"], epochs=2, **keys)
    assert receipt.status is Status.DONE, as_json(receipt)
    rows, tried = receipt.result["table"], receipt.result["rates"]
    assert [(row["strategy"], row["repeat"]) for row in rows] == [(s, fold) for s in keys["strategies"] for fold in (0, 1)]
    for row in rows:
        known = {each["learning_rate"]: each["objective"] for each in tried if each["strategy"] == row["strategy"]}
        assert row["learning_rate"] == min(known, key=lambda rate: known[rate]) and len(known) == 2
        assert row["shared"]["tested"] == row["num_structures"] == 8, "a fold of forty"
    assert {row["precision"] for row in rows} == {"fp64"}
    roles = {f"checkpoint:wide:{s}-fp64{fold}" for s in keys["strategies"] for fold in ("", ":1")}
    assert {each.role for each in receipt.outputs} == {"table", *roles, *(f"parity:wide:{s}-fp64" for s in keys["strategies"])}


def _blended_and_screened(world: StageWorld) -> None:
    receipt = world.run("blend", "blend", needs=["train"], options={"hidden": [8], "epochs": 2})
    assert receipt.status is Status.DONE and {each.role for each in receipt.outputs} == {"blend"}, as_json(receipt)
    receipt = world.run("screen", "screen", needs=["train", "blend"], candidates="task", score="largest_force", top=5)
    assert receipt.status is Status.DONE and {each.role for each in receipt.outputs} == {"screened", "top"}, as_json(receipt)
    assert receipt.result["count"] == 40 and len(receipt.result["top"]) == 5
    verify(world.campaign, receipt.outputs)
