"""What a rank of a trial must hold, foretold from what conversion and counting found: by layout, shards, sizes and edges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structures import store_of
from test_leakage import conformers

from model.config import TrainConfig
from model.data.counting import edge_counts
from model.feasibility import num_parameters
from model.outcome import Cause
from model.parallel import Ranks
from model.specs import ModelSpec
from workflow.search.feasibility import Load, batch_of, loads_of, needed_gb, refusal

WIDE: dict[str, Any] = {"backbone": {"name": "painn", "hidden": 300}, "head_layers": 4, "head_hidden": 2000}


def config(branches: int = 16, model: dict[str, Any] | None = None, **keys: Any) -> TrainConfig:
    names = {f"b{k}": {"store": f"/{k}", "share": 1 / branches} for k in range(branches)}
    return TrainConfig.model_validate({"model": model or WIDE, "branches": names, "batch": 16, "precision": "fp64", **keys})


def even(branches: int = 16) -> dict[str, dict[str, Any]]:
    return {f"b{k}": {"structures": 100, "atoms": 2000} for k in range(branches)}


def needed(ranks: int = 16, **keys: Any) -> float:
    made = config(**keys)
    return max(needed_gb(made, each, ranks) for each in loads_of(made, even(len(made.branches)), ranks))


def test_a_rank_is_charged_its_own_heads_and_its_part_of_the_backbone() -> None:
    branch, both = needed(layout="branch"), needed(layout="branch", shard=True)
    assert needed() > 8 * branch, "one head of sixteen, which are nearly all of this model"
    deep = {"model": {"backbone": {"name": "painn", "hidden": 1000, "layers": 6}}, "layout": "branch", "backend": "nccl"}
    assert needed(**deep, shard=True) < 0.75 * needed(**deep)
    spec = ModelSpec.model_validate(WIDE)
    words = 8 * (num_parameters(spec, 16) - num_parameters(spec, 1)) / 1e9
    assert needed() - branch > 4 * words, "weights, gradients and two moments of the heads that are elsewhere"
    assert both < needed(shard=True) < needed() * 1.1


def test_ranks_hold_several_branches_where_they_are_few_and_the_one_with_most_counts() -> None:
    facts = even(5)
    facts["b0"] = {"structures": 100, "atoms": 200_000}
    made = config(5, layout="branch")
    loads = loads_of(made, facts, 2)
    assert sorted(load.heads for load in loads) == [1, 4], "the dearest alone; the others together on the other rank"
    alone = next(load for load in loads if load.heads == 1)
    assert alone.batch.atoms == 4 * 2000  # its share of the batch: ⌈16/5⌉ of them
    assert all(isinstance(load, Load) and load.batch.atoms > 0 for load in loads_of(made, facts, 7))


def test_what_an_average_and_a_checkpoint_take_is_counted() -> None:
    plain, averaged = needed(), needed(optimizer={"ema": 0.9})
    spec = ModelSpec.model_validate(WIDE)
    words = 8 * num_parameters(spec, 16) / 1e9
    file = 8 * 1.2 * (num_parameters(spec, 2) - num_parameters(spec, 1)) / 1e9  # a head's, which is the largest
    assert averaged - plain == pytest.approx(2 * words + file), "itself, and its copy while a checkpoint is written"
    assert plain - needed(backend="nccl") == pytest.approx(3 * (words + file)), "copy and file are on the host"


def test_few_structures_on_a_rank_may_all_be_large() -> None:
    facts = {"b0": {"structures": 1000, "atoms": 20_000, "largest": 400}}
    batches = {batch: batch_of(config(1, batch=batch), facts, 4).atoms for batch in (4, 64, 40_000)}
    assert batches[4] == 80, "one that is three deviations above the mean"
    assert batches[64] == 320 + 3 * 20 * 8 / 4
    assert batches[40_000] == 200_000 + 3 * 20 * 200 / 4, "the more there are, the nearer to the mean"
    equal = {"b0": {"structures": 1000, "atoms": 20_000, "largest": 20}}
    assert batch_of(config(1, batch=4), equal, 4).atoms == 20
    pieces = batch_of(config(1, batch=64, micro_batch=2), facts, 4)
    assert pieces.atoms == np.ceil(2 * 20 + 3 * 20 * 2**0.5)


def test_counted_edges_are_taken_where_they_are_of_this_store_and_cutoff(tmp_path: Path) -> None:
    store = store_of(tmp_path, conformers(["CH4", "C6H6", "H2O"], 4))
    counts = edge_counts(store, 5.0, None, Ranks()).astype(float)
    facts = {"b0": {"structures": 12, "atoms": store.num_atoms, "largest": 12, "folder": store.folder}}
    guessed = batch_of(config(1, batch=40), {"b0": {**facts["b0"], "folder": tmp_path / "elsewhere"}}, 1).edges
    expected = min(40 * counts.mean() + 3 * counts.std() * 40**0.5, 40 * counts.max())
    assert batch_of(config(1, batch=40), facts, 1).edges == np.ceil(expected) != guessed
    assert batch_of(config(1, batch=40, model={**WIDE, "cutoff": 4.0}), facts, 1).edges != np.ceil(expected)
    (store.folder / "manifest.json").write_text((store.folder / "manifest.json").read_text() + " ")
    assert batch_of(config(1, batch=40), facts, 1).edges == guessed, "another store than was counted"


def test_a_model_that_takes_too_long_is_refused_as_by_check() -> None:
    slow = {"backbone": {"name": "mace", "hidden": 128, "max_ell": 3, "node_max_ell": 3, "correlation": 3}}
    found = refusal(config(1, slow), even(1), 1, 1e9, 1.0)
    assert found is not None and found[0] is Cause.BAD_CONFIG
    assert "200 atoms takes about" in found[1] and "more than 10 s is out of reason" in found[1]
    assert refusal(config(1, slow), even(1), 1, 1e9, None) is None, "nobody says how fast the device is"
    assert refusal(config(1, slow), even(1), 1, 1e9, 1800.0) is None
    small = refusal(config(1, slow), even(1), 1, 1e-3, 1800.0)
    assert small is not None and small[0] is Cause.OOM and "a device has 0.001 GB" in small[1]
