"""What must hold for every backbone, found by itself: the physics of an energy of atoms."""

from __future__ import annotations

import importlib
import json

import pytest
import torch
from backbone_models import BACKBONES, CUTOFF, SYSTEMS, energy, make, predict, strained
from graphs import System, graph_of, molecule, supercell, triclinic

from model import registry
from model.multitask import MultiTaskModel

ELEMENTS = ["embedding", "number"]


@pytest.fixture(scope="module", params=[f"{b}-{e}" for b in BACKBONES for e in ELEMENTS])
def model(request) -> MultiTaskModel:
    backbone, elements = request.param.split("-")
    return make(backbone, elements=elements)


@pytest.fixture(params=SYSTEMS)
def system(request) -> System:
    return SYSTEMS[request.param]


def assert_close(left, right, tolerance=1e-10):
    torch.testing.assert_close(left, right, rtol=tolerance, atol=tolerance)


def test_it_sees_its_neighbours(model, system):
    """Without this, a constant would pass every other test."""
    squeezed = System(system.numbers, 0.97 * system.positions, None if system.cell is None else 0.97 * system.cell)
    assert abs(energy(model, system) - energy(model, squeezed)) > 1e-6


@pytest.mark.parametrize("handedness", [1, -1], ids=["rotation", "reflection"])
def test_turning(model, system, handedness):
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    turn = turn * torch.sign(torch.linalg.det(turn)) * handedness
    before = predict(model, system)
    after = predict(model, System(system.numbers, system.positions @ turn, None if system.cell is None else system.cell @ turn))
    assert_close(after.energy, before.energy)
    assert_close(after.forces, before.forces @ turn)


def test_translation_with_wrapping(model, system):
    before = predict(model, system)
    positions = system.positions + torch.tensor([1.7, -2.9, 0.6], dtype=torch.float64)
    if system.cell is not None:
        positions = (positions @ torch.linalg.inv(system.cell) % 1.0) @ system.cell
    after = predict(model, system.moved(positions))
    assert_close(after.energy, before.energy)
    assert_close(after.forces, before.forces)


def test_renumbering(model, system):
    order = torch.randperm(len(system.numbers), generator=torch.Generator().manual_seed(2))
    before = predict(model, system)
    after = predict(model, System(system.numbers[order], system.positions[order], system.cell))
    assert_close(after.energy, before.energy)
    assert_close(after.forces, before.forces[order])


def test_a_batch_is_its_singles(model):
    systems = [*SYSTEMS.values(), molecule(3, seed=5, branch=1), molecule(1, branch=1)]
    together = predict(model, systems)
    singles = [predict(model, system) for system in systems]
    assert_close(together.energy, torch.cat([s.energy for s in singles]))
    assert_close(together.forces, torch.cat([s.forces for s in singles]))


def test_forces_are_the_slope_of_the_energy(model, system):
    forces, step = predict(model, system).forces, 2e-5
    for atom in range(min(3, len(system.numbers))):
        for axis in range(3):
            shift = torch.zeros_like(system.positions)
            shift[atom, axis] = step
            there, back = (energy(model, system.moved(system.positions + sign * shift)) for sign in (1, -1))
            assert float(forces[atom, axis]) == pytest.approx(-(there - back) / (2 * step), abs=2e-6, rel=1e-6)


@pytest.mark.parametrize("name", ["triclinic", "one_atom"])
def test_strain_derivatives_are_the_slope_of_the_energy(model, name):
    """Stress times volume: symmetric, positive under tension, and what six strains measure."""
    system, step = SYSTEMS[name], 1e-5
    strain = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(strained(model, system, strain), strain)
    assert_close(slope, slope.t())
    for first, second in [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]:
        small = torch.zeros(3, 3, dtype=torch.float64)
        small[first, second] += step / 2
        small[second, first] += step / 2
        there, back = (float(strained(model, system, sign * small)) for sign in (1, -1))
        assert float(slope[first, second]) == pytest.approx((there - back) / (2 * step), abs=2e-6, rel=1e-6)


def line() -> System:
    """Two atoms on a line with all their images."""
    cell = torch.diag(torch.tensor([2.4, 9.0, 9.0], dtype=torch.float64))
    return System(torch.tensor([6, 8]), torch.tensor([[0.0, 0, 0], [1.1, 0, 0]], dtype=torch.float64), cell)


@pytest.mark.parametrize("atoms", [molecule(4), line(), triclinic()], ids=["molecule", "line", "triclinic"])
def test_first_and_second_derivatives(model, atoms):
    graph = graph_of(atoms, CUTOFF)

    def total(positions):
        return model.all_branches(graph.with_(positions=positions)).sum()

    places = graph.positions.clone().requires_grad_(True)
    assert torch.autograd.gradcheck(total, places, fast_mode=True)
    assert torch.autograd.gradgradcheck(total, places, fast_mode=True)


