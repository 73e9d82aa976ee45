"""Scalars and classes: how they are labelled, learned, and scored, against hand-made numbers and scikit-learn."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import sklearn.metrics as reference
import torch
from graphs import graph_of, molecule, supercell, triclinic
from hypothesis import given
from hypothesis import strategies as st
from structures import random_block

from model.data import targets
from model.data.block import Block
from model.data.loader import collate
from model.data.references import References
from model.data.targets import Target
from model.graph import AtomGraph
from model.multitask import MultiTaskModel
from model.outcome import CampaignError
from model.parallel import Ranks
from model.precision import apply
from model.prediction import Prediction, Statistics
from model.specs import LossSpec, ModelSpec, Splits
from model.training.loss import Deviations, Loss, count_labels
from model.training.metrics import Scales, is_finite, objective_of
from model.training.scores import Scores, class_scores, roc_auc, scalar_scores

NAN = float("nan")
GAP = Target("scalar", "eV", 2.0, 0.5, {1: 1.0, 8: 4.0})
METAL = Target("class", "", 0.75, math.sqrt(0.75 * 0.25), {})


def block_with(values: np.ndarray, seed: int = 0) -> Block:
    return replace(random_block(len(values), seed), target=np.asarray(values, float))


def test_a_scalar_is_known_by_mean_spread_and_least_squares_on_composition() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, 40)
    values[7] = NAN
    block = block_with(values)
    found = targets.fit(targets.Labels.of(block), ("scalar", "eV"), Splits(), "store")
    known = np.flatnonzero(np.isfinite(values))
    elements = sorted(set(block.numbers.tolist()))
    shares = np.array([[np.mean(block.take([k]).numbers == z) for z in elements] for k in known])
    expected = np.linalg.lstsq(shares, values[known], rcond=None)[0]
    assert (found.kind, found.unit) == ("scalar", "eV")
    assert (found.mean, found.spread) == pytest.approx((np.nanmean(values), np.nanstd(values)), rel=1e-13)
    assert [found.composition[z] for z in elements] == pytest.approx(expected.tolist(), rel=1e-9)
    predicted = found.by_composition(block.take(known).numbers, block.take(known).num_atoms)
    assert predicted == pytest.approx(shares @ expected, rel=1e-9)
    assert Target.from_json(found.to_json()) == found


def test_the_mean_stands_in_for_a_composition_with_an_unknown_element() -> None:
    assert GAP.by_composition(np.array([1, 1, 8, 1, 29]), np.array([3, 2])).tolist() == [2.0, 2.0]
    assert GAP.by_composition(np.array([8, 8]), np.array([2])).tolist() == [4.0]


def test_outputs_are_spreads_about_the_mean_and_log_odds() -> None:
    values = np.array([1.0, 2.0, 3.5, NAN])
    assert GAP.normalize(values)[:3].tolist() == [-2.0, 0.0, 3.0]
    assert GAP.restore(GAP.normalize(values))[:3] == pytest.approx(values[:3], rel=1e-15)
    assert METAL.normalize(np.array([0.0, 1.0])).tolist() == [0.0, 1.0]
    assert METAL.restore(np.array([0.0, math.log(3.0), -900.0, 900.0])) == pytest.approx([0.5, 0.75, 0.0, 1.0], abs=1e-15)


@pytest.mark.parametrize(
    ("kind", "values", "refusal"),
    [
        ("scalar", [NAN, NAN], "no scalar to predict"),
        ("scalar", [0.3, 0.3, NAN], "every scalar of the training split is 0.3"),
        ("class", [1.0, 1.0], "every class of the training split is 1"),
        ("class", [1.0, 0.0, 2.0], "a class is 2, neither 0 nor 1"),
    ],
)
def test_what_cannot_be_learned_is_refused(kind: targets.Kind, values: list[float], refusal: str) -> None:
    with pytest.raises(CampaignError, match=refusal):
        targets.fit(targets.Labels.of(block_with(np.array(values))), (kind, ""), Splits(), "store")


def test_a_branch_has_one_kind_of_label() -> None:
    blocks = [(0, block_with(np.array([1.0, NAN, 4.0]))), (1, block_with(np.array([9.0, 9.0]), 1))]
    references = References(dict.fromkeys(range(1, 119), 0.5), 1.0, 1.0, 1, 1, Splits())
    graph = collate(blocks, 3.0, None, [GAP, references], torch.float64)
    assert graph.target is not None
    assert graph.target.nan_to_num(7.0).tolist() == [-2.0, 7.0, 4.0, 7.0, 7.0]
    assert torch.isfinite(graph.energy).tolist() == [False] * 3 + [True] * 2
    own = torch.isfinite(graph.forces).all(1)
    assert torch.equal(own, graph.graph >= 3)
    assert count_labels(graph, 2).tolist() == [[2.0, 2.0], [0.0, 3.0 * float(own.sum())]]


@pytest.mark.parametrize("levels", [3, 10_000])
@given(seed=st.integers(0, 10_000), count=st.integers(2, 60))
def test_class_scores_are_those_of_scikit_learn(levels: int, seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, count).astype(float)
    labels[:2] = 0.0, 1.0
    log_odds = (random.integers(0, levels, count) - 0.5 * levels + 0.25) / levels * 8
    found = class_scores(labels, log_odds, share=0.4)
    answers, probability = log_odds > 0, METAL.restore(log_odds)
    assert found["roc_auc"] == pytest.approx(reference.roc_auc_score(labels, log_odds), abs=1e-12)
    assert found["f1"] == pytest.approx(reference.f1_score(labels, answers), abs=1e-12)
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(labels, answers), abs=1e-12)
    assert found["cross_entropy"] == pytest.approx(reference.log_loss(labels, probability), rel=1e-9)
    assert found["majority_accuracy"] == pytest.approx(np.mean(labels == 0), abs=1e-12)
    assert found["majority_f1"] == 0.0
    assert (found["num_targets"], found["num_positives"]) == (count, labels.sum())


def test_scalar_errors_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(2)
    labels, predictions, composition = random.normal(size=(3, 50))
    found = scalar_scores(labels, predictions, composition, GAP)
    assert found["target_mae"] == pytest.approx(reference.mean_absolute_error(labels, predictions), rel=1e-13)
    assert found["target_rmse"] == pytest.approx(reference.root_mean_squared_error(labels, predictions), rel=1e-13)
    assert found["target_max_error"] == reference.max_error(labels, predictions)
    assert found["target_mean_baseline"] == pytest.approx(np.mean(np.abs(2.0 - labels)), rel=1e-13)
    assert found["target_composition_baseline"] == pytest.approx(np.mean(np.abs(composition - labels)), rel=1e-13)
    assert (found["unit"], found["num_targets"]) == ("eV", 50)


def test_what_has_no_score_is_told_by_none() -> None:
    one, empty = class_scores(np.ones(3), np.array([1.0, -1.0, 2.0]), 0.7), np.zeros(0)
    assert one["roc_auc"] is None
    assert (one["accuracy"], one["majority_accuracy"], one["majority_f1"]) == (pytest.approx(2 / 3), 1.0, 1.0)
    assert class_scores(np.zeros(2), np.array([-1.0, -2.0]), 0.3)["f1"] is None
    for found in (class_scores(empty, empty, 0.5), scalar_scores(empty, empty, empty, GAP)):
        assert {value for key, value in found.items() if key not in ("kind", "unit")} <= {None, 0}
    wrong = np.array([NAN, 1.0])
    assert math.isnan(roc_auc(np.array([0.0, 1.0]), wrong) or 0.0)
    assert not is_finite({"a": class_scores(np.array([0.0, 1.0]), wrong, 0.5)})


def test_the_objective_is_in_spreads_or_what_the_curve_lacks() -> None:
    scalar = scalar_scores(np.array([1.0, 2.0]), np.array([1.2, 1.6]), np.zeros(2), GAP)
    metal = class_scores(np.array([0.0, 1.0, 1.0, 0.0]), np.array([-1.0, 2.0, 0.5, 0.7]), 0.5)
    scales = {"gap": Scales(None, None, 0.5), "metal": Scales(None, None), "one": Scales(None, None)}
    assert objective_of({"gap": scalar}, scales) == pytest.approx(0.3 / 0.5)
    assert objective_of({"metal": metal}, scales) == pytest.approx(1 - 0.75)
    assert objective_of({"gap": scalar, "metal": metal}, scales) == pytest.approx((0.6 + 0.25) / 2)
    assert objective_of({"one": class_scores(np.ones(4), np.array([1.0, 1.0, 1.0, -1.0]), 0.5)}, scales) == pytest.approx(0.25)
    assert objective_of({"gap": scalar_scores(*np.zeros((3, 0)), GAP)}, scales) is None


def three_branches() -> tuple[AtomGraph, Prediction, torch.Tensor]:
    """One molecule with an energy, two with a scalar (one unlabelled), two with a class; predictions of them all."""
    graph = graph_of([molecule(2, seed=k) for k in range(5)])
    label = torch.tensor([NAN, 1.5, NAN, 1.0, 0.0], dtype=torch.float64)
    energy = torch.tensor([3.0, NAN, NAN, NAN, NAN], dtype=torch.float64)
    graph = graph.with_(branch=torch.tensor([0, 1, 1, 2, 2]), energy=energy, target=label)
    free = torch.tensor([NAN, 1.0, 9.0, 0.4, 0.7], dtype=torch.float64, requires_grad=True)
    own = torch.tensor([1.0, NAN, NAN, NAN, NAN], dtype=torch.float64)
    return graph, Prediction(own, graph.forces, free, torch.tensor([False] * 3 + [True] * 2)), free


def test_the_loss_of_targets_is_a_mean_over_labels_with_weight_one() -> None:
    graph, prediction, free = three_branches()
    counts = count_labels(graph, 3)
    assert counts.tolist() == [[1.0, 1.0, 2.0], [0.0, 0.0, 0.0]]
    loss = Loss(LossSpec(kind="mse", energy=4.0), [1.0, 0.5, 2.0], [False, True, True])(Deviations(prediction, graph), counts)
    entropy = (-math.log(1 / (1 + math.exp(-0.4))) - math.log(1 - 1 / (1 + math.exp(-0.7)))) / 2
    assert float(loss.detach()) == pytest.approx(4.0 * 1.0 + 0.5 * 0.25 + 2.0 * entropy, rel=1e-14)
    (gradient,) = torch.autograd.grad(loss, free)
    expected = [0.0, 0.5 * 2 * -0.5, 0.0, 1 / (1 + math.exp(-0.4)) - 1, 1 / (1 + math.exp(-0.7))]
    assert gradient.tolist() == pytest.approx(expected, rel=1e-14)


def test_structures_with_a_wrong_target_are_named() -> None:
    graph, prediction, free = three_branches()
    wrong = free.detach().clone()
    wrong[1], wrong[4] = NAN, math.inf
    assert Deviations(replace(prediction, target=wrong), graph).not_finite().tolist() == [False, True, False, False, True]
    wrong[2] = NAN  # has no label
    assert not bool(Deviations(replace(prediction, target=wrong), graph).not_finite()[2])


def test_scores_do_not_depend_on_how_batches_divide_them() -> None:
    graph, prediction, _ = three_branches()
    whole = Scores(("e", "gap", "metal"), {"gap": GAP, "metal": METAL})
    whole.see(Deviations(prediction, graph))
    found = whole.metrics({"gap": GAP, "metal": METAL}, Ranks())
    assert set(found) == {"gap", "metal"}
    assert (found["gap"]["target_mae"], found["gap"]["num_targets"]) == (pytest.approx(0.25), 1)
    expected = abs(float(GAP.by_composition(graph.numbers[2:4].numpy(), np.array([2]))[0]) - 2.75)
    assert found["gap"]["target_composition_baseline"] == pytest.approx(expected)
    assert (found["metal"]["accuracy"], found["metal"]["roc_auc"]) == (0.5, 0.0)


SPEC = ModelSpec(backbone={"name": "painn", "hidden": 8, "layers": 2}, cutoff=3.2, head_hidden=8)


def model_of(known: dict[str, Target], branches: tuple[str, ...] = ("a", "b"), **changes: object) -> MultiTaskModel:
    spec = SPEC.model_copy(update=changes)
    return MultiTaskModel(spec, branches, Statistics(6.0, (0.5,) * len(branches), 1.0, {}, known)).double()


@pytest.mark.parametrize("readout", ["atom", "graph"])
def test_a_target_does_not_grow_with_the_crystal(readout: str) -> None:
    model = model_of({"a": GAP}, ("a",), readout=readout)
    crystal = triclinic()
    once, thrice = (model.predict(graph_of(s), training=False) for s in (crystal, supercell(crystal, (3, 1, 1))))
    assert once.target is not None and thrice.target is not None
    torch.testing.assert_close(once.target, thrice.target, rtol=1e-10, atol=1e-12)
    assert bool(once.energy.isnan().all()) and bool(once.forces.isnan().all())


@pytest.mark.parametrize("forces", ["gradient", "head"])
def test_branches_of_all_kinds_live_in_one_model(forces: str) -> None:
    mixed, plain = model_of({"b": METAL}, forces=forces), model_of({}, ("a",), forces=forces)
    systems = [replace(molecule(4, seed=k), branch=k % 2) for k in range(4)]
    prediction = mixed.predict(graph_of(systems), training=True)
    alone = plain.predict(graph_of(systems[::2]), training=True)
    has_energy = torch.tensor([True, False] * 2)
    torch.testing.assert_close(prediction.energy[has_energy], alone.energy, rtol=1e-13, atol=0)
    torch.testing.assert_close(prediction.forces[has_energy.repeat_interleave(4)], alone.forces, rtol=1e-11, atol=1e-13)
    assert prediction.target is not None and prediction.is_class is not None
    assert torch.equal(prediction.target.isnan(), has_energy) and torch.equal(prediction.energy.isnan(), ~has_energy)
    assert torch.equal(prediction.forces.isnan().all(1), ~has_energy.repeat_interleave(4))
    assert torch.equal(prediction.is_class, ~has_energy)
    label = torch.where(has_energy, NAN, 1.0).double()
    graph = graph_of(systems).with_(energy=torch.where(has_energy, 0.3, NAN).double(), target=label)
    loss = Loss(LossSpec(), [1.0, 1.0], [False, True])(Deviations(prediction, graph), count_labels(graph, 2))
    found = torch.autograd.grad(loss, list(mixed.parameters()), allow_unused=True)
    gradients = dict(zip(dict(mixed.named_parameters()), found, strict=True))
    assert all(g is None or bool(torch.isfinite(g).all()) for g in gradients.values())
    assert all(bool(gradients[name].abs().sum() > 0) for name in gradients if "target" in name and name.endswith("weight"))


@pytest.mark.parametrize("forces", ["gradient", "head"])
def test_forces_that_nobody_asks_for_are_not_computed(forces: str) -> None:
    model, graph = model_of({}, forces=forces), graph_of([molecule(4, seed=1)])
    asked, not_asked = (model.predict(graph, training=True, forces=each) for each in (True, False))
    assert torch.equal(asked.energy, not_asked.energy) and bool(asked.forces.isfinite().all())
    assert bool(not_asked.forces.isnan().all()) and not not_asked.forces.requires_grad
    assert not model.predict(graph, training=False, forces=False).energy.requires_grad


def test_no_energy_is_made_of_a_branch_without_one() -> None:
    model, graph = model_of({"b": GAP}), graph_of([molecule(3, seed=2)])
    with pytest.raises(CampaignError, match="predict no energy: b"):
        model.all_branches(graph)
    with pytest.raises(CampaignError, match="predict no energy: b"):
        model.blend(graph, torch.ones(1, 2))
    with pytest.raises(CampaignError, match="'b' predicts no energy"):
        model_of({"b": GAP}, heads="shared")


def test_the_last_layer_of_a_target_is_never_lowered() -> None:
    model = model_of({"a": GAP}, ("a",))
    apply(model, "bf16")
    products = {
        name: module.product_dtype for name, module in model.heads["a"].named_modules() if hasattr(module, "product_dtype")
    }
    *inner, last = products.values()
    assert set(inner) == {torch.bfloat16} and last is None
    prediction = model.predict(graph_of([molecule(4, seed=1)], dtype=torch.float32), training=False)
    assert prediction.target is not None and prediction.target.dtype == torch.float32
