"""Loss, schedule, layout, optimizer and metrics, each against an independent account of what it should do."""

from __future__ import annotations

import math
import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from model.graph import AtomGraph
from model.layout import branch_parallel, data_parallel
from model.mesh import Mesh
from model.multitask import Prediction
from model.parallel import Ranks
from model.specs import BranchSpec, LossSpec, OptimizerSpec
from model.training.ahead import Ahead
from model.training.branches import _loads
from model.training.buckets import Buckets
from model.training.loss import Deviations, Loss, count_labels
from model.training.metrics import LargestErrors, Scales, metrics_of, objective_of
from model.training.optimizer import Optimizer
from model.training.schedule import decayed, learning_rate

NAN = float("nan")


def labelled(energy: list[float], forces: list[list[float]], atoms: list[int], branch: list[int]) -> AtomGraph:
    """Return a graph that has labels and nothing to compute from."""
    num_atoms = torch.tensor(atoms)
    total = int(num_atoms.sum())
    return AtomGraph(
        numbers=torch.ones(total, dtype=torch.int64),
        positions=torch.zeros(total, 3, dtype=torch.float64),
        cell=torch.zeros(len(atoms), 3, 3, dtype=torch.float64),
        edge_index=torch.zeros(2, 0, dtype=torch.int64),
        edge_shift=torch.zeros(0, 3, dtype=torch.float64),
        graph=torch.repeat_interleave(torch.arange(len(atoms)), num_atoms),
        num_atoms=num_atoms,
        branch=torch.tensor(branch),
        charge=torch.zeros(len(atoms), dtype=torch.int64),
        spin=torch.ones(len(atoms), dtype=torch.int64),
        energy=torch.tensor(energy, dtype=torch.float64),
        forces=torch.tensor(forces, dtype=torch.float64),
    )


GRAPH = labelled([2.0, NAN, 9.0], [[0, 0, 0], [0, 0, 1], [NAN] * 3, [3, 0, 0]], [2, 1, 1], [0, 0, 1])
ZERO = Prediction(torch.zeros(3, dtype=torch.float64), torch.zeros(4, 3, dtype=torch.float64))


def test_loss_is_means_over_the_labels_that_there_are() -> None:
    counts = count_labels(GRAPH, 2)
    assert counts.tolist() == [[1.0, 1.0], [6.0, 3.0]]
    loss = Loss(LossSpec(kind="mae", energy=2.0, forces=10.0), [1.0, 0.5])(Deviations(ZERO, GRAPH), counts)
    expected = (2.0 * (2.0 / 2) / 1 + 10.0 * 1.0 / 6) + 0.5 * (2.0 * 9.0 / 1 + 10.0 * 3.0 / 3)
    assert float(loss) == pytest.approx(expected, rel=1e-14)


def test_missing_labels_leave_gradients_finite() -> None:
    energy = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    forces = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    for kind in ("mae", "mse", "huber"):
        loss = Loss(LossSpec(kind=kind), [1.0, 1.0])(Deviations(Prediction(energy, forces), GRAPH), count_labels(GRAPH, 2))
        for gradient in torch.autograd.grad(loss, (energy, forces)):
            assert bool(torch.isfinite(gradient).all())


def test_parts_of_a_batch_add_up_to_its_loss() -> None:
    loss, counts = Loss(LossSpec(kind="mse"), [1.0, 2.0]), count_labels(GRAPH, 2)
    first = labelled([2.0, NAN], [[0, 0, 0], [0, 0, 1], [NAN] * 3], [2, 1], [0, 0])
    second = labelled([9.0], [[3, 0, 0]], [1], [1])
    parts = [
        loss(Deviations(Prediction(torch.zeros(g.num_graphs, dtype=torch.float64), torch.zeros_like(g.forces)), g), counts)
        for g in (first, second)
    ]
    assert float(sum(parts)) == pytest.approx(float(loss(Deviations(ZERO, GRAPH), counts)), rel=1e-14)


