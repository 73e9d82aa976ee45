"""Successive halving: who goes on, and what a stopped trial leaves behind."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from stage_allocation import FakeAllocation, MemoryRecord, data_receipt, following, request, trained

from model.config import TrainConfig
from model.outcome import Outcome, Status, write_bytes
from workflow.campaign import stage_kind
from workflow.search.stopping import Halving, best_until

SPEC: dict[str, Any] = {
    "backbone": "painn",
    "evaluations": 3,
    "stopping": "halving",
    "trial": {"nodes": 1, "epochs": 9},
    "space": {"hidden": {"choices": [8, 16, 32]}},
    "initial": [{"hidden": 8}, {"hidden": 32}, {"hidden": 16}],
}


def write_curve(folder: Path, objectives: list[float]) -> None:
    lines = [json.dumps({"epoch": i, "objective": value}) + "\n" for i, value in enumerate(objectives, start=1)]
    write_bytes(folder / "metrics.jsonl", "".join(lines).encode())


def train_until_stopped(name: str, config: TrainConfig, folder: Path) -> Outcome:
    """Train as a model of hidden width h does here: objective h at every epoch; a step waits for the loop to look."""
    objective = float(config.model.backbone["hidden"])
    for epoch in range(1, config.epochs + 1):
        write_curve(folder, [objective] * epoch)
        if epoch in (1, 3):
            give_up = time.monotonic() + 2.2
            while not (folder / "stop").exists() and time.monotonic() < give_up:
                time.sleep(0.01)
        if (folder / "stop").exists():
            return trained(folder, config, objective, epochs=epoch)
    return trained(folder, config, objective)


def allocation(campaign: Path, behaviour: Any = train_until_stopped, **spec: Any) -> FakeAllocation:
    inputs = {"data": data_receipt(campaign, "gfn1", "emt")}
    return FakeAllocation(request(campaign, "search", "hpo", {**SPEC, **spec}, inputs=inputs), campaign, behaviour, num_nodes=1)


def test_rungs_divide_the_epochs() -> None:
    assert Halving(9).rungs == (1, 3)
    assert Halving(20).rungs == (1, 3, 7)
    assert Halving(1).rungs == ()
    assert Halving(16, eta=2).rungs == (1, 2, 4, 8)


def test_the_best_third_goes_on() -> None:
    rule = Halving(9)
    assert rule.goes_on(5.0, [])
    assert not rule.goes_on(5.0, [1.0]) and rule.goes_on(5.0, [6.0])
    assert not rule.goes_on(5.0, [1.0, 6.0])
    assert rule.goes_on(5.0, [1.0, 6.0, 7.0]) and not rule.goes_on(5.0, [1.0, 2.0, 7.0])


def test_the_curve_counts_only_when_the_rung_is_reached(tmp_path: Path) -> None:
    assert best_until(tmp_path, 1) is None
    write_curve(tmp_path, [3.0, 1.0, 2.0])
    assert [best_until(tmp_path, epochs) for epochs in (1, 2, 3, 4)] == [3.0, 1.0, 1.0, None]


def test_a_trial_that_falls_behind_is_stopped_and_told_with_what_it_reached(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("workflow.search.feasibility.needed_gb", lambda *_: 0.0)
    made = allocation(tmp_path)
    result = stage_kind("hpo").work(made)
    rows = result.result["trials"]
    assert result.status is Status.DONE
    assert [row["status"] for row in rows] == ["done", "stopped", "stopped"]
    assert [row["epochs"] for row in rows] == [9, 1, 1]
    assert [row["objective"] for row in rows] == [8.0, 32.0, 16.0]
    assert result.result["best"] == 1 and {each.role for each in result.outputs} == {"checkpoint:1"}
    assert {e["trial"]: e["value"] for e in made.record.lines if e["event"] == "tell"} == {1: 8.0, 2: 32.0, 3: 16.0}
    assert [(e["trial"], e["epochs"], e["goes_on"]) for e in made.record.lines if e["event"] == "rung"] == [
        (1, 1, True),
        (1, 3, True),
        (2, 1, False),
        (3, 1, False),
    ]
    assert made.facts["trials"]["stopped"] == 2


def test_a_trial_that_was_stopped_when_the_agent_died_is_not_run_again(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("workflow.search.feasibility.needed_gb", lambda *_: 0.0)
    made = allocation(tmp_path)
    stage_kind("hpo").work(made)
    lines = list(made.record.lines)
    cut = next(i for i, e in enumerate(lines) if e["event"] == "rung" and e["trial"] == 2)
    again = FakeAllocation(following(made), tmp_path, train_until_stopped, num_nodes=1, record=MemoryRecord(lines[: cut + 1]))
    rows = stage_kind("hpo").work(again).result["trials"]
    assert list(again.configs) == ["trial-3"]
    assert (rows[1]["status"], rows[1]["objective"], rows[1]["epochs"]) == ("stopped", 32.0, 1)


def test_without_a_rule_nothing_is_stopped(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("workflow.search.feasibility.needed_gb", lambda *_: 0.0)
    rows = stage_kind("hpo").work(allocation(tmp_path, lambda n, c, f: trained(f, c, 1.0), stopping="none")).result["trials"]
    assert [row["status"] for row in rows] == ["done"] * 3
