"""Batches filled to a budget: the same training on any ranks, and one that goes on elsewhere draws what was left."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import training_runs as runs
from stores import emt_store

from model.outcome import Status

EDGES: dict[str, Any] = {"batch": {"edges": 160}}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("stores")
    names = {"copper": ("Cu", "Ni"), "alloy": ("Al", "Cu"), "noble": ("Au", "Ag")}
    return {n: emt_store(folder, n, elements, 40 - 10 * k, seed=k) for k, (n, elements) in enumerate(names.items())}


def fields_of(stores: dict[str, Path], **changes: Any) -> dict[str, Any]:
    """Return a training by edges in which one branch is oversampled, one has a share and one what is left."""
    fields = runs.config(stores, **EDGES, **changes)
    keys = {"copper": {}, "alloy": {"draws": 45}, "noble": {"share": 0.3}}
    return fields | {"branches": {name: {"store": str(stores[name])} | keys[name] for name in stores}}


@pytest.fixture(scope="module")
def alone(stores: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone") / "run"
    outcome = runs.run(folder, fields_of(stores), 1)
    assert outcome.status is Status.DONE, outcome
    assert outcome.result["steps"] >= 12
    assert outcome.result["training"]["batch"] == {"edges": 160, "atoms": None}
    return folder


def require_equal(expected: Path, found: Path) -> None:
    """Weights, moments, losses and counts agree: to rounding, and the counts exactly."""
    mine, theirs = runs.tensors(expected), runs.tensors(found)
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert (tensor - theirs[name]).abs().max() <= 1e-10 * tensor.abs().max(), name
    before, after = runs.standing(expected), runs.standing(found)
    assert [before[key] for key in ("epoch", "updates", "warm")] == [after[key] for key in ("epoch", "updates", "warm")]
    for one, other in zip(before["history"], after["history"], strict=True):
        assert one["step"] == other["step"] and one["learning_rate"] == other["learning_rate"]
        assert one["train"]["loss"] == pytest.approx(other["train"]["loss"], rel=1e-10)
        assert one["objective"] == pytest.approx(other["objective"], rel=1e-10)


@pytest.mark.parametrize(
    ("ranks", "changes"),
    [
        (2, {"node_variable": "PMI_RANK"}),
        (3, {"micro_batch": 2, "width": 1}),
        (2, {"layout": "branch", "node_variable": "PMI_RANK"}),
        (3, {"layout": "branch"}),
        pytest.param(2, {"shard": True}, marks=pytest.mark.slow),
    ],
)
def test_other_ranks_train_the_same_model(
    alone: Path, stores: dict[str, Path], tmp_path: Path, ranks: int, changes: dict[str, Any]
) -> None:
    outcome = runs.run(tmp_path / "run", fields_of(stores, **changes), ranks)
    assert outcome.status is Status.DONE, outcome
    require_equal(alone, tmp_path / "run")


@pytest.mark.parametrize(("before", "after", "layout"), [(1, 3, "data"), (2, 1, "branch"), (3, 2, "branch")])
def test_a_training_cut_within_an_epoch_draws_what_was_left_on_other_ranks(
    alone: Path, stores: dict[str, Path], tmp_path: Path, before: int, after: int, layout: str
) -> None:
    """Whatever was drawn twice or not at all would change every later weight."""
    fields = fields_of(stores, checkpoint_every_s=0.001, layout=layout)
    process = runs.start(tmp_path / "cut", fields, before)
    deadline = time.monotonic() + 60
    while len(runs.steps(tmp_path / "cut")) < 4 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)
    left = runs.standing(tmp_path / "cut")
    assert left["draws"] > 0 or left["epoch"] > 0
    resumed = fields | {"resume": str(tmp_path / "cut" / "checkpoints" / "last")}
    outcome = runs.run(tmp_path / "end", resumed, after)
    assert outcome.status is Status.DONE, outcome
    require_equal(alone, tmp_path / "end")


def test_structures_over_the_budget_are_told(stores: dict[str, Path], tmp_path: Path) -> None:
    fields = fields_of(stores, epochs=1) | {"batch": {"atoms": 8}}
    outcome = runs.run(tmp_path / "run", fields, 1)
    assert outcome.status is Status.DONE, outcome
    assert "structures of copper alone exceed a batch's budget of 8: each is a batch of its own" in outcome.message


def test_another_budget_is_another_training(alone: Path, stores: dict[str, Path], tmp_path: Path) -> None:
    other = fields_of(stores, resume=str(alone / "checkpoints" / "last")) | {"batch": {"edges": 170}}
    outcome = runs.run(tmp_path / "run", other, 1)
    assert (outcome.status, outcome.cause) == ("failed", "bad_config")
    assert "batch is {'edges': 170" in outcome.message and "init" in outcome.remedy
