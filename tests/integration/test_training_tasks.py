"""Evaluation and fine-tuning on small real trainings; a rank that dies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import training_runs as runs
from ase import Atoms
from ase.calculators.emt import EMT
from stores import SPLITS, emt_store
from structures import labelled, store_of

from model import checkpoint
from model.config import EvaluateConfig, FinetuneConfig, TrainConfig
from model.data.store import Store
from model.outcome import CampaignError, Outcome, Status
from model.parallel import Ranks
from model.specs import Splits
from model.training import branches, evaluate, finetune, trainer
from model.training.parity import PARITY_FILE


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("stores")
    return {
        "copper": emt_store(folder, "copper", ("Cu", "Ni"), 60),
        "task": emt_store(folder, "task", ("Cu", "Ni"), 40, seed=5, scale=1.2),
    }


@pytest.fixture(scope="module")
def trained(stores: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    fields = runs.config({"copper": stores["copper"]}, epochs=25, optimizer={"learning_rate": 0.01, "ema": 0.9})
    assert trainer.run(TrainConfig.model_validate(fields), folder, Ranks()).status is Status.DONE
    return folder / "checkpoints" / "best"


def measured(trained: Path, stores: dict[str, Path], folder: Path, **changes: Any) -> dict[str, Any]:
    fields = {"checkpoint": trained, "branches": {"copper": {"store": stores["copper"]}}, "splits": SPLITS, "precision": "fp64"}
    return evaluate.run(EvaluateConfig.model_validate(fields | changes), folder, Ranks()).result


def halves_both(metrics: dict[str, Any]) -> bool:
    units = {"energy": "mev_per_atom", "force": "mev_per_angstrom"}
    return all(metrics[f"{kind}_mae_{unit}"] <= 0.5 * metrics[f"{kind}_baseline_{unit}"] for kind, unit in units.items())


def test_a_trained_model_beats_the_baselines_and_an_untrained_one_does_not(
    trained: Path, stores: dict[str, Path], tmp_path: Path
) -> None:
    seen = measured(trained, stores, tmp_path, split="train")
    assert halves_both(seen["metrics"]["copper"]), seen
    control = measured(trained, stores, tmp_path, split="train", untrained=True)
    assert not halves_both(control["metrics"]["copper"])
    assert control["objective"] > 2 * seen["objective"]


def test_validation_in_training_and_evaluation_agree(trained: Path, stores: dict[str, Path], tmp_path: Path) -> None:
    meta = checkpoint.read_meta(trained)
    result = measured(trained, stores, tmp_path, split="validation", batch=3)
    assert result["objective"] == pytest.approx(meta.objective, rel=1e-12)
    inside = meta.state["standing"]["best_metrics"]["copper"]
    found = result["metrics"]["copper"]
    assert {key: found[key] for key in inside} == pytest.approx(inside, rel=1e-12)


def test_a_split_without_structures_is_said(trained: Path, stores: dict[str, Path], tmp_path: Path) -> None:
    meta = json.loads((trained / checkpoint.META_FILE).read_text())
    blind = tmp_path / "blind"
    shutil.copytree(trained, blind)
    meta["splits"] = {"seed": 1, "validation": 0.2, "test": 0.0}
    (blind / checkpoint.META_FILE).write_text(json.dumps(meta))
    fields = {"checkpoint": blind, "branches": {"copper": {"store": stores["copper"]}}, "splits": meta["splits"]}
    outcome = evaluate.run(EvaluateConfig.model_validate(fields), tmp_path, Ranks())
    assert outcome.status is Status.DONE and outcome.message == "no structure of copper in the test split"


def test_the_parity_sample_tells_the_errors_and_no_rank_changes_it(
    trained: Path, stores: dict[str, Path], tmp_path: Path
) -> None:
    metrics = measured(trained, stores, tmp_path, split="train")["metrics"]["copper"]
    sample = json.loads((tmp_path / PARITY_FILE).read_text())
    pairs = np.array(sample["branches"]["copper"]["energies"])
    assert len(pairs) == metrics["num_energies"]
    assert 1000 * np.abs(pairs[:, 0] - pairs[:, 1]).mean() == pytest.approx(metrics["energy_mae_mev_per_atom"], rel=1e-3)
    assert 1000 * np.abs(pairs[:, 0] - pairs[:, 1]).max() == pytest.approx(metrics["energy_max_error_mev_per_atom"], rel=1e-3)
    assert metrics["force_max_error_mev_per_angstrom"] > metrics["force_rmse_mev_per_angstrom"]
    fields = {"checkpoint": str(trained), "branches": {"copper": {"store": str(stores["copper"])}}, "precision": "fp64"}
    several = runs.run(tmp_path / "ranks", fields | {"splits": SPLITS.model_dump(), "split": "train"}, 3, command="evaluate")
    assert several.outputs["parity"] == PARITY_FILE
    assert several.result["metrics"]["copper"] == pytest.approx(metrics, rel=1e-9)
    assert json.loads((tmp_path / "ranks" / PARITY_FILE).read_text()) == sample


def test_other_splits_and_unknown_branches_are_refused(trained: Path, stores: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(CampaignError, match="not the training's"):
        measured(trained, stores, tmp_path, splits={"seed": 2})
    with pytest.raises(CampaignError, match="no branch 'task'"):
        measured(trained, stores, tmp_path, branches={"task": {"store": stores["task"]}})


def tuned(strategy: str, trained: Path, stores: dict[str, Path], folder: Path) -> Outcome:
    fields = runs.config({"task": stores["task"]}, strategy=strategy, epochs=3)
    fields["checkpoint"] = None if strategy == "scratch" else trained
    return finetune.run(FinetuneConfig.model_validate(fields), folder, Ranks())


@pytest.mark.parametrize("strategy", ["scratch", "frozen", "unfrozen"])
def test_fine_tuning_keeps_what_it_should(strategy: str, trained: Path, stores: dict[str, Path], tmp_path: Path) -> None:
    outcome = tuned(strategy, trained, stores, tmp_path)
    assert outcome.status is Status.DONE
    for split in ("validation", "test"):
        assert outcome.result[split]["task"]["num_structures"] > 0
    before, _ = checkpoint.load_model(trained)
    after, meta = checkpoint.load_model(tmp_path / "checkpoints" / "best")
    assert meta.branches == ("task",)
    assert meta.references["task"] != checkpoint.read_meta(trained).references["copper"]
    same = all(torch.equal(a, b) for a, b in zip(before.backbone.parameters(), after.backbone.parameters(), strict=True))
    assert same == (strategy == "frozen")


def test_a_frozen_fine_tuning_resumes(trained: Path, stores: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    tuned("frozen", trained, stores, tmp_path / "plain")
    fields = runs.config({"task": stores["task"]}, strategy="frozen", epochs=3, checkpoint=trained, stop=tmp_path / "stop")
    (tmp_path / "stop").touch()
    (tmp_path / "half").mkdir()
    assert finetune.run(FinetuneConfig.model_validate(fields), tmp_path / "half", Ranks()).status is Status.PARTIAL
    (tmp_path / "end").mkdir()
    fields |= {"stop": None, "resume": tmp_path / "half" / "checkpoints" / "last"}
    assert finetune.run(FinetuneConfig.model_validate(fields), tmp_path / "end", Ranks()).status is Status.DONE
    mine, theirs = runs.tensors(tmp_path / "plain"), runs.tensors(tmp_path / "end")
    assert [name for name in mine if not torch.equal(mine[name], theirs[name])] == []
    whole, resumed = (checkpoint.read_meta(tmp_path / name / "checkpoints" / "last") for name in ("plain", "end"))
    assert whole.state["where"] == resumed.state["where"] and whole.references == resumed.references
    assert whole.statistics == resumed.statistics and whole.state["scales"] == resumed.state["scales"]


def test_strategies_ask_for_what_they_need(trained: Path, stores: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(CampaignError, match="needs a trained model"):
        tuned("frozen", None, stores, tmp_path)
    wide = runs.config({"task": stores["task"]}, strategy="unfrozen", checkpoint=trained)
    wide["model"] = wide["model"] | {"head_hidden": 9}
    with pytest.raises(CampaignError, match="the checkpoint has head_hidden 8, the configuration 9"):
        finetune.run(FinetuneConfig.model_validate(wide), tmp_path, Ranks())


def test_what_cannot_be_fine_tuned_is_refused_before_it_trains(trained: Path, stores: dict[str, Path], tmp_path: Path) -> None:
    fields = runs.config({"task": stores["task"]}, strategy="unfrozen", checkpoint=trained)
    for changes, refusal in (
        ({"splits": SPLITS.model_copy(update={"validation": 0.0})}, "no validation to choose an epoch by"),
        ({"splits": SPLITS.model_copy(update={"seed": 2})}, "are not those of"),
        ({"init": trained}, "not from `init`"),
    ):
        with pytest.raises(CampaignError, match=refusal):
            finetune.run(FinetuneConfig.model_validate(fields | changes), tmp_path, Ranks())
    assert not (tmp_path / "checkpoints").exists()


def test_options_of_a_backbone_may_be_left_at_their_defaults(trained: Path, stores: dict[str, Path], tmp_path: Path) -> None:
    fields = runs.config({"task": stores["task"]}, epochs=1, init=trained)
    fields["model"]["backbone"] = fields["model"]["backbone"] | {"radial": 8, "mixing": False}
    assert trainer.run(TrainConfig.model_validate(fields), tmp_path, Ranks()).status is Status.DONE


def test_structures_with_elements_that_a_branch_never_saw_are_told(trained: Path, tmp_path: Path) -> None:
    strange = emt_store(tmp_path, "strange", ("Cu", "Ag"), 30)
    question = {"checkpoint": trained, "branches": {"copper": {"store": strange}}, "splits": SPLITS, "precision": "fp64"}
    outcome = evaluate.run(EvaluateConfig.model_validate(question), tmp_path, Ranks())
    found = outcome.result["metrics"]["copper"]
    unknown = found["num_structures"] - found["num_energies"]
    assert unknown > 0
    assert f"copper: {unknown} of {found['num_structures']} structures have elements that it never saw" in outcome.message


def test_data_without_labels_are_no_branch(tmp_path: Path) -> None:
    bare = store_of(tmp_path / "bare", [Atoms("Cu2", positions=[[0, 0, 0], [2.2 + k / 50, 0, 0]]) for k in range(9)])
    fields = runs.config({"bare": bare.folder}, splits={"validation": 0.0, "test": 0.0})
    with pytest.raises(CampaignError, match="neither energies nor forces"):
        trainer.run(TrainConfig.model_validate(fields), tmp_path, Ranks())


def test_energies_that_the_references_fit_exactly_measure_no_error(tmp_path: Path) -> None:
    atoms = labelled(Atoms("Cu2", positions=[[0, 0, 0], [2.2, 0, 0]]), -4.7, np.full((2, 3), 0.1))
    single = store_of(tmp_path / "single", [atoms], splits=Splits(validation=0.0, test=0.0))
    fields = runs.config({"single": single.folder}, splits={"validation": 0.0, "test": 0.0})
    spec = TrainConfig.model_validate(fields)
    scales = branches.load_branch(Store.open(spec.branches["single"].store), spec.model, spec.splits).summary.scales
    assert scales.sigma_energy is None
    assert scales.rms_force == pytest.approx(0.1)


def test_a_task_of_one_composition_takes_its_references_from_the_model(trained: Path, tmp_path: Path) -> None:
    """Elements that never part in the task: its own fit knows nothing of other compositions, the model's references do."""
    rng = np.random.default_rng(3)
    frames = []
    for k in range(20):
        atoms = Atoms("Cu2Ni2", positions=2.5 * np.eye(4)[:, :3] + rng.normal(scale=0.1, size=(4, 3)), calculator=EMT())
        frames.append(labelled(atoms, atoms.get_potential_energy(), atoms.get_forces()))
        frames[-1].info["name"] = f"n{k}"
    task = store_of(tmp_path / "task", frames, identity="name", splits=SPLITS).folder
    fields = runs.config({"task": task}, strategy="unfrozen", epochs=2, checkpoint=trained, stop=tmp_path / "stop")
    (tmp_path / "stop").touch()
    for place in ("half", "end"):
        (tmp_path / place).mkdir()
    half = finetune.run(FinetuneConfig.model_validate(fields), tmp_path / "half", Ranks())
    assert "determines 1 of 2 reference energies" in half.message
    last = tmp_path / "half" / "checkpoints" / "last"
    fields |= {"stop": None, "resume": last}
    assert finetune.run(FinetuneConfig.model_validate(fields), tmp_path / "end", Ranks()).status is Status.DONE
    source, begun, ended = (checkpoint.read_meta(f) for f in (trained, last, tmp_path / "end" / "checkpoints" / "last"))
    assert begun.references == ended.references
    assert begun.state["scales"] == ended.state["scales"]
    theirs, ours = source.references["copper"].energies, begun.references["task"].energies
    assert ours[28] - ours[29] == pytest.approx(theirs[28] - theirs[29], abs=1e-9)