def test_only_a_structure_with_a_wrong_number_is_named() -> None:
    energy = torch.tensor([0.0, 0.0, math.inf], dtype=torch.float64)
    assert Deviations(Prediction(energy, ZERO.forces), GRAPH).not_finite().tolist() == [False, False, True]
    forces = ZERO.forces.clone()
    forces[1, 2] = NAN
    assert Deviations(Prediction(ZERO.energy, forces), GRAPH).not_finite().tolist() == [True, False, False]


def test_learning_rate_warms_up_and_decays_to_its_end() -> None:
    spec = OptimizerSpec(learning_rate=1.0, warmup_steps=4, final_fraction=0.1)
    rates = [learning_rate(spec, step, decayed(step, 4, 19)) for step in range(20)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[-1] == pytest.approx(0.1)
    assert all(a >= b for a, b in zip(rates[4:], rates[5:], strict=False))
    assert learning_rate(spec, 12, decayed(12, 4, 19)) == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 8 / 15)))
    assert learning_rate(spec.model_copy(update={"schedule": "constant"}), 19, 1.0) == 1.0


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=20), st.integers(1, 40))
def test_every_branch_has_ranks_and_every_rank_a_branch(loads: list[float], size: int) -> None:
    layout = branch_parallel(loads, size)
    assert all(layout.holders)
    assert all(layout.branches_of(rank) for rank in range(size))
    # Ranks meet in the reductions of their branches: two branches share all their ranks or none, or one has one rank only.
    sets = set(layout.holders)
    assert all(not set(a) & set(b) for a in sets for b in sets if a != b)


def test_a_branch_without_a_share_counts_by_its_structures() -> None:
    specs = [BranchSpec(store="a", share=0.5), BranchSpec(store="b"), BranchSpec(store="c")]
    assert _loads(specs, [(1000, 2.0), (600, 2.0), (400, 5.0)]) == pytest.approx([1.0, 0.6, 1.0])


def test_ranks_follow_the_load() -> None:
    assert branch_parallel([6.0, 2.0, 1.0], 9).describe("abc") == {"a": [0, 1, 2, 3, 4, 5], "b": [6, 7], "c": [8]}
    assert branch_parallel([3.0, 2.0, 2.0], 2).describe("abc") == {"a": [0], "b": [1], "c": [1]}
    assert branch_parallel([1.0, 2.0], 3).describe("ab") == {"a": [0], "b": [1, 2]}
    assert data_parallel(2, 3).describe("ab") == {"a": [0, 1, 2], "b": [0, 1, 2]}


def twin_networks() -> tuple[nn.Sequential, nn.Sequential]:
    torch.manual_seed(0)
    first, second = (nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)).double() for _ in range(2))
    second.load_state_dict(first.state_dict())
    return first, second


def test_optimizer_is_stock_adamw_with_clipping_and_an_average() -> None:
    ours, stock = twin_networks()
    spec = OptimizerSpec(learning_rate=0.01, weight_decay=0.1, clip_norm=0.05, ema=0.5)
    groups = {"backbone": list(ours.named_parameters())}
    buckets = Buckets(groups, lambda _: (0,), Mesh(Ranks(), "gloo"), ours[0].weight.detach(), tail=2)
    optimizer = Optimizer(spec, buckets)
    reference = torch.optim.AdamW(stock.parameters(), lr=0.01, weight_decay=0.1)
    average = [p.detach().clone() for p in stock.parameters()]
    x = torch.randn(16, 4, dtype=torch.float64)
    for number in range(12):
        buckets.zero()
        (ours(x) - x.sum(1, keepdim=True)).square().mean().backward()
        sums, norm = buckets.reduce(torch.tensor([1.0, 2.0], dtype=torch.float64))
        optimizer.step(number, 0.01, norm)
        reference.zero_grad()
        (stock(x) - x.sum(1, keepdim=True)).square().mean().backward()
        expected = torch.nn.utils.clip_grad_norm_(stock.parameters(), 0.05)
        reference.step()
        decay = min(0.5, (2.0 + number) / (11.0 + number))
        average = [decay * a + (1 - decay) * p.detach() for a, p in zip(average, stock.parameters(), strict=True)]
        assert sums.tolist() == [1.0, 2.0]
        assert norm == pytest.approx(float(expected), rel=1e-7)
    for mine, theirs in zip(ours.parameters(), stock.parameters(), strict=True):
        # Stock clipping divides by norm + 1e-6.
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-8)
    with optimizer.averaged():
        for mine, theirs in zip(ours.parameters(), average, strict=True):
            torch.testing.assert_close(mine.detach(), theirs, rtol=1e-6, atol=1e-8)
    for mine, theirs in zip(ours.parameters(), stock.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-8)


