"""The compiled message beside plain torch: values, derivatives, threads, models; and what happens without a compiler."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from graphs import graph_of, molecule, one_atom, triclinic
from torch.autograd import gradcheck, gradgradcheck

from bench.structures import make_block
from bench.train import LEAD
from model import precision
from model.data.loader import collate
from model.kernels import build
from model.layers import message as messages
from model.multitask import MultiTaskModel, unit_statistics
from model.specs import ModelSpec

ROOT = Path(__file__).parents[2]
EDGES = torch.tensor([[1, 2, 0, 4, 2, 0, 3, 0, 4], [0, 0, 1, 1, 1, 2, 2, 4, 4]])  # nothing comes to atom 3, one sends to itself
KERNEL = build.load("message")
pytestmark = pytest.mark.skipif(KERNEL.library is None, reason=KERNEL.reason)


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_(True)


def inputs(gates: int, carried: bool, edges: int = 9, atoms: int = 5, width: int = 5):
    some = [numbers(edges, 6), numbers(3, gates, width, seed=1), numbers(atoms, gates, width, seed=2)]
    return [*some, numbers(atoms, 3, width, seed=3)] if carried else some


def compiled(neighbors):
    return lambda *tensors: messages.message(*tensors, *([None] if len(tensors) == 3 else []), neighbors)


FORMS = [(2, False), (3, False), (3, True)]


@pytest.mark.parametrize(("gates", "carried"), FORMS)
def test_sums_and_first_and_second_derivatives(gates, carried):
    neighbors = messages.neighbors_of(EDGES, 5, torch.float64)
    assert neighbors.by_receiver is not None
    tensors = inputs(gates, carried)
    for ours, plain in zip(compiled(neighbors)(*tensors), messages._plain(neighbors, *tensors), strict=True):
        torch.testing.assert_close(ours, plain)
    assert gradcheck(compiled(neighbors), tensors)
    assert gradgradcheck(compiled(neighbors), tensors)


def test_edges_in_any_order_give_the_same_sums():
    shuffle = torch.tensor([3, 8, 0, 5, 1, 7, 2, 6, 4])
    geometry, *rest = inputs(3, True)
    sorted_, shuffled = (messages.neighbors_of(EDGES[:, index], 5, torch.float64) for index in (slice(None), shuffle))
    for ours, theirs in zip(compiled(sorted_)(geometry, *rest), compiled(shuffled)(geometry[shuffle], *rest), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_no_edges_and_no_atoms():
    for atoms in (3, 0):
        neighbors = messages.neighbors_of(EDGES[:, :0], atoms, torch.float64)
        tensors = inputs(3, True, edges=0, atoms=atoms)
        total = sum(each.square().sum() for each in compiled(neighbors)(*tensors))
        assert float(total.detach()) == 0.0
        assert not any(gradient.any() for gradient in torch.autograd.grad(total, tensors))


def derivatives(function, tensors, order):
    """Return a chain of derivatives, each of all inputs."""
    total = sum(each.square().sum() for each in function(*tensors))
    found = []
    for _ in range(order):
        grads = torch.autograd.grad(total, tensors, create_graph=True)
        found += [each.detach() for each in grads]
        total = sum(each.square().sum() for each in grads)
    return found


def test_third_derivatives():
    neighbors = messages.neighbors_of(EDGES, 5, torch.float64)
    tensors = inputs(3, True)
    plain = derivatives(lambda *each: messages._plain(neighbors, *each), tensors, 3)
    for ours, theirs in zip(derivatives(compiled(neighbors), tensors, 3), plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9 * float(theirs.abs().max()))


@pytest.mark.parametrize("width", [1, 7, 40])
def test_any_number_of_threads_gives_the_same_bits(width):
    generator = torch.Generator().manual_seed(0)
    pairs = torch.randint(60, (2, 3000), generator=generator)
    found = []
    for threads in (1, 2, 5):
        torch.set_num_threads(threads)
        try:
            neighbors = messages.neighbors_of(pairs, 60, torch.float64)
            found.append(derivatives(compiled(neighbors), inputs(3, True, edges=3000, atoms=60, width=width), 2))
        finally:
            torch.set_num_threads(1)
    assert len(neighbors.by_receiver.bounds) > 5
    assert all(torch.equal(first, other) for others in found[1:] for first, other in zip(found[0], others, strict=True))


@pytest.fixture
def plain_torch(monkeypatch):
    """Let models run without the kernel while it is called."""

    def run(function):
        with monkeypatch.context() as patch:
            patch.setattr(messages.build, "load", lambda _: build.Kernel(None, "left out"))
            return function()

    return run


SMALL = LEAD.model_copy(update={"backbone": {**LEAD.backbone, "hidden": 37}, "head_widths": (5, 6)})
DEFAULT = ModelSpec(backbone={"name": "painn", "layers": 3, "hidden": 16, "radial": 6})


def batches(dtype):
    """Ten batches of other shapes: molecules, crystals, atoms that see only themselves, one atom without neighbours."""
    made = [collate([(0, make_block(1 + k % 4, seed=k))], 5.0, 20 if k % 2 else None, [None], dtype) for k in range(8)]
    made += [graph_of([molecule(9), triclinic(), one_atom(), molecule(1)], 3.0, dtype), graph_of(molecule(1), 3.0, dtype)]
    return [each.with_(branch=torch.arange(each.num_graphs) % 2) for each in made]


def answers(model, graph):
    """Return energies, forces, stress, and the gradient of a force loss by every parameter."""
    model.zero_grad()
    found = model.predict(graph, training=True)
    mixed = torch.sin(torch.arange(found.forces.numel(), dtype=graph.positions.dtype)).view_as(found.forces)
    torch.autograd.backward((found.forces * mixed).sum() + found.forces.square().sum() + found.energy.sum())
    strain = torch.zeros(3, 3, dtype=graph.positions.dtype, requires_grad=True)
    moved = graph.with_(positions=graph.positions + graph.positions @ strain, cell=graph.cell + graph.cell @ strain)
    (stress,) = torch.autograd.grad(model.all_branches(moved)[0].sum(), strain)
    gradients = {name: torch.zeros_like(p) if p.grad is None else p.grad.clone() for name, p in model.named_parameters()}
    return {"energy": found.energy.detach(), "forces": found.forces.detach(), "stress": stress, **gradients}


@pytest.mark.parametrize("spec", [SMALL, DEFAULT], ids=["lead", "default"])
@pytest.mark.parametrize(("name", "tolerance"), [("fp64", 1e-10), ("fp32", 2e-3)])
def test_models_agree_with_plain_torch_in_fp64(spec, name, tolerance, plain_torch):
    ours, exact = (MultiTaskModel(spec, ("a", "b"), unit_statistics(spec, 2, 15.0), seed=3) for _ in range(2))
    precision.apply(ours, name)
    precision.apply(exact, "fp64")
    for graph, same in zip(batches(precision.POLICIES[name].dtype), batches(torch.float64), strict=True):
        expected = plain_torch(lambda same=same: answers(exact, same))
        for key, value in answers(ours, graph).items():
            size = float(expected[key].abs().max())
            assert float((value.double() - expected[key]).abs().max()) <= tolerance * size + tolerance**2, key


def test_weights_take_part_only_where_their_gradient_is_asked_for(monkeypatch):
    seen = []
    send = messages._send

    def note(*arguments):
        seen.append(list(arguments[4]))
        return send(*arguments)

    monkeypatch.setattr(messages, "_send", note)
    model = MultiTaskModel(DEFAULT, ("a",), unit_statistics(DEFAULT, 1, 15.0))
    model.double().predict(batches(torch.float64)[0].with_(branch=torch.zeros(1, dtype=torch.int64)), training=False)
    assert seen
    assert not any(weight for _, weight, *_ in seen), "the gradient by positions makes none of weights"


ASK = """
import sys, torch
from model.layers import message
pairs = torch.tensor([[1, 0], [0, 1]])
plain = [message.neighbors_of(pairs, 2, torch.float64).by_receiver is None for _ in range(3)]
tensors = [torch.ones(2, 5, dtype=torch.float64), *(torch.ones(2, 3, 4, dtype=torch.float64) for _ in range(3))]
scalars, _ = message.message(*tensors, message.neighbors_of(pairs, 2, torch.float64))
sys.stdout.write(f"{plain} {scalars.sum():.0f} {message.build.load('message').compile_s > 0}")
"""


STARVE = """
import resource, sys, torch
from dataclasses import replace
from model.layers import message
torch.set_num_threads(3)
edges = 400_000
neighbors = message.neighbors_of(torch.arange(edges).remainder(50).repeat(2, 1), 50, torch.float64)
whole = replace(neighbors, by_sender=replace(neighbors.by_sender, bounds=torch.tensor([0, 50])))
tensors = [torch.ones(edges, 5, dtype=torch.float64), *(torch.ones(n, 3, 4, dtype=torch.float64) for n in (2, 50, 50))]
message._send(neighbors, [torch.ones(50, 4).double(), torch.ones(50, 3, 4).double()], tensors, (), [True] * 4)
used = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData")) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + (40 << 20), used + (40 << 20)))
try:
    message._send(whole, [torch.ones(50, 4).double(), torch.ones(50, 3, 4).double()], tensors, (), [True] * 4)
