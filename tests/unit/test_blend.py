"""Branch weights: masked, learned from cached predictions, and bound to one model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from predictors import predictor, saved
from structures import random_block

from model.config import BlendConfig
from model.inference import blend
from model.inference import weights as branch_weights
from model.inference.blend import Cache
from model.inference.weights import BlendMeta, BranchWeights
from model.outcome import CampaignError
from model.parallel import Ranks
from model.specs import Splits


def test_weights_are_a_softmax_over_the_branches_that_know_a_structure() -> None:
    network = BranchWeights(3, (8, 4), seed=1)
    composition = torch.rand(4, 118, dtype=torch.float64)
    known = torch.tensor([[True, True, True], [True, False, True], [False, True, False], [False, False, False]])
    weights = network(composition, known)
    assert weights.sum(1).tolist() == pytest.approx([1, 1, 1, 0])
    assert (weights[~known] == 0).all()
    weights.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


def test_composition_is_the_share_of_each_element() -> None:
    block = random_block(6)
    shares = branch_weights.composition(block)
    first = block.numbers[: block.offsets[1]]
    assert shares.sum(1) == pytest.approx(np.ones(6))
    assert shares[0, 0] == pytest.approx(np.mean(first == 1))
    assert shares[0, 28] == pytest.approx(np.mean(first == 29))


def _work(tmp_path: Path, **options: object) -> blend._Work:
    branches = {name: {"store": tmp_path} for name in ("organic", "water", "metal")}
    config = BlendConfig(checkpoint=tmp_path, branches=branches, **options)
    return blend._Work(config, predictor(), Ranks(), tmp_path)


def _cache(count: int, seed: int, right: np.ndarray) -> Cache:
    """Return labels that branch `right[i]` predicts exactly, the others wrongly."""
    rng = np.random.default_rng(seed)
    composition = np.zeros((count, 118))
    composition[np.arange(count), right * 5] = 1.0
    labels = rng.normal(size=count)
    residuals = labels[:, None] + rng.normal(size=(count, 3))
    residuals[np.arange(count), right] = labels
    tensors = (torch.from_numpy(each) for each in (composition, np.ones((count, 3), bool), residuals, labels, right))
    return Cache(*tensors)


def test_the_weight_goes_to_the_branch_that_is_right(tmp_path: Path) -> None:
    right = np.arange(120) % 3
    work = _work(tmp_path, epochs=15, learning_rate=0.03, hidden=(16,))
    facts = blend._learn(work, _cache(120, 0, right), _cache(30, 1, right[:30]))
    for index, name in enumerate(("organic", "water", "metal")):
        found = facts["metrics"][name]
        assert found["weights"][name] > 0.9, index
        assert found["energy_mae_mev_per_atom"] < 0.2 * found["mean_of_branches_mae_mev_per_atom"]
        assert found["own_branch_mae_mev_per_atom"] == pytest.approx(0, abs=1e-9)
    assert facts["loss_mev_per_atom"][1] < 0.2 * facts["loss_mev_per_atom"][0]


def test_a_blend_comes_back_as_it_was_and_serves_no_other_model(tmp_path: Path) -> None:
    work, right = _work(tmp_path, epochs=1), np.arange(30) % 3
    blend._learn(work, _cache(30, 0, right), _cache(30, 1, right))
    folder, model = tmp_path / blend.FOLDER, work.predictor
    state = torch.load(folder / "blend.pt", weights_only=True)
    again = branch_weights.load(folder, model.branches, model.fingerprint)
    assert all(torch.equal(again.state_dict()[name], value) for name, value in state.items())
    with pytest.raises(CampaignError, match="another model"):
        branch_weights.load(folder, model.branches, predictor(seed=1).fingerprint)
    with pytest.raises(CampaignError, match="no blend here"):
        branch_weights.load(tmp_path, model.branches, model.fingerprint)


def test_a_blend_of_another_format_is_refused(tmp_path: Path) -> None:
    network, model = BranchWeights(3, (4,)), predictor()
    branch_weights.save(tmp_path, network, BlendMeta(model.branches, (4,), model.fingerprint, {}, format_version=99), None)
    with pytest.raises(CampaignError, match="format 99"):
        branch_weights.load(tmp_path, model.branches, model.fingerprint)


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b[: len(b) // 2] + bytes([b[len(b) // 2] ^ 127]) + b[len(b) // 2 + 1 :]]
)
def test_a_damaged_blend_is_refused_by_name(tmp_path: Path, damage) -> None:
    network, model = BranchWeights(3, (4,)), predictor()
    branch_weights.save(tmp_path, network, BlendMeta(model.branches, (4,), model.fingerprint, {}), None)
    victim = tmp_path / branch_weights.WEIGHTS_FILE
    victim.write_bytes(damage(victim.read_bytes()))
    with pytest.raises(CampaignError, match="blend.pt: missing, or other bytes"):
        branch_weights.load(tmp_path, model.branches, model.fingerprint)


def test_a_checkpoint_is_no_blend(tmp_path: Path) -> None:
    folder, model = saved(tmp_path / "checkpoint"), predictor()
    with pytest.raises(CampaignError, match="no blend here"):
        branch_weights.load(folder, model.branches, model.fingerprint)


def test_a_blend_never_trains_on_what_the_model_is_tested_on(tmp_path: Path) -> None:
    branches = {"water": {"store": tmp_path / "no store is read"}}
    config = BlendConfig(checkpoint=saved(tmp_path / "checkpoint"), branches=branches, splits=Splits(seed=7), precision="fp64")
    with pytest.raises(CampaignError, match="not the model's"):
        blend.run(config, tmp_path, Ranks())


def test_no_energies_are_no_blend(tmp_path: Path) -> None:
    nothing = _cache(0, 0, np.zeros(0, np.int64))
    with pytest.raises(CampaignError, match="no energies"):
        blend._learn(_work(tmp_path), nothing, nothing)
