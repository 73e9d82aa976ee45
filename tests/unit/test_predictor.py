"""Predictions: one backbone pass and one gradient give what branch after branch gives, whatever the batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from predictors import predictor, weights
from structures import random_block

from model.data.block import Block, concatenate
from model.inference.fused import NOT_FINITE, UNKNOWN, FusedPredictor
from model.inference.predictor import batches
from model.outcome import CampaignError


def molecules(count: int, *numbers: int, seed: int = 0) -> Block:
    """Return random clusters whose elements are drawn from `numbers`."""
    block = random_block(count, seed)
    return replace(block, numbers=np.random.default_rng(seed).choice(np.array(numbers, np.uint8), len(block.numbers)))


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 60))
def test_batches_hold_every_structure_once_in_order_and_keep_the_budget(atoms: list[int], budget: int) -> None:
    found = batches(np.array(atoms, np.int64), budget)
    assert [i for part in found for i in part] == list(range(len(atoms)))
    assert all(len(part) == 1 or sum(atoms[i] for i in part) <= budget for part in found)


def test_totals_are_residuals_plus_references() -> None:
    model, block = predictor(), molecules(5, 1, 8)
    answer = model.predict(block, "water")
    hydrogen, oxygen = (np.add.reduceat(block.numbers == z, block.offsets[:-1], dtype=float) for z in (1, 8))
    assert answer.energy - answer.residual == pytest.approx(-14.0 * hydrogen - 2041.0 * oxygen, abs=1e-9)
    assert np.isnan(model.predict(molecules(5, 29), "water").energy).all()


def test_a_branch_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(CampaignError, match="no branch 'wate'.*\n.*organic, water, metal"):
        predictor().predict(molecules(1, 1), "wate")


def test_the_blend_is_the_weighted_sum_of_the_branches() -> None:
    model, block = predictor(), molecules(6, 1, 8)
    w = weights(6)
    blend = model.blend(block, w)
    one_by_one = [model.predict(block, name) for name in model.branches]
    energy = sum(w[:, b] * each.residual for b, each in enumerate(one_by_one))
    per_atom = np.repeat(w, block.num_atoms, axis=0)
    forces = sum(per_atom[:, b, None] * each.forces for b, each in enumerate(one_by_one))
    assert blend.energy.numpy() == pytest.approx(energy, abs=1e-12)
    assert np.abs(blend.forces.numpy() - forces).max() < 1e-12 * np.abs(forces).max()


def test_blended_forces_are_the_gradient_of_the_blended_energy() -> None:
    model, block, step = predictor(), molecules(2, 1, 8, seed=3), 1e-5
    w = weights(2)
    forces = model.blend(block, w).forces.numpy()
    for atom, axis in [(0, 0), (len(block.numbers) - 1, 2), (len(block.numbers) // 2, 1)]:
        shifted = []
        for sign in (1, -1):
            positions = block.positions.copy()
            positions[atom, axis] += sign * step
            shifted.append(model.blend(replace(block, positions=positions), w).energy.sum().item())
        assert forces[atom, axis] == pytest.approx(-(shifted[0] - shifted[1]) / (2 * step), abs=1e-7)


def test_predictions_do_not_depend_on_the_batch() -> None:
    fused, block = FusedPredictor(predictor(), None), molecules(20, 1, 6, 8, seed=1)
    whole, alone = fused.columns(block, 0, 10_000), fused.columns(block, 0, 1)
    for name in ("energy", "branch_energy", "forces", "branch_spread", "largest_force"):
        assert getattr(whole, name) == pytest.approx(getattr(alone, name), rel=1e-11, abs=1e-11, nan_ok=True), name


def test_each_batch_goes_through_the_backbone_once_whatever_the_number_of_branches() -> None:
    model, block, passes = predictor(), molecules(9, 1, 8), []
    model.model.backbone.register_forward_hook(lambda *_: passes.append(1))
    FusedPredictor(model, None).columns(block, 0, 20)
    assert len(passes) == len(batches(block.num_atoms, 20)) > 1


def test_structures_that_no_branch_knows_are_flagged_and_leave_the_others_alone() -> None:
    fused = FusedPredictor(predictor(), None)
    known, unknown = molecules(4, 1, 8), molecules(4, 14, seed=2)
    both = concatenate([known, unknown])
    columns, alone = fused.columns(both, 100, 64), fused.columns(known, 100, 64)
    assert columns.flag.tolist() == [0] * 4 + [UNKNOWN] * 4
    assert np.isnan(columns.energy[4:]).all()
    assert np.isnan(columns.forces[len(known.numbers) :]).all()
    assert columns.energy[:4] == pytest.approx(alone.energy, abs=1e-12)
    assert columns.index.tolist() == list(range(100, 108))
    assert columns.ids == both.ids.tolist()


def test_a_branch_that_lacks_an_element_has_no_weight_and_no_energy() -> None:
    fused, block = FusedPredictor(predictor(), None), molecules(3, 6)
    assert fused.weights(block).tolist() == [[1.0, 0.0, 0.0]] * 3
    columns = fused.columns(block, 0, 64)
    assert np.isfinite(columns.branch_energy[:, 0]).all()
    assert np.isnan(columns.branch_energy[:, 1:]).all()
    assert np.isnan(columns.branch_spread).all()  # one branch has nothing to disagree with


def test_a_prediction_that_is_not_finite_is_flagged() -> None:
    model, block = predictor(), molecules(2, 1, 8)
    for parameter in model.model.heads["water"].parameters():
        parameter.fill_(np.inf)
    columns = FusedPredictor(model, None).columns(block, 0, 1)
    assert columns.flag.tolist() == [NOT_FINITE, NOT_FINITE]
    assert np.isnan(columns.energy).all()
    assert np.isnan(columns.largest_force).all()
