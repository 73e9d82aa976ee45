"""Branches beyond the training of a model: added to it later, compared across their labels, used wherever a model is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import training_runs as runs
from ase import Atoms
from stores import SPLITS, emt_store
from structures import store_of

from model import checkpoint
from model.config import EvaluateConfig, FinetuneConfig, ScreenConfig, TrainConfig
from model.inference import screen
from model.inference.calculator import ModelCalculator
from model.inference.predictor import Predictor
from model.outcome import Status
from model.parallel import Ranks
from model.training import evaluate, finetune, trainer
from model.training.branches import read_split


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two levels of theory on the same elements, of which one has three times the forces, and metals of their own."""
    folder = tmp_path_factory.mktemp("stores")
    return {
        "copper": emt_store(folder, "copper", ("Cu", "Ni"), 40),
        "other": emt_store(folder, "other", ("Cu", "Ni"), 40, seed=3, scale=3.0),
        "noble": emt_store(folder, "noble", ("Au", "Ag"), 30, seed=2),
    }


@pytest.fixture(scope="module")
def divided(stores: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of three branches on two ranks, each with heads of its own and its rows of the backbone."""
    folder = tmp_path_factory.mktemp("divided") / "run"
    fields = runs.config(stores, layout="branch", shard=True, epochs=12, optimizer={"learning_rate": 0.01, "ema": 0.9})
    outcome = runs.run(folder, fields, 2)
    assert outcome.status is Status.DONE, outcome
    return folder / "checkpoints" / "best"


def train(folder: Path, stores: dict[str, Path], **changes: Any) -> Path:
    folder.mkdir()
    assert trainer.run(TrainConfig.model_validate(runs.config(stores, **changes)), folder, Ranks()).status is Status.DONE
    return folder / "checkpoints" / "last"


def test_a_new_branch_joins_a_trained_model(stores: dict[str, Path], tmp_path: Path) -> None:
    """The trained branch answers as before at the start, and the new one's head is trained beside it from its own seed."""
    old = {"copper": stores["copper"]}
    trained = train(tmp_path / "old", old)
    still = {"learning_rate": 1e-300, "warmup_steps": 0}
    joined = train(tmp_path / "joined", old | {"noble": stores["noble"]}, init=trained, epochs=1, optimizer=still)
    (one, before), (two, after) = checkpoint.load_model(trained), checkpoint.load_model(joined)
    assert after.branches == ("copper", "noble") and after.references["copper"] == before.references["copper"]
    assert after.statistics.energy_scale[0] == before.statistics.energy_scale[0]
    kept = {name: value for name, value in one.state_dict().items() if name.startswith(("backbone.", "heads.copper."))}
    assert all(torch.equal(value, two.state_dict()[name]) for name, value in kept.items())
    block = read_split(stores["copper"], SPLITS, "test")
    answers = [Predictor.load(folder).predict(block, "copper", atoms=200) for folder in (trained, joined)]
    assert np.array_equal(answers[0].energy, answers[1].energy) and np.array_equal(answers[0].forces, answers[1].forces)
    further = train(tmp_path / "further", old | {"noble": stores["noble"]}, init=trained, epochs=3)
    new = [
        checkpoint.load_model(folder, averaged=False)[0].heads["noble"].energy.layers[0].weight for folder in (joined, further)
    ]
    assert not torch.equal(*new)


def test_other_heads_tell_how_far_labels_disagree(stores: dict[str, Path], divided: Path, tmp_path: Path) -> None:
    """Of two branches on the same metals one has three times the labels: each head is off by about twice the smaller forces."""
    question = {"checkpoint": divided, "branches": {n: {"store": s} for n, s in stores.items()}, "splits": SPLITS, "across": True}
    result = evaluate.run(EvaluateConfig.model_validate(question | {"precision": "fp64"}), tmp_path, Ranks()).result
    across, own = result["across"], result["metrics"]
    assert {name: set(found) for name, found in across.items()} == {name: set(stores) - {name} for name in stores}
    assert across["copper"]["noble"]["force_mae_mev_per_angstrom"] is None, "no element in common"
    assert across["copper"]["noble"]["num_energies"] == 0
    found = across["other"]["copper"]
    assert found["num_force_components"] == own["other"]["num_force_components"]
    assert found["force_mae_mev_per_angstrom"] > 2 * own["other"]["force_mae_mev_per_angstrom"]
    fields = question | {"checkpoint": str(divided), "precision": "fp64", "batch": 3, "splits": SPLITS.model_dump()}
    fields["branches"] = {name: {"store": str(store)} for name, store in stores.items()}
    several = runs.run(tmp_path / "ranks", fields, 2, command="evaluate").result["across"]
    assert several["other"]["copper"] == pytest.approx(found, rel=1e-12)


def test_what_divided_ranks_trained_serves_everywhere(stores: dict[str, Path], divided: Path, tmp_path: Path) -> None:
    """Fine-tuning, screening and ASE take the checkpoint of any mesh, and agree on what it predicts."""
    block = read_split(stores["copper"], SPLITS, "test")
    expected = Predictor.load(divided).predict(block, "copper", atoms=200)
    first = block.take(np.arange(1))
    atoms = Atoms(first.numbers, first.positions, cell=first.cell[0], pbc=first.pbc[0])
    atoms.calc = ModelCalculator(divided, branch="copper")
    assert atoms.get_forces() == pytest.approx(expected.forces[: len(atoms)], abs=1e-9)

    task = {"copper": stores["copper"]}
    fields = runs.config(task, checkpoint=divided, strategy="frozen", epochs=1, optimizer={"learning_rate": 1e-300})
    (tmp_path / "tuned").mkdir()
    tuned = finetune.run(FinetuneConfig.model_validate(fields), tmp_path / "tuned", Ranks())
    question = {"checkpoint": divided, "branches": {"copper": {"store": stores["copper"]}}, "splits": SPLITS, "precision": "fp64"}
    (tmp_path / "asked").mkdir()
    asked = evaluate.run(EvaluateConfig.model_validate(question), tmp_path / "asked", Ranks()).result["metrics"]["copper"]
    force = "force_mae_mev_per_angstrom"
    assert tuned.status is Status.DONE and tuned.result["test"]["copper"][force] == pytest.approx(asked[force], rel=1e-9)

    candidates = store_of(tmp_path / "candidates", [atoms.copy()]).folder
    (tmp_path / "screened").mkdir()
    fields = {"checkpoint": divided, "candidates": candidates, "score": "largest_force", "top": 1, "precision": "fp64"}
    screened = screen.run(ScreenConfig.model_validate(fields), tmp_path / "screened", Ranks())
    assert screened.status is Status.DONE and screened.result["count"] == 1
