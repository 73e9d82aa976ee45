"""Parameters and memory, foretold without torch, against models that were built and steps that were run."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from bench.train import LEAD
from model import precision, registry
from model.feasibility import Batch, num_parameters, peak_memory_gb, step_gflop
from model.graph import AtomGraph
from model.kernels import build as kernel
from model.layers.triplets import triplets
from model.multitask import MultiTaskModel, unit_statistics
from model.specs import ModelSpec


def build(spec: ModelSpec, branches: int, device: str = "cpu") -> MultiTaskModel:
    with torch.device(device):
        return MultiTaskModel(spec, tuple(f"b{i}" for i in range(branches)), unit_statistics(spec, branches, 10.0))


@pytest.mark.parametrize("backbone", registry.backbones())
@pytest.mark.parametrize("elements", ["embedding", "number"])
@pytest.mark.parametrize("changes", [{}, {"forces": "head"}, {"charge_spin": True, "head_widths": (5, 9)}, {"heads": "shared"}])
def test_parameters_are_exact(backbone, elements, changes):
    known = registry.backbone_config(backbone).model_fields
    small = {"layers": 1, "hidden": 7, "radial": 3, "mixing": False, "filters": 5, "gaussians": 4}
    large = {"layers": 3, "hidden": 16, "radial": 8, "mixing": True, "filters": 24, "gaussians": 9}
    for sizes in (small, large):
        options = {"name": backbone} | {key: value for key, value in sizes.items() if key in known}
        spec = ModelSpec.model_validate({"backbone": options, "elements": elements, **changes})
        assert num_parameters(spec, 3) == sum(p.numel() for p in build(spec, 3, "meta").parameters())


def test_the_lead_model_of_the_reference():
    """HydraGNN's PaiNN: 1,485,867 parameters in the backbone, 662,755 in each of 16 branches, 12.1 M in all."""
    model = build(LEAD, 16, "meta")
    counts = {group: sum(p.numel() for _, p in named) for group, named in model.parameter_groups().items()}
    assert counts["backbone"] == 1_485_867
    assert set(counts.values()) == {1_485_867, 662_755}
    assert num_parameters(LEAD, 16) == 12_089_947


@pytest.fixture
def plain_torch(monkeypatch):
    """Keep the CPU's own kernels away: accelerators run plain torch, and that is foretold."""
    monkeypatch.setattr(kernel, "load", lambda _: kernel.Kernel(None, "plain torch is foretold"))


@pytest.mark.parametrize("backbone", registry.backbones())
@pytest.mark.parametrize(
    "changes", [{}, {"forces": "head"}, {"elements": "number", "readout": "graph"}], ids=["plain", "head", "number"]
)
@pytest.mark.parametrize("name", ["fp64", "fp32", "bf16"])
def test_memory_of_a_step(backbone, changes, name, plain_torch):
    generator = random.Random(f"{backbone}{changes}{name}")
    options = {"name": backbone, "layers": generator.randint(2, 4), "hidden": generator.randint(40, 100)}
    spec = ModelSpec.model_validate({"backbone": options, **changes})
    atoms, edges = 200, 200 * generator.randint(3, 20)
    measured = measure(spec, 2, (atoms, edges), name)
    assert peak_memory_gb(spec, 2, Batch.even(atoms, edges), name) == pytest.approx(measured, rel=0.15)