def test_a_branch_that_is_never_drawn_is_told(stores: dict[str, Path], tmp_path: Path) -> None:
    fields = runs.config(stores, epochs=1, fraction=0.05)
    fields["branches"]["task"]["share"] = 1e-6
    outcome = trainer.run(TrainConfig.model_validate(fields), tmp_path, Ranks())
    assert "no structure of task is ever drawn" in outcome.message


def test_one_dead_rank_ends_them_all(stores: dict[str, Path], tmp_path: Path) -> None:
    process = runs.start(tmp_path / "run", runs.config(stores, epochs=10_000), 2)
    deadline = time.monotonic() + 60
    while not runs.steps(tmp_path / "run") and time.monotonic() < deadline:
        time.sleep(0.05)
    first = int((tmp_path / "run" / "steps.log").read_text().split()[0])
    other = next(pid for pid in ranks_of(process.pid) if pid != first)
    os.kill(other, signal.SIGKILL)
    assert process.wait(60) != 0
    while is_running(first) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(first)


def is_running(pid: int) -> bool:
    """Say whether a process is there and no zombie that nobody has waited for yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def ranks_of(launcher: int) -> list[int]:
    """Return the Python processes in the launcher's session."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[3]) == launcher and b"\0model\0" in command:
            found.append(int(folder.name))
    return found
