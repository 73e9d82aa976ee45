"""Small structures and their graphs, built by trying every image: slow, simple, and independent of `model.neighbors`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.data.structure import UNLABELLED
from model.graph import AtomGraph

torch.set_num_threads(1)  # the tensors of tests are so small that more threads only wait for one another


@dataclass(frozen=True)
class System:
    """Atoms; periodic along all lattice vectors where there is a cell."""

    numbers: Tensor
    positions: Tensor
    cell: Tensor | None = None
    branch: int = 0
    charge: int = UNLABELLED
    spin: int = UNLABELLED

    def moved(self, positions: Tensor) -> System:
        return System(self.numbers, positions, self.cell, self.branch, self.charge, self.spin)


def molecule(num_atoms: int = 7, seed: int = 0, **labels: int) -> System:
    """A chain that turns at random, atoms at least 1 Å apart."""
    generator = torch.Generator().manual_seed(seed)
    positions = [torch.zeros(3, dtype=torch.float64)]
    while len(positions) < num_atoms:
        step = torch.randn(3, generator=generator, dtype=torch.float64)
        new = positions[-1] + 1.3 * step / step.norm()
        if min(float((new - old).norm()) for old in positions) > 1.0:
            positions.append(new)
    numbers = torch.tensor([1, 6, 7, 8, 16])[torch.randint(5, (num_atoms,), generator=generator)]
    return System(numbers, torch.stack(positions), **labels)


def triclinic() -> System:
    """Five atoms in a skewed cell smaller than twice the cutoff, so that atoms see several images of one another."""
    cell = torch.tensor([[4.1, 0.3, -0.2], [0.9, 3.9, 0.4], [-0.7, 1.1, 4.6]], dtype=torch.float64)
    places = torch.tensor([[0.02, 0.1, 0.0], [0.5, 0.55, 0.1], [0.9, 0.4, 0.6], [0.4, 0.05, 0.55], [0.15, 0.7, 0.8]])
    return System(torch.tensor([22, 8, 8, 38, 8]), places.double() @ cell, cell)


def one_atom() -> System:
    """One atom in a cell below the cutoff: all its neighbours are itself."""
    cell = torch.tensor([[2.1, 0.0, 0.1], [0.4, 2.3, 0.0], [0.3, -0.5, 2.2]], dtype=torch.float64)
    return System(torch.tensor([29]), torch.tensor([[0.3, 0.2, 0.1]], dtype=torch.float64), cell)


def supercell(system: System, repeats: tuple[int, int, int]) -> System:
    shifts = torch.tensor(list(itertools.product(*(range(n) for n in repeats))), dtype=torch.float64)
    positions = (system.positions[None] + (shifts @ system.cell)[:, None]).reshape(-1, 3)
    cell = system.cell * torch.tensor(repeats, dtype=torch.float64)[:, None]
    return System(system.numbers.repeat(len(shifts)), positions, cell, system.branch)


def graph_of(systems: System | Sequence[System], cutoff: float = 3.2, dtype: torch.dtype = torch.float64) -> AtomGraph:
    """Return the graph of a batch, its edges sorted by receiver; labels are NaN."""
    systems = [systems] if isinstance(systems, System) else list(systems)
    counts = torch.tensor([len(s.numbers) for s in systems])
    pairs = [_edges(s, cutoff) for s in systems]
    first = counts.cumsum(0) - counts
    cells = [torch.zeros(3, 3) if s.cell is None else s.cell for s in systems]
    return AtomGraph(
        numbers=torch.cat([s.numbers for s in systems]),
        positions=torch.cat([s.positions for s in systems]).to(dtype),
        cell=torch.stack([c.to(dtype) for c in cells]),
        edge_index=torch.cat([index + start for (index, _), start in zip(pairs, first, strict=True)], 1),
        edge_shift=torch.cat([shift for _, shift in pairs]).to(dtype),
        graph=torch.arange(len(systems)).repeat_interleave(counts),
        num_atoms=counts,
        branch=torch.tensor([s.branch for s in systems]),
        charge=torch.tensor([s.charge for s in systems]),
        spin=torch.tensor([s.spin for s in systems]),
        energy=torch.full((len(systems),), torch.nan, dtype=dtype),
        forces=torch.full((int(counts.sum()), 3), torch.nan, dtype=dtype),
    )


def _edges(system: System, cutoff: float) -> tuple[Tensor, Tensor]:
    shifts = torch.zeros(1, 3, dtype=torch.float64)
    if system.cell is not None:
        spacing = 1.0 / torch.linalg.inv(system.cell).norm(dim=0)
        spread = (system.positions @ torch.linalg.inv(system.cell)).aminmax(dim=0)
        reach = (cutoff / spacing + (spread.max - spread.min)).ceil().long().tolist()
        shifts = torch.tensor(list(itertools.product(*(range(-n, n + 1) for n in reach))), dtype=torch.float64)
    images = shifts @ (system.cell if system.cell is not None else torch.zeros(3, 3, dtype=torch.float64))
    vectors = system.positions[None, :, None] - system.positions[:, None, None] + images  # (receiver, sender, image, 3)
    near = vectors.norm(dim=-1) < cutoff
    near &= ~(torch.eye(len(system.numbers), dtype=torch.bool)[..., None] & (shifts == 0).all(-1))
    receiver, sender, image = near.nonzero().t()
    return torch.stack([sender, receiver]), shifts[image]