@pytest.mark.parametrize("backbone", registry.backbones())
@pytest.mark.parametrize("changes", [{}, {"forces": "head"}, {"elements": "number"}], ids=["plain", "head", "number"])
def test_arithmetic_of_a_step(backbone, changes, plain_torch):
    """What torch counts in matrix products of a whole step, forces and both backward passes."""
    generator = random.Random(f"{backbone}{changes}")
    options = {"name": backbone, "layers": generator.randint(2, 3), "hidden": generator.randint(40, 80)}
    if backbone == "mace":
        options |= {"max_ell": 3, "correlation": 3, "hidden": 16}
    spec = ModelSpec.model_validate({"backbone": options, **changes})
    model, atoms, edges = precision.apply(build(spec, 2), "fp32"), 60, 500
    graph = example((atoms, edges), 2, torch.float32)
    with FlopCounterMode(display=False) as counter:
        step(model, torch.optim.AdamW(model.parameters()), graph)
    batch = Batch(atoms, edges, triplets(graph).shape[1])
    assert step_gflop(spec, batch) == pytest.approx(counter.get_total_flops() / 1e9, rel=0.1)


def test_memory_is_sane_over_five_decades():
    small = ModelSpec(backbone={"name": "painn", "hidden": 16, "layers": 1})
    large = ModelSpec(backbone={"name": "painn", "hidden": 1000, "layers": 6})
    assert 1e-4 < peak_memory_gb(small, 1, Batch.even(20, 200)) < 5e-3
    assert 50 < peak_memory_gb(large, 16, Batch.even(50 * 200, 50 * 200 * 20), "fp64") < 200
    assert peak_memory_gb(large, 1, Batch(0, 0, 0)) == pytest.approx(4 * 4 * num_parameters(large, 1) / 1e9)


def test_it_answers_without_torch():
    code = (
        "import sys; from model.specs import ModelSpec; from model.feasibility import Batch, peak_memory_gb;"
        "print(peak_memory_gb(ModelSpec(backbone={'name': 'painn'}), 3, Batch(400, 4000, 0))); assert 'torch' not in sys.modules"
    )
    assert float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout) > 0


def measure(spec: ModelSpec, branches: int, batch: tuple[int, int], name: str) -> float:
    """Return the peak of live tensor bytes of one training step, in GB."""
    model = precision.apply(build(spec, branches), name)
    optimizer = torch.optim.AdamW(model.parameters())
    held = 3 * sum(p.numel() * p.element_size() for p in model.parameters())
    step(model, optimizer, example((8, 16), branches, precision.POLICIES[name].dtype))
    optimizer.zero_grad(set_to_none=True)
    graph = example(batch, branches, precision.POLICIES[name].dtype)
    held += sum(t.numel() * t.element_size() for t in vars(graph).values() if t is not None)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        step(model, optimizer, graph)
    live = peak = 0
    for event in record.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    return (held + peak) / 1e9


def step(model: MultiTaskModel, optimizer: torch.optim.Optimizer, graph: AtomGraph) -> None:
    prediction = model.predict(graph, training=True)
    loss = (prediction.energy - graph.energy).abs().mean() + (prediction.forces - graph.forces).abs().mean()
    loss.backward()
    optimizer.step()


def example(batch: tuple[int, int], branches: int, dtype: torch.dtype) -> AtomGraph:
    atoms, edges = batch
    generator = torch.Generator().manual_seed(0)
    receiver = torch.randint(atoms, (edges,), generator=generator).sort().values
    sender = (receiver + torch.randint(1, atoms, (edges,), generator=generator)) % atoms
    graphs = atoms // 4
    return AtomGraph(
        numbers=torch.randint(1, 90, (atoms,), generator=generator),
        positions=4 * torch.rand(atoms, 3, generator=generator, dtype=dtype),
        cell=torch.zeros(graphs, 3, 3, dtype=dtype),
        edge_index=torch.stack([sender, receiver]),
        edge_shift=torch.zeros(edges, 3, dtype=dtype),
        graph=torch.arange(graphs).repeat_interleave(4),
        num_atoms=torch.full((graphs,), 4),
        branch=torch.arange(graphs) % branches,
        charge=torch.zeros(graphs, dtype=torch.long),
        spin=torch.ones(graphs, dtype=torch.long),
        energy=torch.zeros(graphs, dtype=dtype),
        forces=torch.zeros(atoms, 3, dtype=dtype),
    )
