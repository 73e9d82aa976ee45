"""Fine-tuning on scalars, classes, and energies without forces: real trainings on small stores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import training_runs as runs
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from stores import SPLITS, emt_store
from structures import store_of
from tasks import class_store, crystals, scalar_store

from model import checkpoint, registry
from model.config import BlendConfig, ConvertConfig, EvaluateConfig, FinetuneConfig, TrainConfig
from model.data import convert
from model.data.miniature.base import miniature
from model.data.miniature.structures import make
from model.data.store import Store
from model.inference import blend
from model.inference.calculator import ModelCalculator
from model.inference.predictor import Predictor
from model.outcome import CampaignError, Outcome, Status
from model.parallel import Ranks
from model.training import evaluate, finetune, trainer
from model.training.branches import read_split

KINDS = ("scalar", "class")


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, structures = tmp_path_factory.mktemp("stores"), crystals(60)
    return {
        "scalar": scalar_store(folder / "scalar", "scalar", structures),
        "class": class_store(folder / "class", "class", structures),
        "copper": emt_store(folder, "copper", ("Cu", "Ni"), 40),
    }


@pytest.fixture(scope="module")
def trained(stores: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    assert trainer.run(TrainConfig.model_validate(fields_of(stores, "copper", epochs=3)), folder, Ranks()).status is Status.DONE
    return folder / "checkpoints" / "best"


def fields_of(stores: dict[str, Path], task: str, **changes: Any) -> dict[str, Any]:
    return runs.config({task: stores[task]}, **changes)


def tune(fields: dict[str, Any], folder: Path) -> Outcome:
    folder.mkdir(exist_ok=True)
    return finetune.run(FinetuneConfig.model_validate(fields), folder, Ranks())


def numbers(metrics: dict[str, Any]) -> dict[str, float]:
    return {key: value for key, value in metrics.items() if isinstance(value, int | float)}


@pytest.mark.parametrize(("kind", "precision"), [("scalar", "fp64"), ("class", "bf16")])
def test_a_learnable_target_is_learned(kind: str, precision: str, stores: dict[str, Path], tmp_path: Path) -> None:
    optimizer = {"learning_rate": 0.01, "ema": 0.9}
    outcome = tune(
        fields_of(stores, kind, strategy="scratch", epochs=15, optimizer=optimizer, precision=precision), tmp_path / "run"
    )
    assert outcome.status is Status.DONE
    found = outcome.result["test"][kind]
    assert (found["kind"], found["num_targets"]) == (kind, found["num_structures"])
    if kind == "scalar":
        assert found["unit"] == "eV/atom"
        assert found["target_mae"] < 0.5 * min(found["target_mean_baseline"], found["target_composition_baseline"]), found
        sigma = checkpoint.read_meta(tmp_path / "run" / "checkpoints" / "best").statistics.targets[kind].spread
        assert outcome.result["test_objective"] == pytest.approx(found["target_mae"] / sigma)
    else:
        assert found["accuracy"] > found["majority_accuracy"] + 0.1 and found["roc_auc"] > 0.9, found
        assert outcome.result["test_objective"] == 1.0 - found["roc_auc"]
    last = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()][-1]
    assert last["train"][kind]["kind"] == kind
    assert last["objective"] >= outcome.result["objective"], "the best epoch was taken"


@pytest.mark.parametrize("kind", KINDS)
def test_strategies_train_a_new_head_and_keep_what_they_should(
    kind: str, trained: Path, stores: dict[str, Path], tmp_path: Path
) -> None:
    for strategy in ("frozen", "unfrozen"):
        outcome = tune(fields_of(stores, kind, strategy=strategy, epochs=2, checkpoint=trained), tmp_path / strategy)
        assert outcome.status is Status.DONE and f"fresh heads for {kind}" in outcome.message
    before = checkpoint.load_model(trained)[0].backbone.state_dict()
    for strategy, kept in (("frozen", True), ("unfrozen", False)):
        after, meta = checkpoint.load_model(tmp_path / strategy / "checkpoints" / "last", averaged=False)
        assert all(torch.equal(before[name], tensor) for name, tensor in after.backbone.state_dict().items()) == kept
        assert list(after.heads) == [kind] and meta.references == {kind: None}
        fresh = checkpoint.MultiTaskModel(meta.spec, meta.branches, meta.statistics).double()
        assert not any(torch.equal(a, b) for a, b in zip(fresh.heads.parameters(), after.heads.parameters(), strict=True))


@pytest.mark.parametrize("kind", ["scalar", pytest.param("class", marks=pytest.mark.slow)])
def test_a_killed_run_ends_bit_for_bit_as_the_uninterrupted_one(kind: str, stores: dict[str, Path], tmp_path: Path) -> None:
    fields = fields_of(stores, kind, strategy="scratch", epochs=2, checkpoint_every_s=0.001, precision="fp32")
    assert runs.run(tmp_path / "plain", fields, 2, command="finetune").status is Status.DONE
    assert runs.start(tmp_path / "kill", fields, 2, command="finetune", kill_at=14).wait(120) != 0
    last = tmp_path / "kill" / "checkpoints" / "last"
    assert (last / "meta.json").exists() and len(runs.steps(tmp_path / "kill")) < len(runs.steps(tmp_path / "plain"))
    end = runs.run(tmp_path / "end", fields | {"resume": str(last)}, 2, command="finetune")
    assert end.status is Status.DONE and "not bit-identical" not in end.message
    mine, theirs = runs.tensors(tmp_path / "plain"), runs.tensors(tmp_path / "end")
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert runs.standing(tmp_path / "plain") == runs.standing(tmp_path / "end")


@pytest.mark.parametrize("kind", KINDS)
def test_ranks_evaluation_and_the_predictor_agree(kind: str, stores: dict[str, Path], tmp_path: Path) -> None:
    outcome = tune(fields_of(stores, kind, strategy="scratch", epochs=2), tmp_path / "run")
    best = tmp_path / "run" / "checkpoints" / "best"
    question = {"checkpoint": str(best), "branches": {kind: {"store": str(stores[kind])}}, "splits": SPLITS.model_dump()}
    several = runs.run(tmp_path / "ranks", question | {"precision": "fp64", "batch": 3}, 3, command="evaluate").result
    assert numbers(several["metrics"][kind]) == pytest.approx(numbers(outcome.result["test"][kind]), rel=1e-12)
    assert several["objective"] == pytest.approx(outcome.result["test_objective"], rel=1e-12)
    sample, others = (json.loads((tmp_path / name / "parity.json").read_text()) for name in ("run", "ranks"))
    assert sample == others
    assert sample["units"].get("targets") == ({kind: "eV/atom"} if kind == "scalar" else None)

    block = read_split(stores[kind], SPLITS, "test")
    predicted = Predictor.load(best).predict(block, kind, atoms=40)
    assert predicted.target is not None and np.isnan(predicted.energy).all() and np.isnan(predicted.forces).all()
    pairs = np.array(sample["branches"][kind]["targets" if kind == "scalar" else "probabilities"])
    assert pairs == pytest.approx(np.column_stack([block.target, predicted.target]), rel=1e-5, abs=1e-6)
    if kind == "scalar":
        expected = outcome.result["test"][kind]["target_mae"]
        assert np.abs(predicted.target - block.target).mean() == pytest.approx(expected, rel=1e-12)


def test_energies_without_forces_count_alone(tmp_path: Path) -> None:
    """Forces leave no number behind: neither zero nor not-a-number; the loss is that of energies."""
    frames = crystals(40, seed=4)
    for k, atoms in enumerate(frames):
        atoms.info["name"] = f"n{k}"
        atoms.calc = SinglePointCalculator(atoms, energy=float(atoms.get_volume() + len(atoms)))
    store = store_of(tmp_path / "task", frames, identity="name", splits=SPLITS).folder
    fields = runs.config({"task": store}, strategy="scratch", epochs=1, batch=1000, loss={"energy": 2.0, "forces": 50.0})
    outcome = tune(fields, tmp_path / "run")
    assert outcome.status is Status.DONE
    for split, errors in (("validation", 3), ("test", 4)):  # the largest error is kept where the result is told
        found = outcome.result[split]["task"]
        assert [value for key, value in found.items() if key.startswith("force_")] == [None] * errors
        assert found["num_force_components"] == 0 and found["num_energies"] == found["num_structures"] > 0
    meta = checkpoint.read_meta(tmp_path / "run" / "checkpoints" / "best")
    sigma = 1000 * meta.state["scales"]["task"]["sigma_energy"]
    assert outcome.result["test_objective"] == pytest.approx(outcome.result["test"]["task"]["energy_mae_mev_per_atom"] / sigma)
    first = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])["train"]
    assert first["task"]["force_mae_mev_per_angstrom"] is None
    assert first["loss"] == pytest.approx(2.0 * first["task"]["energy_mae_mev_per_atom"] / 1000, rel=1e-12)
    assert json.loads((tmp_path / "run" / "parity.json").read_text())["branches"]["task"]["forces"] == []


def converted(folder: Path, reader: str, count: int, **options: Any) -> Path:
    """Write the miniature of a reader as these options want it, and convert it with them."""
    config, writer = registry.reader(reader).Config(**options), miniature(reader)
    (folder / "source").mkdir(parents=True)
    writer.write(folder / "source", make(writer.FAMILY, count, seed=3), config)
    about = {"name": reader, **options}
    job = ConvertConfig(name=reader, reader=about, sources=(folder / "source",), store="store", splits=SPLITS)
    assert convert.run(job, folder, Ranks()).status is Status.DONE
    return folder / "store"


@pytest.mark.parametrize(("target", "unit"), [("gap", "eV"), ("mu", "Debye")])
def test_a_property_of_qm9_that_is_no_energy_is_fine_tuned_on(target: str, unit: str, tmp_path: Path) -> None:
    store = converted(tmp_path / "qm9", "qm9", 40, target=target)
    assert Store.open(store).target == ("scalar", unit) and not Store.open(store).has_energies
    outcome = tune(runs.config({"task": store}, strategy="scratch", epochs=1), tmp_path / "run")
    assert outcome.status is Status.DONE
    found = outcome.result["test"]["task"]
    assert (found["kind"], found["unit"]) == ("scalar", unit)
    values = Store.open(store).load().target
    known = checkpoint.read_meta(tmp_path / "run" / "checkpoints" / "best").statistics.targets["task"]
    assert values.min() < known.mean < values.max()


def test_a_target_beside_energies_is_for_fine_tuning_and_energies_for_pre_training(tmp_path: Path) -> None:
    store = converted(tmp_path / "alexandria", "alexandria", 40, target="e_form")
    assert Store.open(store).target == ("scalar", "eV/atom") and Store.open(store).has_energies
    fields = runs.config({"task": store}, epochs=1)
    (tmp_path / "run").mkdir()
    outcome = trainer.run(TrainConfig.model_validate(fields), tmp_path / "run", Ranks())
    assert outcome.status is Status.DONE
    assert outcome.result["metrics"]["task"]["num_energies"] == outcome.result["metrics"]["task"]["num_structures"] > 0
    meta = checkpoint.read_meta(tmp_path / "run" / "checkpoints" / "best")
    assert not meta.statistics.targets and meta.references["task"] is not None
    question = {"checkpoint": tmp_path / "run" / "checkpoints" / "best", "branches": {"task": {"store": store}}, "splits": SPLITS}
    tested = evaluate.run(EvaluateConfig.model_validate(question | {"precision": "fp64"}), tmp_path, Ranks())
    assert tested.result["metrics"]["task"]["num_energies"] > 0
    tuned = tune(runs.config({"task": store}, strategy="scratch", epochs=1), tmp_path / "tuned")
    assert tuned.result["test"]["task"]["kind"] == "scalar"


def test_what_has_no_energies_is_no_pre_training(stores: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(CampaignError, match="labelled by a class, not by energies"):
        trainer.run(TrainConfig.model_validate(fields_of(stores, "class")), tmp_path, Ranks())


def test_a_name_that_meant_something_else_is_refused(trained: Path, stores: dict[str, Path], tmp_path: Path) -> None:
    fields = runs.config({"copper": stores["scalar"]}, strategy="unfrozen", checkpoint=trained)
    with pytest.raises(CampaignError, match="copper predicts a scalar here and an energy in the checkpoint"):
        tune(fields, tmp_path / "run")


def test_a_task_without_validation_labels_is_refused_before_it_trains(stores: dict[str, Path], tmp_path: Path) -> None:
    bare = store_of(tmp_path / "bare", [Atoms("Cu2", positions=[[0, 0, 0], [2.2 + k / 50, 0, 0]]) for k in range(9)])
    with pytest.raises(CampaignError, match="no validation to choose an epoch by"):
        tune(runs.config({"bare": bare.folder}, strategy="scratch", splits=SPLITS), tmp_path / "run")


def test_what_predicts_no_energy_neither_relaxes_nor_screens(stores: dict[str, Path], tmp_path: Path) -> None:
    tune(fields_of(stores, "class", strategy="scratch", epochs=1), tmp_path / "run")
    best = tmp_path / "run" / "checkpoints" / "best"
    with pytest.raises(CampaignError, match="predict no energy: class"):
        ModelCalculator(best)
    question = {"checkpoint": best, "branches": {"class": {"store": stores["scalar"]}}, "splits": SPLITS, "precision": "fp64"}
    with pytest.raises(CampaignError, match="labelled by a scalar in eV/atom, and branch 'class' predicts a class"):
        evaluate.run(EvaluateConfig.model_validate(question), tmp_path, Ranks())
    fields = {"checkpoint": best, "branches": {"class": {"store": stores["class"]}}, "splits": SPLITS, "epochs": 1}
    with pytest.raises(CampaignError, match="no energies to learn branch weights from"):
        blend.run(BlendConfig.model_validate(fields), tmp_path, Ranks())