def test_objective_weighs_both_errors_by_the_spread_of_the_labels() -> None:
    row = torch.tensor([2.0, 0.4, 0.1, 1.0, 3.0, 6.0, 1.2, 0.3, 3.0, 0.0], dtype=torch.float64)
    metrics = {"a": metrics_of(row), "b": metrics_of(torch.cat([torch.zeros(5), row[5:]]))}
    assert metrics["a"]["energy_mae_mev_per_atom"] == pytest.approx(200.0)
    assert metrics["a"]["energy_baseline_mev_per_atom"] == pytest.approx(500.0)
    assert metrics["a"]["force_rmse_mev_per_angstrom"] == pytest.approx(1000 * math.sqrt(0.05))
    assert metrics["b"]["energy_mae_mev_per_atom"] is None
    scales = {"a": Scales(0.5, 0.4), "b": Scales(None, 0.1)}
    assert objective_of(metrics, scales) == pytest.approx(0.5 * (0.5 * (0.2 / 0.5 + 0.2 / 0.4) + 0.2 / 0.1))
    assert objective_of({"c": metrics_of(torch.zeros(10))}, {"c": Scales(None, None)}) is None


def test_the_largest_error_is_that_of_all_batches_and_ranks_by_branch() -> None:
    class OfTwo(Ranks):
        def allgather(self, value: torch.Tensor) -> list[torch.Tensor]:
            return [value, torch.tensor([[0.5, 0.0], [0.0, 4.0]], dtype=torch.float64)]

    mine = LargestErrors(["a", "b"])
    mine.see(Deviations(ZERO, GRAPH))
    assert mine.metrics(Ranks()) == {
        "a": {"energy_max_error_mev_per_atom": 1000.0, "force_max_error_mev_per_angstrom": 1000.0},
        "b": {"energy_max_error_mev_per_atom": 9000.0, "force_max_error_mev_per_angstrom": 3000.0},
    }
    mine.see(Deviations(Prediction(ZERO.energy + 5.0, ZERO.forces), GRAPH))
    both = mine.metrics(OfTwo())
    assert [both[name]["energy_max_error_mev_per_atom"] for name in "ab"] == [1500.0, 9000.0]
    assert [both[name]["force_max_error_mev_per_angstrom"] for name in "ab"] == [1000.0, 4000.0]


def test_the_next_item_is_made_meanwhile_and_never_more_than_one() -> None:
    made: list[tuple[int, int]] = []
    going = threading.Semaphore(0)

    def make(epoch: int, number: int) -> tuple[int, int]:
        if number:
            assert going.acquire(timeout=60)
        made.append((epoch, number))
        if (epoch, number) == (1, 1):
            raise ValueError("in the thread")
        return epoch, number

    ahead = Ahead(make, lambda _, number: number < 3)
    assert ahead.get(0, 0) == ahead.get(0, 0) == (0, 0)
    assert made == [(0, 0)]
    for number in (1, 2):
        going.release()
        assert ahead.get(0, number) == (0, number)
    assert made == [(0, 0), (0, 1), (0, 2)], "nothing of the next epoch"
    assert ahead.get(1, 0) == (1, 0)
    going.release()
    with pytest.raises(ValueError, match="in the thread"):
        ahead.get(1, 1)
    ahead.close()
