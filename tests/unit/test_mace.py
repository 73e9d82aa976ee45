"""What MACE is made of: couplings, products, sums over neighbours, functions of the distance; and its variants as a whole."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from ase.data import covalent_radii
from e3nn import o3
from graphs import System, graph_of, molecule, triclinic
from numpy.polynomial import chebyshev
from torch.autograd import gradcheck, gradgradcheck

from model.backbones.mace import Config
from model.layers import convolution
from model.layers.contraction import Contraction
from model.layers.convolution import Plan, convolve
from model.layers.coupling import paths, products
from model.layers.distance import Distance, agnesi, soft
from model.layers.initial import initialize
from model.multitask import MultiTaskModel, unit_statistics
from model.outcome import CampaignError
from model.registry import backbone_options
from model.specs import ModelSpec

EDGES = torch.tensor([[1, 2, 0, 2, 0, 3, 0], [0, 0, 1, 1, 2, 2, 3]])
VARIANTS = [
    {"max_ell": 1, "node_max_ell": 0, "basis": "gaussian", "radial": 1},
    {"max_ell": 3, "node_max_ell": 2, "correlation": 3, "basis": "chebyshev", "transform": "agnesi"},
    {"max_ell": 2, "node_max_ell": 3, "correlation": 3, "layers": 3, "transform": "soft", "basis": "gaussian"},
    {"max_ell": 3, "node_max_ell": 1, "layers": 1, "transform": "agnesi"},
]


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_(True)


def turn() -> torch.Tensor:
    made, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    return made * torch.sign(torch.linalg.det(made))


def of_degrees(rotation: torch.Tensor, max_degree: int) -> torch.Tensor:
    irreps = o3.Irreps([(1, (degree, (-1) ** degree)) for degree in range(max_degree + 1)])
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return irreps.D_from_matrix(rotation)
    finally:
        torch.set_default_dtype(default)


@pytest.mark.parametrize("max_ell", [1, 2, 3])
@pytest.mark.parametrize("correlation", [2, 3])
def test_products_are_complete(max_ell, correlation):
    """As many independent ones as the characters of the rotation group allow."""
    config = Config(max_ell=max_ell, correlation=correlation)
    assert products(max_ell, 3, correlation).num_paths == tuple(config.products(degree) for degree in range(4))
    assert all(paths(degree, max_ell).degrees == tuple(config.paths(degree)) for degree in range(2 * max_ell + 1))


@pytest.mark.parametrize(("max_degree", "output_degree", "correlation"), [(1, 2, 3), (2, 1, 2), (3, 2, 3)])
def test_contraction_turns_with_its_input(max_degree, output_degree, correlation):
    contraction = Contraction(max_degree, output_degree, correlation, 4, 3).double()
    initialize(contraction, 0)
    tensor, attributes = numbers(2, (max_degree + 1) ** 2, 4).detach(), numbers(2, 3, seed=1).detach()
    before = contraction(tensor, attributes)
    inward, outward = (of_degrees(turn(), degree) for degree in (max_degree, output_degree))
    torch.testing.assert_close(contraction(inward @ tensor, attributes), outward @ before, rtol=1e-11, atol=1e-11)
    assert bool((before.detach().abs().sum((0, 2)) > 1e-3).all())


def test_contraction_has_every_order():
    """Of a tensor λA, the products are λ, λ² and λ³ times those of A."""
    contraction = Contraction(2, 1, 3, 2, 3).double()
    initialize(contraction.requires_grad_(False), 0)
    tensor, attributes = numbers(1, 9, 2).detach(), numbers(1, 3, seed=1).detach()
    values = torch.stack([contraction(scale * tensor, attributes) for scale in (0.0, 1.0, 2.0, 3.0, 4.0)])
    assert not values[0].any()
    steps = values
    for _ in range(4):
        steps = steps.diff(dim=0)
    assert float(steps.abs().max()) < 1e-12 * float(values.abs().max())
    assert all(float(part.abs().min()) > 1e-6 for part in (values[1], values[2] - 2 * values[1]))


def test_contraction_derivatives():
    contraction = Contraction(1, 1, 3, 2, 2).double()
    initialize(contraction, 0)
    tensor, attributes = numbers(2, 4, 2), numbers(2, 2, seed=1)
    assert gradcheck(contraction, (tensor, attributes))
    assert gradgradcheck(contraction, (tensor, attributes))


@pytest.mark.parametrize("degree", [0, 1, 2])
@pytest.mark.parametrize("at_once", [1, 10_000])
def test_convolve(degree, at_once, monkeypatch):
    monkeypatch.setitem(convolution._WORDS_AT_ONCE, "cpu", at_once)
    rows = paths(degree, 2).rows
    weights, matrices = numbers(7, len(rows), 2), numbers(7, rows[-1].stop, 2 * degree + 1, seed=1)
    sent, plan = numbers(4, 2 * degree + 1, 2, seed=2), Plan(EDGES, rows)
    spread = weights.repeat_interleave(torch.tensor([r.stop - r.start for r in rows]), 1)
    plain = torch.zeros(4, rows[-1].stop, 2, dtype=torch.float64).index_add(0, EDGES[1], spread * (matrices @ sent[EDGES[0]]))
    torch.testing.assert_close(convolve(weights, matrices, sent, plan), plain)
    assert gradcheck(lambda *all_: convolve(*all_, plan), (weights, matrices, sent), fast_mode=True)
    assert gradgradcheck(lambda *all_: convolve(*all_, plan).pow(2), (weights, matrices, sent), fast_mode=True)


def distances(basis, transform, lengths, numbers_=(6, 8), count=5):
    index = torch.tensor([[0], [1]]).expand(2, len(lengths))
    module = Distance(basis, transform, count, 5.0).double()
    return module(lengths, torch.tensor(numbers_), index)


@pytest.mark.parametrize("transform", ["none", "agnesi", "soft"])
@pytest.mark.parametrize("basis", ["bessel", "gaussian", "chebyshev"])
def test_functions_of_a_distance(basis, transform):
    """They differ from one another, close at the cutoff, and have derivatives wherever atoms may be."""
    lengths = torch.tensor([1e-3, 0.5, 1.1, 2.0, 4.0, 5.0, 6.0], dtype=torch.float64, requires_grad=True)
    values = distances(basis, transform, lengths)
    assert values.shape == (6, 7)
    assert torch.linalg.matrix_rank(values[:, 1:5]) == 4
    (slope,) = torch.autograd.grad(values.sum(), lengths, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), lengths)
    assert torch.isfinite(slope).all() and torch.isfinite(bend).all()
    assert float(values[:, 5:].detach().abs().max()) < 1e-12 and float(slope[5:].detach().abs().max()) < 1e-12


def test_bases_against_their_definitions():
    lengths = torch.linspace(0.1, 4.9, 9, dtype=torch.float64)
    x = lengths.numpy() / 5.0
    closing = distances("bessel", "none", lengths)[-1].numpy()
    wanted = {
        "bessel": [0.5 * np.sin(n * np.pi * x) / x for n in range(1, 6)],
        "gaussian": [np.exp(-0.5 * ((x - c) * 4) ** 2) for c in np.linspace(0, 1, 5)],
        "chebyshev": [chebyshev.Chebyshev.basis(n)(2 * x - 1) for n in range(1, 6)],
    }
    for basis, rows in wanted.items():
        np.testing.assert_allclose(distances(basis, "none", lengths)[:-1].numpy(), np.array(rows) * closing, atol=1e-14)


def test_transforms():
    bond = torch.full((200,), 1.4, dtype=torch.float64)
    lengths = torch.linspace(0.01, 8.0, 200, dtype=torch.float64)
    reach, level = agnesi(lengths, bond), soft(lengths, bond)
    assert (reach.diff() < 0).all() and 0 < reach[-1] < 0.2 and reach[0] > 0.999
    assert level[0] == pytest.approx(0.75 * 1.4, rel=1e-2) and level[-1] == pytest.approx(8.0, rel=1e-6)
    assert float(agnesi(bond[:1] / 2, bond[:1])) == pytest.approx(1 / (1 + 1.0805 / 2))


def test_transforms_know_the_sizes_of_atoms():
    near = torch.tensor([2.0], dtype=torch.float64)
    module = Distance("bessel", "agnesi", 3, 5.0)
    np.testing.assert_allclose(module.radii[:97].numpy(), covalent_radii[:97])
    assert set(module.radii[97:].tolist()) == {covalent_radii[96]}
    assert not torch.allclose(distances("gaussian", "agnesi", near), distances("gaussian", "agnesi", near, (55, 55)))
    assert torch.allclose(distances("gaussian", "none", near), distances("gaussian", "none", near, (55, 55)))


@pytest.fixture(params=VARIANTS, ids=[str(number) for number in range(len(VARIANTS))])
def model(request) -> MultiTaskModel:
    options = {"name": "mace", "layers": 2, "hidden": 6, **request.param}
    spec = ModelSpec.model_validate({"backbone": options, "cutoff": 3.2, "head_hidden": 8})
    made = MultiTaskModel(spec, ("a",), unit_statistics(spec, 1, 6.0), seed=2).double()
    return made.requires_grad_(False)


@pytest.mark.parametrize("system", [molecule(), triclinic()], ids=["molecule", "triclinic"])
def test_variants_turn(model, system):
    before = model.predict(graph_of(system), training=False)
    for improper in (1, -1):
        rotation = improper * turn()
        cell = None if system.cell is None else system.cell @ rotation
        after = model.predict(graph_of(System(system.numbers, system.positions @ rotation, cell)), training=False)
        torch.testing.assert_close(after.energy, before.energy, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(after.forces, before.forces @ rotation, rtol=1e-10, atol=1e-10)
    assert float(before.forces.abs().max()) > 1e-4


def test_variants_follow_their_slopes(model):
    system = molecule(5)
    graph = graph_of(system)
    assert gradgradcheck(
        lambda x: model.all_branches(graph.with_(positions=x)).sum(), graph.positions.clone().requires_grad_(True), fast_mode=True
    )
    forces = model.predict(graph, training=False).forces
    step = torch.zeros_like(system.positions)
    step[1] = 1e-5
    moved = [graph_of(system.moved(system.positions + sign * step)) for sign in (1, -1)]
    there, back = (float(model.predict(each, training=False).energy) for each in moved)
    assert float(forces[1].sum()) == pytest.approx(-(there - back) / 2e-5, abs=1e-6)


def test_variants_train_whole(model):
    """Every parameter takes part, near atoms and elements of all sizes included."""
    model.requires_grad_(True)
    prediction = model.predict(graph_of([molecule(), molecule(6, seed=3), triclinic()]), training=True)
    (prediction.energy.square().sum() + prediction.forces.square().sum()).backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]


def test_it_is_copied_whole(model):
    graph = graph_of(molecule())
    torch.testing.assert_close(
        copy.deepcopy(model).predict(graph, training=False).forces, model.predict(graph, training=False).forces
    )


def test_a_degree_that_no_direction_takes_up_is_refused():
    with pytest.raises(CampaignError, match="cannot take up degree 3 from directions of degree 1"):
        backbone_options({"name": "mace", "max_ell": 1, "node_max_ell": 3})