except MemoryError as error:
    sys.stdout.write(str(error))
"""


def test_memory_that_runs_out_in_the_kernel_is_an_error_and_no_crash():
    own = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", STARVE], env=own, capture_output=True, text=True, timeout=120)
    assert done.stdout == "not enough memory for the edges that a message is summed over", done.stderr
    assert done.returncode == 0


def ask(folder: Path, **environment: str) -> tuple[str, str]:
    own = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache"), **environment}
    done = subprocess.run([sys.executable, "-c", ASK], env=own, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_without_a_compiler_torch_does_it_and_that_is_said_once(tmp_path):
    out, said = ask(tmp_path, PATH=str(tmp_path), CXX="")
    assert out == "[True, True, True] 16 False"
    assert said.count("plain torch runs instead") == 1
    assert "no C++ compiler on the PATH" in said


def test_a_compiler_that_fails_is_named_with_its_last_word(tmp_path):
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\n[ $1 = --version ] && exit 0\necho no licence left >&2\nexit 3\n")
    broken.chmod(0o755)
    out, said = ask(tmp_path, CXX=str(broken))
    assert out == "[True, True, True] 16 False"
    assert f"{broken} fails: no licence left" in said


def test_a_kernel_is_compiled_once_and_never_kept_where_others_write(tmp_path):
    assert ask(tmp_path) == ("[False, False, False] 16 True", "")
    assert ask(tmp_path)[0] == "[False, False, False] 16 False"
    kept = tmp_path / "cache" / "campaign" / "kernels"
    (library,) = kept.glob("*.so")
    library.write_bytes(b"put there by somebody")
    kept.chmod(0o777)
    assert ask(tmp_path) == ("[False, False, False] 16 True", "")
    assert library.read_bytes() == b"put there by somebody"
