"""`make bench-train`: one training step of the reference's lead model, ours beside frozen plain eager code of the same maths.

Forward, forces, backward through the forces, AdamW; batches of 25 structures of 5 to 100 atoms, their graphs made before. Before
anything is timed, energies, forces and the gradient of the force loss for every parameter are compared in FP64, on ten batches.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Callable

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench import timing
from bench.eager_painn import EagerPainn, loaded, paired, plain_loss
from bench.structures import make_block
from model.allocator import keep_freed_memory
from model.data.block import Block
from model.data.loader import collate
from model.graph import AtomGraph
from model.kernels import build
from model.mesh import Mesh
from model.multitask import MultiTaskModel, Statistics
from model.parallel import Ranks
from model.precision import POLICIES, apply
from model.specs import LossSpec, ModelSpec, OptimizerSpec, Precision
from model.training.buckets import Buckets
from model.training.loss import Deviations, Loss, count_labels
from model.training.optimizer import Optimizer

LEAD = ModelSpec(
    backbone={"name": "painn", "layers": 2, "hidden": 337, "radial": 4, "mixing": True},
    cutoff=5.0,
    max_neighbors=20,
    readout="graph",
    elements="number",
    head_widths=(50, 50, 776, 776),
)
"""12,089,947 parameters with 16 branches: 1,485,867 in the backbone, 662,755 in each branch."""
BRANCHES, BATCH, RATE = 16, 25, 1e-4
TOLERANCE = 1e-10
REFERENCE: dict[Precision, float] = {"fp64": 3.4, "fp32": 6.0}
"""Structures per second of the reference on one core; a baseline below that would make the ratio void."""
NAMES = tuple(f"b{k}" for k in range(BRANCHES))
STATISTICS = Statistics(17.0, (1.0,) * BRANCHES)

Step = Callable[[AtomGraph], object]


def main() -> None:
    """Measure and report."""
    small = timing.is_small("One training step, ours beside plain eager code.")
    keep_freed_memory()  # in every arm, as `python -m model` does
    torch.set_num_threads(1)
    timing.say_machine()
    compile_s = compiled()
    made = f"one C++ kernel, {compile_s:.1f} CPU-s" if compile_s else "none"
    timing.say(
        f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}; compiled, in ours: {made}; in the baseline: none"
    )
    rounds, size = (2, 2) if small else (5, BATCH)
    blocks = [make_block(2, seed=98), *(make_block(size, seed) for seed in range(rounds))]  # the first one warms up
    check([graph_of(make_block(1 if small else 1 + k % 4, seed=90 + k), torch.float64) for k in range(10)])
    steps = {f"{name} {p}": make(p) for p in REFERENCE for name, make in (("ours", our_step), ("eager", eager_step))}
    graphs: dict[str, list[AtomGraph]] = {p: [graph_of(block, POLICIES[p].dtype) for block in blocks] for p in REFERENCE}
    steps |= {"ours predict": our_prediction(), "eager predict": eager_prediction()}
    graphs["predict"] = graphs["fp64"]
    arms = {name: _arm(step, graphs[name.split()[1]]) for name, step in steps.items()}
    seconds = timing.take_turns(arms, rounds)
    share = dgemm_share(steps["ours fp64"], graphs["fp64"][1:], seconds["ours fp64"], 256 if small else 1536)
    report(seconds, size, {"dgemm_share": share} | ({"compile_cpu_s": compile_s} if compile_s else {}), small=small)


def compiled() -> float:
    """Compile the kernel of ours anew; return the CPU-seconds that it took, or 0 without a compiler."""
    began = timing.cpu_s()
    kept = os.environ.get("XDG_CACHE_HOME")
    with tempfile.TemporaryDirectory(prefix="bench-train-") as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        kernel = build.load("message")
    if kept is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = kept
    return timing.cpu_s() - began if kernel.library else 0.0


def graph_of(block: Block, dtype: torch.dtype) -> AtomGraph:
    """Return structures as one batch, spread over the branches."""
    graph = collate([(0, block)], LEAD.cutoff, LEAD.max_neighbors, [None], dtype)
    return graph.with_(branch=torch.arange(graph.num_graphs) % BRANCHES)


def our_model(precision: Precision) -> MultiTaskModel:
    """Return the lead model."""
    model = MultiTaskModel(LEAD, NAMES, STATISTICS, seed=0)
    apply(model, precision)
    return model


def our_step(precision: Precision) -> Step:
    """Return a step as `model.training.trainer` makes it on one rank: what its user gets."""
    model = our_model(precision)
    buckets = Buckets(model.parameter_groups(), lambda _: (0,), Mesh(Ranks(), "gloo"), next(model.parameters()).detach(), tail=1)
    optimizer, loss = Optimizer(OptimizerSpec(), buckets), Loss(LossSpec(), [1.0] * BRANCHES)
    made = [0]

    def step(graph: AtomGraph) -> None:
        counts = count_labels(graph, BRANCHES)
        buckets.zero()
        value = loss(Deviations(model.predict(graph, training=True), graph), counts)
        torch.autograd.backward(value)
        _, norm = buckets.reduce(value.detach())
        optimizer.step(made[0], RATE, norm)
        made[0] += 1

    return step


def eager_step(precision: Precision) -> Step:
    """Return a step of the baseline: plain torch throughout, no gradient norm, no clipping."""
    eager = loaded(our_model("fp64"), POLICIES[precision].dtype)
    optimizer = torch.optim.AdamW(eager.parameters(), lr=RATE, weight_decay=0.0)

    def step(graph: AtomGraph) -> None:
        optimizer.zero_grad()
        energy, forces = eager(graph)
        torch.autograd.backward(plain_loss(energy, forces, graph))
        optimizer.step()

    return step


def our_prediction() -> Step:
    """Return energies and forces in FP64, as `model.inference.predictor` makes them."""
    model = our_model("fp64").requires_grad_(False)
    return lambda graph: model.predict(graph, training=False).forces.sum()


def eager_prediction() -> Step:
    """Return the same by the baseline."""
    eager = loaded(our_model("fp64"), torch.float64).requires_grad_(False)

    def predict(graph: AtomGraph) -> None:
        positions = graph.positions.detach().requires_grad_(True)
        torch.autograd.grad(eager.energy(graph, positions).sum(), positions)

    return predict


def check(graphs: list[AtomGraph]) -> None:
    """Compare energies, forces and every parameter's gradient with the baseline's in FP64.

    Raises:
        AssertionError: They differ by more than `TOLERANCE` of the largest entry.
    """
    model = our_model("fp64")
    eager = loaded(model, torch.float64)
    assert _count(eager) == sum(p.numel() for p in model.parameters())
    found = [_differences(model, eager, graph) for graph in graphs]
    errors = {key: max(each[key] for each in found) for key in found[0]}
    listed = ", ".join(f"{key} {value:.0e}" for key, value in errors.items())
    timing.say(f"ours beside eager, FP64, {len(graphs)} batches, largest difference over largest entry: {listed}")
    assert max(errors.values()) <= TOLERANCE, errors


def _differences(model: MultiTaskModel, eager: EagerPainn, graph: AtomGraph) -> dict[str, float]:
    model.zero_grad()
    eager.zero_grad()
    ours = model.predict(graph, training=True)
    energy, forces = eager(graph)
    errors = {"energies": _error(ours.energy, energy), "forces": _error(ours.forces, forces)}
    torch.autograd.backward(plain_loss(ours.energy, ours.forces, graph))
    torch.autograd.backward(plain_loss(energy, forces, graph))
    return errors | {"gradients": max(_error(a, b) for a, b in paired(model, eager, gradients=True))}


def dgemm_share(step: Step, graphs: list[AtomGraph], seconds: list[float], size: int) -> float:
    """Return the rate at which ours does the arithmetic of its matrix products, over that of the best square DGEMM."""
    a = torch.rand(size, size, dtype=torch.float64)
    product = torch.empty_like(a)
    square = timing.take_turns({"dgemm": lambda _: torch.mm(a, a, out=product)}, rounds=5)["dgemm"]
    peak = 2 * size**3 / min(square)
    flops = [_products(step, graph) for graph in graphs]
    each = sum(flops) / sum(graph.num_graphs for graph in graphs)
    timing.say(f"square DGEMM {peak / 1e9:.1f} GFLOP/s; matrix products of a step: {each / 1e9:.2f} GFLOP for a structure")
    return statistics.median(count / spent for count, spent in zip(flops, seconds, strict=True)) / peak


def _products(step: Step, graph: AtomGraph) -> float:
    with FlopCounterMode(display=False) as counter:
        step(graph)
    return float(counter.get_total_flops())


def report(seconds: dict[str, list[float]], size: int, more: dict[str, float], *, small: bool) -> None:
    """Print the table and the figures; the ratios are void where the baseline is slower than the reference."""
    rates = {name: timing.rate(size, each) for name, each in seconds.items()}
    ratios = {p: timing.ratio(seconds[f"ours {p}"], seconds[f"eager {p}"]) for p in [*REFERENCE, "predict"]}
    rows = [["", "ours", "eager", "ours/eager", "the reference, per core"]]
    rows += [
        [p, f"{rates[f'ours {p}']:.2f}", f"{rates[f'eager {p}']:.2f}", f"{ratios[p]:.2f}", f"{REFERENCE[p]}"] for p in REFERENCE
    ]
    timing.say_table(f"training, structures per CPU-second, batch {size}, {len(seconds['ours fp64'])} rounds", rows)
    predicted = [
        "energies and forces, fp64",
        f"{rates['ours predict']:.2f}",
        f"{rates['eager predict']:.2f}",
        f"{ratios['predict']:.2f}",
    ]
    timing.say_table("prediction, the same structures", [["", "ours", "eager", "ours/eager"], predicted])
    slow = [p for p in REFERENCE if rates[f"eager {p}"] < REFERENCE[p]]
    for p in slow:
        timing.say(f"{p}: VOID, the baseline does not reach the reference's {REFERENCE[p]}/s here")
    figures: timing.Figures = {f"train_{p}_vs_eager": ratios[p] for p in REFERENCE}
    figures |= {"predict_fp64_vs_eager": ratios["predict"], "predict_fp64_per_cpu_s": rates["ours predict"]}
    figures |= {f"{p}_per_cpu_s": rates[f"ours {p}"] for p in REFERENCE}
    figures |= {f"eager_{p}_per_cpu_s": rates[f"eager {p}"] for p in REFERENCE}
    timing.finish(figures | more | {"void": ", ".join(slow)}, small=small)


def _arm(step: Step, graphs: list[AtomGraph]) -> Callable[[int], object]:
    return lambda number: step(graphs[number + 1])


def _error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    ours, theirs = ours.detach(), theirs.detach()
    largest = float(theirs.abs().max())
    return float((ours - theirs).abs().max()) / largest if largest else float(ours.abs().max())


def _count(eager: EagerPainn) -> int:
    return int(np.sum([p.numel() for p in eager.parameters()]))


if __name__ == "__main__":
    main()