@pytest.mark.parametrize("name", ["triclinic", "one_atom"])
def test_first_and_second_derivatives_in_the_strain(model, name):
    """The one atom's neighbours are its images: nothing but a strain moves them."""
    strain = (1e-2 * torch.eye(3, dtype=torch.float64)).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda e: strained(model, SYSTEMS[name], e), strain, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda e: strained(model, SYSTEMS[name], e), strain, fast_mode=True)


def test_gradients_of_the_force_loss_reach_the_parameters(model):
    """Every parameter of the backbone takes part: one that never learns is dead weight."""
    trained = make(model.spec.backbone["name"], elements=model.spec.elements).requires_grad_(True)
    prediction = trained.predict(graph_of([molecule(), molecule(5, seed=1, branch=1)], CUTOFF), training=True)
    (prediction.energy.square().sum() + prediction.forces.square().sum()).backward()
    dead = [name for name, p in trained.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert not dead


@pytest.mark.parametrize("name", ["molecule", "triclinic"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_gradients_of_the_force_loss_are_the_slope_in_the_parameters(backbone, name):
    """A backward pass through the one that makes forces, against central differences along a direction in each parameter."""
    trained, graph = make(backbone).requires_grad_(True), graph_of({"molecule": molecule(4)}.get(name, SYSTEMS[name]), CUTOFF)

    def loss(training=False):
        forces = trained.predict(graph, training=training).forces
        return (forces.square() + forces * torch.sin(torch.arange(forces.numel())).view_as(forces)).sum()

    loss(training=True).backward()
    generator, step, wrong = torch.Generator().manual_seed(0), 1e-6, {}
    for key, parameter in trained.named_parameters():
        along = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        slope = 0.0 if parameter.grad is None else float((parameter.grad * along).sum())
        with torch.no_grad():
            ends = [float(loss(parameter.add_(factor * step * along) is None).detach()) for factor in (1, -2)]
            parameter.add_(step * along)
        difference = (ends[0] - ends[1]) / (2 * step)
        if abs(difference - slope) > 1e-5 * max(abs(slope), 1e-3):
            wrong[key] = (slope, difference)
    assert not wrong


def test_far_molecules_add(model):
    left, right = molecule(6, seed=1), molecule(4, seed=2)
    numbers = torch.cat([left.numbers, right.numbers])
    both = System(numbers, torch.cat([left.positions, right.positions + 50.0]))
    assert energy(model, both) == pytest.approx(energy(model, left) + energy(model, right), abs=1e-10)


@pytest.mark.parametrize("name", ["triclinic", "one_atom"])
def test_supercells_add(model, name):
    repeats = (2, 1, 3)
    assert energy(model, supercell(SYSTEMS[name], repeats)) == pytest.approx(
        6 * energy(model, SYSTEMS[name]), rel=1e-10, abs=1e-10
    )


@pytest.mark.parametrize("crossing", ["pairs", "lone", "image"])
def test_smooth_at_the_cutoff(model, crossing):
    """An atom crosses the cutoff of others, of its only neighbour, or of an image: all closes up as fast as the steps shrink."""
    steps = [1e-2, 1e-3, 1e-4, 1e-5, 1e-6]
    jumps = []
    for step in steps:
        sides = [predict(model, _at_distance(CUTOFF + sign * step, crossing)) for sign in (-1, 1)]
        jumps.append((float((sides[0].energy - sides[1].energy).abs()), float((sides[0].forces - sides[1].forces).abs().max())))
    pulls = 50.0 if crossing == "image" else 1.0  # of the image on the near side, which moves too
    for step, (energy_jump, force_jump) in zip(steps, jumps, strict=True):
        assert energy_jump <= 0.1 * pulls * step
        assert force_jump <= 3.0 * pulls * step
    assert jumps[2][0] < 1e-2 * (1.0 if pulls == 1.0 else 2.0) * jumps[0][0] + 1e-12


def _at_distance(distance: float, crossing: str) -> System:
    """Two atoms or two pairs at a distance; or two atoms of a cell, one of which has the other's image near on its far side."""
    positions = torch.tensor([[0.0, 0, 0], [distance, 0, 0], [0, 1.1, 0.3], [distance, 1.0, 0.4]], dtype=torch.float64)
    count, cell = 4 if crossing == "pairs" else 2, None
    if crossing == "image":
        cell = torch.tensor([[5.3, 0, 0], [1.0, 8.0, 0], [0, 2.0, 9.0]], dtype=torch.float64)
    return System(torch.tensor([6, 8, 1, 1])[:count], positions[:count], cell)


def test_isolated_atom(model):
    prediction = predict(model, [molecule(1), molecule()])
    assert torch.isfinite(prediction.energy).all()
    assert torch.equal(prediction.forces[0], torch.zeros(3, dtype=torch.float64))
    assert torch.equal(predict(model, molecule(1)).forces, torch.zeros(1, 3, dtype=torch.float64))
    elsewhere = torch.tensor([[31.7, -4.4, 1e3]], dtype=torch.float64)
    wide = 20.0 * torch.eye(3, dtype=torch.float64) + torch.rand(3, 3, generator=torch.Generator().manual_seed(0)).double()
    places = [molecule(1), molecule(1).moved(elsewhere), System(molecule(1).numbers, elsewhere, wide)]
    assert len({energy(model, place) for place in places}) == 1, "a constant of its element: no place or cell changes a bit of it"
    trained = make(model.spec.backbone["name"], elements=model.spec.elements).requires_grad_(True)
    alone = trained.predict(graph_of(molecule(1), CUTOFF), training=True)
    (alone.energy.sum() + alone.forces.square().sum()).backward()
    gradients = [p.grad for p in trained.parameters() if p.grad is not None]
    assert any(bool(each.any()) for each in gradients)
    assert all(torch.isfinite(each).all() for each in gradients)


@pytest.mark.parametrize("cell", [None, [2.9, 8.0, 8.0]], ids=["molecule", "images"])
def test_coincident_and_collinear_atoms_train(model, cell):
    """Two atoms at one place, the one perhaps an image, and three on a line: first and second derivatives stay finite."""
    trained = make(model.spec.backbone["name"], elements=model.spec.elements).requires_grad_(True)
    places = torch.tensor([[0.0, 0, 0], [0, 0, 0], [1.1, 0, 0], [2.2, 0, 0]], dtype=torch.float64)
    if cell is not None:
        cell = torch.diag(torch.tensor(cell, dtype=torch.float64))
        places[1] += cell[0]
    prediction = trained.predict(graph_of(System(torch.tensor([8, 1, 6, 1]), places, cell), CUTOFF), training=True)
    (prediction.energy.sum() + prediction.forces.square().sum()).backward()
    assert torch.isfinite(prediction.forces).all()
    assert all(torch.isfinite(p.grad).all() for p in trained.backbone.parameters())


def test_all_elements(model):
    numbers = torch.arange(1, 119)
    positions = torch.stack([1.5 * numbers, 0 * numbers, 0 * numbers], -1).double()
    prediction = predict(model, System(numbers, positions))
    assert torch.isfinite(prediction.energy).all()
    assert torch.isfinite(prediction.forces).all()


@pytest.mark.parametrize("backbone", BACKBONES)
def test_fp32_follows_fp64(backbone):
    exact, single = make(backbone), make(backbone).float()
    graph = graph_of([molecule(), triclinic()], CUTOFF)
    left, right = exact.predict(graph, training=False), single.predict(_single(graph), training=False)
    assert right.energy.dtype == right.forces.dtype == torch.float32
    torch.testing.assert_close(right.energy.double(), left.energy, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(right.forces.double(), left.forces, rtol=1e-3, atol=1e-3)


def _single(graph):
    return graph.with_(**{name: getattr(graph, name).float() for name in ("positions", "cell", "edge_shift", "energy", "forces")})


@pytest.mark.parametrize("backbone", BACKBONES)
def test_graph_readout_is_not_additive(backbone):
    model = make(backbone, readout="graph")
    left, right = molecule(6, seed=1), molecule(4, seed=2)
    both = System(torch.cat([left.numbers, right.numbers]), torch.cat([left.positions, right.positions + 50.0]))
    assert abs(energy(model, both) - energy(model, left) - energy(model, right)) > 1e-6


@pytest.mark.parametrize("backbone", BACKBONES)
def test_force_head(backbone):
    """Forces from a head turn with the atoms, vanish on isolated ones, and train."""
    model = make(backbone, forces="head").requires_grad_(True)
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    systems = [molecule(), molecule(5, seed=4, branch=1), molecule(1)]
    turned = [system.moved(system.positions @ turn) for system in systems]
    before = model.predict(graph_of(systems, CUTOFF), training=True)
    assert_close(predict(model, turned).forces, before.forces @ turn)
    assert not before.forces[-1].any()
    before.forces.square().sum().backward()
    assert all(bool(p.grad.abs().sum() > 0) for p in model.heads["second"].forces.parameters())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_it_learns_a_pair_potential(backbone):
    """In forty steps, errors of forces fall far below the forces themselves."""
    model = make(backbone).requires_grad_(True)
    graph = graph_of([molecule(seed=seed) for seed in range(4)], CUTOFF)
    places = graph.positions.clone().requires_grad_(True)
    lengths = graph.with_(positions=places).edge_vectors().norm(dim=-1)
    wells = ((1 - torch.exp(1.4 - lengths)).square() - 1) * (1 - lengths / CUTOFF).square()
    forces = -torch.autograd.grad(wells.sum(), places)[0]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(40):
        loss = (model.predict(graph, training=True).forces - forces).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.4 * float(forces.abs().mean())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_config_is_known_without_torch(backbone):
    """What a login node reads is what the full import gives."""
    imported = importlib.import_module(f"model.backbones.{backbone}").Config
    read = registry.backbone_config(backbone)
    assert json.dumps(read.model_json_schema()) == json.dumps(imported.model_json_schema())
    assert read().model_dump() == imported().model_dump()
    assert read().name == backbone
