"""Total charge and multiplicity as inputs of every backbone: they matter, they learn, and a checkpoint keeps them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import training_runs as runs
from ase import Atoms
from backbone_models import BACKBONES, CUTOFF, energy, make
from graphs import System, graph_of, molecule
from stores import SPLITS
from structures import labelled, store_of

from model import checkpoint
from model.config import TrainConfig
from model.outcome import Status
from model.parallel import Ranks
from model.training import trainer


@pytest.mark.parametrize("backbone", BACKBONES)
def test_they_matter_and_are_told_apart(backbone):
    """Charge and spin matter, a source that does not state them has rows of its own, and their parameters learn."""
    model = make(backbone, charge_spin=True).requires_grad_(True)
    states = [{}, {"charge": 0, "spin": 1}, {"charge": 1, "spin": 2}, {"charge": -1, "spin": 2}, {"charge": 0, "spin": 3}]
    prediction = model.predict(graph_of([molecule(**state) for state in states], CUTOFF), training=True)
    assert len({round(float(e), 9) for e in prediction.energy.detach()}) == len(states)
    prediction.energy.square().sum().backward()
    condition = [p for name, p in model.parameter_groups()["backbone"] if "condition" in name]
    assert len(condition) == 2
    assert all(bool(p.grad.abs().sum() > 0) for p in condition)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_neutral_singlets_far_apart_add(backbone):
    """With charge and spin among the inputs, two neutral singlets are one neutral singlet."""
    model, singlet = make(backbone, charge_spin=True), {"charge": 0, "spin": 1}
    left, right = molecule(6, seed=1, **singlet), molecule(4, seed=2, **singlet)
    both = System(torch.cat([left.numbers, right.numbers]), torch.cat([left.positions, right.positions + 50.0]), **singlet)
    assert energy(model, both) == pytest.approx(energy(model, left) + energy(model, right), abs=1e-10)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_step_changes_the_rows_that_were_seen(backbone):
    model = make(backbone, charge_spin=True).requires_grad_(True)
    named = {name: p for name, p in model.parameter_groups()["backbone"] if "condition" in name}
    before = {name: p.detach().clone() for name, p in named.items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0)
    model.predict(graph_of(molecule(charge=1, spin=2), CUTOFF), training=True).energy.sum().backward()
    optimizer.step()
    changed = {name.split(".")[-2]: (p.detach() != before[name]).any(1).nonzero().flatten().tolist() for name, p in named.items()}
    assert changed == {"charge": [101], "spin": [2]}


CHARGES = (0, 2)
GAP = 0.9
"""eV/atom between the labels of the two charges of one geometry."""


@pytest.fixture(scope="module")
def ions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Geometries that occur with both charges, and labels that differ by nothing else: blind to charge, half the gap is best."""
    rng, frames = np.random.default_rng(0), []
    for k in range(30):
        atoms = Atoms("COH", positions=[[0, 0, 0], [1.2, 0, 0], [-1.0, 0.3, 0]] + rng.normal(scale=0.05, size=(3, 3)))
        for charge in CHARGES:
            ion = labelled(atoms.copy(), 3 * GAP * (charge == CHARGES[1]), np.zeros((3, 3)))
            ion.info |= {"charge": charge, "spin": 2, "name": f"n{k}"}
            frames.append(ion)
    return store_of(tmp_path_factory.mktemp("ions"), frames, identity="name", splits=SPLITS).folder


def trained(ions: Path, folder: Path, backbone: str, **changes: Any) -> float:
    """Return the validation error of the energy, eV/atom."""
    folder.mkdir()
    spec = {"backbone": {"name": backbone, "layers": 1, "hidden": 8}, "cutoff": 3.0, "head_hidden": 8, "charge_spin": True}
    fields = runs.config({"ions": ions}, model=spec | changes, epochs=25, loss={"energy": 1.0, "forces": 0.0})
    fields |= {"optimizer": {"learning_rate": 0.02, "warmup_steps": 5}}
    outcome = trainer.run(TrainConfig.model_validate(fields), folder, Ranks())
    assert outcome.status is Status.DONE
    return outcome.result["metrics"]["ions"]["energy_mae_mev_per_atom"] / 1000


@pytest.mark.parametrize("backbone", BACKBONES)
def test_labels_that_differ_by_charge_alone_are_learned(backbone: str, ions: Path, tmp_path: Path) -> None:
    """The trained error is far below the best that a model blind to charge can do, and what was learned is what is saved."""
    assert trained(ions, tmp_path / "run", backbone) < 0.25 * (GAP / 2)
    meta = checkpoint.read_meta(tmp_path / "run" / "checkpoints" / "best")
    model, _ = checkpoint.load_model(tmp_path / "run" / "checkpoints" / "best")
    fresh = checkpoint.MultiTaskModel(meta.spec, meta.branches, meta.statistics).double()
    rows = [index + 100 for index in CHARGES]
    learned, drawn = (each.backbone.embedding.condition.charge.weight for each in (model, fresh))
    assert not torch.equal(learned[rows], drawn[rows])
    assert torch.equal(learned[-1], drawn[-1]), "nothing was unlabelled, and its row is another one"


def test_a_model_blind_to_charge_does_no_better_than_half_the_gap(ions: Path, tmp_path: Path) -> None:
    assert trained(ions, tmp_path / "run", "painn", charge_spin=False) > 0.9 * (GAP / 2)
