"""The same training on other ranks: losses and weights agree to rounding."""

from __future__ import annotations

from pathlib import Path

import pytest
import training_runs as runs
from stores import emt_store

from model import checkpoint


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
    outcome = runs.run(folder, runs.config(stores), 1)
    assert outcome.status == "done", outcome
    assert outcome.result["steps"] >= 20
    return folder


LAYOUTS = [("data", 2), ("branch", 2), pytest.param("data", 4, marks=pytest.mark.slow), ("branch", 3)]


@pytest.mark.parametrize(("layout", "ranks"), [*LAYOUTS, pytest.param("branch", 4, marks=pytest.mark.slow)])
def test_other_layouts_train_the_same_model(alone: Path, stores: dict[str, Path], tmp_path: Path, layout: str, ranks: int):
    outcome = runs.run(tmp_path / "run", runs.config(stores, layout=layout), ranks)
    assert outcome.status == "done", outcome
    holders = outcome.result["layout"]
    assert (layout == "data") == all(held == list(range(ranks)) for held in holders.values())
    expected, found = runs.tensors(alone), runs.tensors(tmp_path / "run")
    assert expected.keys() == found.keys()
    for name in expected:
        assert (expected[name] - found[name]).abs().max() <= 1e-10 * expected[name].abs().max(), name
    for mine, theirs in zip(runs.standing(alone)["history"], runs.standing(tmp_path / "run")["history"], strict=True):
        assert mine["train"]["loss"] == pytest.approx(theirs["train"]["loss"], rel=1e-10)
        assert mine["objective"] == pytest.approx(theirs["objective"], rel=1e-10)


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
