"""The same training on other ranks: losses and weights agree to rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import training_runs as runs
from stores import emt_store

from model import checkpoint
from model.outcome import Outcome


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three branches of other sizes, elements and label scales."""
    folder = tmp_path_factory.mktemp("stores")
    return {
        "copper": emt_store(folder, "copper", ("Cu", "Ni"), 50),
        "alloy": emt_store(folder, "alloy", ("Al", "Cu"), 40, seed=1, scale=2.0),
        "noble": emt_store(folder, "noble", ("Au", "Ag"), 30, seed=2),
    }


@pytest.fixture(scope="module")
def alone(stores: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone") / "run"
    outcome = runs.run(folder, runs.config(stores), 1, logged=True)
    assert outcome.status == "done", outcome
    assert outcome.result["steps"] == len(runs.losses(folder)) >= 20
    return folder


APART: dict[str, Any] = {"node_variable": "PMI_RANK"}
"""Each rank on a virtual node of its own: what a rank does not hold, it reads one-sided."""
LAYOUTS = [
    *(("data", 2, APART), ("branch", 2, {}), ("data", 3, {"micro_batch": 1, "width": 1}), ("branch", 3, {})),
    ("data", 4, APART | {"width": 2}),
    pytest.param("branch", 4, APART | {"width": 2}, marks=pytest.mark.slow),
    *(("data", 2, {"shard": True}), pytest.param("branch", 3, {"shard": True, "micro_batch": 1}, marks=pytest.mark.slow)),
]


@pytest.mark.parametrize(("layout", "ranks", "changes"), LAYOUTS)
def test_other_layouts_train_the_same_model(
    alone: Path, stores: dict[str, Path], tmp_path: Path, layout: str, ranks: int, changes: dict[str, Any]
) -> None:
    outcome = runs.run(tmp_path / "run", runs.config(stores, layout=layout, **changes), ranks, logged=True)
    assert outcome.status == "done", outcome
    assert runs.losses(tmp_path / "run") == pytest.approx(runs.losses(alone), rel=1e-10), "of every step"
    require_own_part(tmp_path / "run", outcome, layout, shard="shard" in changes)
    holders = outcome.result["layout"]
    assert (layout == "data") == all(held == list(range(ranks)) for held in holders.values())
    expected, found = runs.tensors(alone), runs.tensors(tmp_path / "run")
    assert expected.keys() == found.keys()
    for name in expected:
        assert (expected[name] - found[name]).abs().max() <= 1e-10 * expected[name].abs().max(), name
    for mine, theirs in zip(runs.standing(alone)["history"], runs.standing(tmp_path / "run")["history"], strict=True):
        assert mine["train"]["loss"] == pytest.approx(theirs["train"]["loss"], rel=1e-10)
        assert mine["objective"] == pytest.approx(theirs["objective"], rel=1e-10)


def require_own_part(folder: Path, outcome: Outcome, layout: str, *, shard: bool) -> None:
    """Each rank holds the backbone, or its rows of it, and its own heads: counted, as is what a step sends."""
    meta = checkpoint.read_meta(folder / "checkpoints" / "last")
    groups = checkpoint.load_groups(folder / "checkpoints" / "last", meta)
    ranks, holders = outcome.world_size, outcome.result["layout"]
    votes = 8 * (2 * len(holders) + 3)  # labels of each branch and three wishes, before each step
    tail = 8 * (1 + 2 * len(holders) + 1)  # loss, errors of each branch and the gradient's norm, with the last bucket
    held, sent = [], []
    for rank in range(ranks):
        whole = {name: state for name, state in groups.items() if rank in holders.get(name[5:], range(ranks))}
        words = {name: state.weights.numel() for name, state in whole.items()}
        shares = {name: len(holders.get(name[5:], range(ranks))) for name in whole}
        rows = sum(rows_of(shape, rank, ranks) for shape in groups["backbone"].shapes) if shard else words["backbone"]
        held.append(8 * 5 * (rows + sum(n for name, n in words.items() if name != "backbone")) + tail)
        sent.append(votes + tail + 8 * sum(n for name, n in words.items() if shares[name] > 1))
    found = outcome.result["by_rank"]
    assert found["state_bytes"] == [min(held), max(held)]
    assert found["bytes_reduced_per_step"] == [min(sent), max(sent)]
    plain = 8 * sum(state.weights.numel() for state in groups.values())
    assert found["plain_ddp_bytes_reduced_per_step"] == plain
    assert 0 < found["peak_memory_bytes"][0] <= found["peak_memory_bytes"][1]
    assert layout == "data" or max(sent) < plain + votes + tail


def rows_of(shape: tuple[int, ...], rank: int, ranks: int) -> int:
    """Return how many numbers of a parameter a rank has when its rows are divided as `torch.chunk` does."""
    parts = torch.empty(shape).chunk(ranks)
    return parts[rank].numel() if rank < len(parts) else 0


def test_a_branch_parallel_rank_holds_its_own_heads_only(stores: dict[str, Path], tmp_path: Path) -> None:
    """Each head's file is written once, and any layout's checkpoint loads whole."""
    runs.run(tmp_path / "run", runs.config(stores, layout="branch", epochs=1), 2)
    model, meta = checkpoint.load_model(tmp_path / "run" / "checkpoints" / "best")
    assert meta.branches == tuple(stores)
    assert set(meta.files) == {"backbone", *(f"head:{name}" for name in stores)}
    assert set(model.heads) == set(stores)


def test_a_checkpoint_of_one_layout_goes_on_in_another_and_says_so(alone: Path, stores: dict[str, Path], tmp_path: Path) -> None:
    runs.run(tmp_path / "half", runs.config(stores, epochs=1), 1)
    resumed = runs.config(stores, layout="branch", resume=str(tmp_path / "half" / "checkpoints" / "last"))
    outcome = runs.run(tmp_path / "run", resumed, 2)
    assert outcome.status == "done", outcome
    assert "not bit-identical" in outcome.message
    assert "ranks 1 → 2" in outcome.message


def test_data_that_a_node_cannot_hold_are_refused_before_they_are_read(stores: dict[str, Path], tmp_path: Path) -> None:
    outcome = runs.run(tmp_path / "run", runs.config(stores, node_memory_gb=1e-5), 2)
    assert (outcome.status, outcome.cause) == ("failed", "bad_config")
    assert "GB of data on" in outcome.message and "of whose 1e-05 GB they may take 80%" in outcome.message
    assert "max_neighbors" in outcome.remedy
