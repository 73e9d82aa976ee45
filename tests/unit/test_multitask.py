"""One backbone, a head for each branch: what belongs to whom, and what a blend is."""

from __future__ import annotations

import pytest
import torch
from graphs import graph_of, molecule, triclinic

from model.multitask import MultiTaskModel, Statistics
from model.outcome import CampaignError
from model.specs import ModelSpec

BRANCHES = ("a", "b", "c")
GRAPH = graph_of([molecule(6, branch=2), triclinic(), molecule(4, seed=1, branch=2), molecule(1), molecule(5, seed=3)], 4.0)


def make(branches=BRANCHES, scales=(0.5, 1.0, 2.0), seed=0, **changes) -> MultiTaskModel:
    spec = ModelSpec.model_validate({"backbone": {"name": "painn", "hidden": 8, "layers": 2}, "cutoff": 4.0, **changes})
    return MultiTaskModel(spec, branches, Statistics(6.0, scales, force_scale=3.0), seed=seed).double()


def test_each_structure_is_answered_by_its_own_branch():
    model = make()
    own = model.predict(GRAPH, training=False).energy
    everyone = model.all_branches(GRAPH).detach()
    assert everyone.shape == (3, 5)
    torch.testing.assert_close(own, everyone[GRAPH.branch, torch.arange(5)])


def test_energy_scale_is_the_unit_of_a_head():
    once, twice = make(scales=(0.5, 1.0, 2.0)), make(scales=(1.0, 1.0, 2.0))
    ratio = twice.predict(GRAPH, training=False).energy / once.predict(GRAPH, training=False).energy
    torch.testing.assert_close(ratio, torch.where(GRAPH.branch == 0, 2.0, 1.0).double())


@pytest.mark.parametrize("readout", ["atom", "graph"])
def test_blend_is_the_weighted_mean_and_its_exact_gradient(readout):
    model = make(readout=readout)
    weights = torch.rand(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).softmax(-1)
    blend = model.blend(GRAPH, weights)
    singles = [model.predict(GRAPH.with_(branch=torch.full((5,), b)), training=False) for b in range(3)]
    torch.testing.assert_close(blend.branches, torch.stack([s.energy for s in singles]))
    torch.testing.assert_close(blend.energy, sum(weights[:, b] * s.energy for b, s in enumerate(singles)))
    forces = sum(weights[GRAPH.graph, b, None] * s.forces for b, s in enumerate(singles))
    torch.testing.assert_close(blend.forces, forces, rtol=1e-12, atol=1e-12)


def test_blend_refuses_forces_from_heads():
    with pytest.raises(CampaignError, match="gradient"):
        make(forces="head").blend(GRAPH, torch.full((5, 3), 1 / 3))


def test_first_weights_depend_on_seed_and_name_only():
    """A rank that holds one branch starts from the weights that a rank with all of them has there."""
    whole, part = make(), make(("b",), (1.0,))
    shared = part.state_dict()
    own = {name: value for name, value in whole.state_dict().items() if name in shared and name != "energy_scale"}
    assert len(own) == len(shared) - 1
    assert all(torch.equal(own[name], shared[name]) for name in own)
    assert not torch.equal(whole.heads["a"].energy.layers[0].weight, whole.heads["b"].energy.layers[0].weight)
    assert not torch.equal(make(seed=1).backbone.layers[0].pair.weight, whole.backbone.layers[0].pair.weight)


def test_parameter_groups_hold_every_parameter_once():
    model = make(forces="head")
    groups = model.parameter_groups()
    assert list(groups) == ["backbone", "head:a", "head:b", "head:c"]
    named = [pair for group in groups.values() for pair in group]
    assert {name: id(p) for name, p in named} == {name: id(p) for name, p in model.named_parameters()}
    assert len(named) == len(list(model.parameters()))


def test_a_new_branch_leaves_the_others_alone():
    model = make()
    before = model.predict(GRAPH, training=False)
    model.add_branch("d", 1.5)
    after = model.predict(GRAPH, training=False)
    assert torch.equal(before.energy, after.energy)
    assert model.branches == ("a", "b", "c", "d")
    assert model.heads["d"].energy.layers[0].weight.dtype == torch.float64
    assert model.all_branches(GRAPH).shape == (4, 5)
    fresh = make((*BRANCHES, "d"), (0.5, 1.0, 2.0, 1.5))
    assert all(torch.equal(value, fresh.state_dict()[name]) for name, value in model.state_dict().items())


def test_a_shared_head_answers_for_all_branches():
    model = make(scales=(2.0, 2.0, 2.0), heads="shared")
    assert list(model.parameter_groups()) == ["backbone", "head:shared"]
    everyone = model.all_branches(GRAPH).detach()
    torch.testing.assert_close(everyone, everyone[:1].expand(3, 5))
    model.add_branch("d", 2.0)
    assert model.predict(GRAPH.with_(branch=torch.full((5,), 3)), training=False).energy.shape == (5,)


@pytest.mark.parametrize(
    ("what", "branches", "changes"),
    [
        ("one energy scale", BRANCHES, {"heads": "shared"}),
        ("there already", ("a", "b", "a"), {}),
        ("cannot be called", ("a", "b.c", "d"), {}),
        ("name of the one head", ("shared", "b", "c"), {"heads": "shared"}),
        ("no backbone 'pain'", BRANCHES, {"backbone": {"name": "pain"}}),
        ("Extra inputs", BRANCHES, {"backbone": {"name": "painn", "depth": 3}}),
    ],
)
def test_what_cannot_be_built_is_refused(what, branches, changes):
    with pytest.raises(CampaignError, match=what):
        make(branches, **changes)


def test_inference_leaves_no_graph_behind():
    prediction = make().predict(GRAPH, training=False)
    assert not prediction.energy.requires_grad
    assert not prediction.forces.requires_grad
    assert make().predict(GRAPH, training=True).forces.requires_grad


def test_a_model_builds_on_the_meta_device():
    spec = ModelSpec(backbone={"name": "painn", "hidden": 512}, head_widths=(50, 776))
    with torch.device("meta"):
        model = MultiTaskModel(spec, ("a",), Statistics(10.0, (1.0,)))
    assert all(p.is_meta for p in model.parameters())
