"""Say without torch how many parameters a model has, how much arithmetic and how much memory a step of its training takes.

Parameters are exact; so is the arithmetic of a forward pass, and that of a step within 10 %. Memory is a measured model: the
peak of live tensor bytes (torch's own allocation events) of one training step, forward, forces, backward and AdamW, on the eager
path: a kernel that keeps less takes less, and what is said here is an upper bound. Each backbone's `step_words` was fitted to
random configurations (186 in all, 0.6–340 MB; hidden 16–360, 1–5 layers, 32–1,024 atoms, 1–45 edges an atom; FP64, FP32, BF16).
Over those the median error is 2 % (6 % in BF16), 95 % lie within 12 %, the worst is −15 % at 6 MB. SchNet and PNAEq have 220
each: the median is 2 % (SchNet 8 % too much in BF16), 95 % lie within 12 %; one layer over 40 atoms, where weights are nearly
all, is 21 % short. DimeNet (220) and MACE (300; one to three layers of 8–100 features): the median is 2 %, 95 % lie within 9 %
(MACE with a force head 5 % and 18 %); six of 0.4–2.8 GB came out within 2 % (BF16: 14 % too much).
Of forty drawn evenly on a logarithmic scale from 50 MB to 4 GB, with all backbones and precisions, each measured in a fresh
process, the median error is 1.3 %, the largest 8.8 % (PaiNN in BF16, too little). The largest models of the searches agree
within 20 % with FP64 steps on tensors without memory (MACE's, of 313 GB: 10 % too little); MACE's in BF16 has not been tried.
`tests/unit/test_feasibility*.py` measure these and others.

A rank of a training holds more than a bare step does (`training_gb`): gradients stand in their arrays all the time, and those
in flight come on top; so do the averages, a backbone that is gathered out of shards, and on a CPU the copy that a checkpoint is
written from, and its largest file. `tests/integration/test_memory_of_ranks.py` measures it in every layout. Libraries, the
interpreter and what an allocator wastes are in neither: judge with a margin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, cast

from model import registry
from model.config import TrainConfig
from model.specs import ModelSpec, Precision

_NUM_ELEMENTS, _LARGEST_CHARGE = 119, 100
_FORCE_RADIAL = 8
_BYTES: dict[Precision, int] = {"fp64": 8, "fp32": 4, "bf16": 4}
"""Bytes of a word. BF16 holds weights and sums in FP32, and keeps both forms of what it lowers: it saves time, no memory."""
_OPTIMIZER_WORDS = 3.6
"""Words for each parameter at the peak: itself, two moments, and the gradients that are there by then."""
_IN_FLIGHT = 1.2
"""Words for each parameter of gradients on their way to where they add up: 0.6 to 1.3 were seen, most over few atoms."""
_GATHERED = 1.5
"""Words for each parameter of a divided backbone while a step has it whole: itself, and what its collective calls hold."""
_WRITTEN = 1.2
"""Bytes of memory for each byte of the largest file of a checkpoint while it is made; with all else, 14.8 words for each
parameter of resident memory were seen in FP64 with averages, 12.6 where no step went on meanwhile."""
MARGIN = 1.2
"""By how much the estimate may err without running out."""
LONGEST_STEP_S = 10.0
"""Seconds of a training step on one large structure above which a model is refused: MACE by e3nn with 128 channels, degrees 3
and 2, took 14 s on a CPU core, and nobody trains so."""
_ATOMS_PER_A3 = 0.1
"""Dense matter: copper has 0.085 atoms in a cubic Å, carbon's diamond 0.18, organic molecules and oxides about 0.1."""
LARGE = 200
"""Atoms of a large structure: the least that a device must be able to train on."""


@dataclass(frozen=True)
class Batch:
    """What one device sees of a global batch.

    Attributes:
        atoms: Atoms.
        edges: Edges, both directions counted.
        triplets: Pairs of edges that meet at an atom.
    """

    atoms: int
    edges: int
    triplets: int

    @classmethod
    def even(cls, atoms: int, edges: int) -> Batch:
        """Return a batch whose atoms have equally many neighbours."""
        return cls(atoms, edges, edges * edges // max(atoms, 1))


def neighbors(spec: ModelSpec, atoms: float) -> float:
    """Estimate the neighbours of an atom in a structure of so many, as dense as matter is."""
    sphere = 4 / 3 * math.pi * spec.cutoff**3 * _ATOMS_PER_A3
    return min(sphere, atoms - 1, spec.max_neighbors or math.inf)


class BackboneConfig(Protocol):
    """What the `Config` of every backbone answers."""

    hidden: int

    def num_parameters(self, elements: str) -> int:
        """Count the parameters, embedding of atoms left out."""
        ...

    def multiply_adds(self, elements: str) -> tuple[float, ...]:
        """Count the multiply-adds of a forward pass in matrix products, for each atom, each edge and, where any, each triplet."""
        ...

    def step_words(self, elements: str, *, conservative: bool) -> tuple[float, ...]:
        """Return the words that a training step holds for each atom, each edge and, where there are any, each triplet."""
        ...


def num_parameters(spec: ModelSpec, branches: int) -> int:
    """Count the parameters of a model.

    Args:
        spec: Architecture.
        branches: Number of branches.

    Raises:
        CampaignError: The backbone is unknown, or its options are wrong.
    """
    config = _config(spec)
    heads = 1 if spec.heads == "shared" else branches
    return _embedding(spec, config.hidden) + config.num_parameters(spec.elements) + heads * _head(spec, config.hidden)


def peak_memory_gb(spec: ModelSpec, branches: int, batch: Batch, precision: Precision = "fp32") -> float:
    """Estimate the peak memory of one training step on one device, in GB (10⁹ bytes).

    Of a bare step: what a rank of a training holds beside it is in `training_gb`.

    Args:
        spec: Architecture.
        branches: Number of branches on the device.
        batch: The device's part of a batch.
        precision: Name of a policy.

    Raises:
        CampaignError: The backbone is unknown, or its options are wrong.
    """
    weights = _BYTES[precision] * num_parameters(spec, branches) / 1e9
    return max(_batch_gb(spec, batch, precision) + _OPTIMIZER_WORDS * weights, 4.0 * weights)


def training_gb(config: TrainConfig, heads: int, ranks: int, batch: Batch) -> float:
    """Estimate the peak memory of a rank of a training, in GB (10⁹ bytes).

    Args:
        config: Model, precision, averaging, backend, and whether the backbone is divided.
        heads: Branches on the rank.
        ranks: All ranks of the training.
        batch: What the rank computes at once.

    Raises:
        CampaignError: The backbone is unknown, or its options are wrong.
    """
    apart = config.model.model_copy(update={"heads": "branch"})
    backbone = num_parameters(apart, 0)
    whole = num_parameters(config.model, heads)
    own = whole - backbone + (backbone / ranks if config.shard else backbone)
    stored = 3 + (config.optimizer.ema is not None)  # weights and moments: what a checkpoint has of each parameter
    state = (stored + 1) * own + (backbone / ranks if config.shard else 0.0)
    if config.backend == "gloo":  # elsewhere the copy does not lie on the device
        largest = max(backbone, num_parameters(apart, 1) - backbone)
        state += stored * (whole + _WRITTEN * largest)
    step = _IN_FLIGHT * whole + (_GATHERED * backbone if config.shard else 0.0)
    word, computed = _BYTES[config.precision] / 1e9, _batch_gb(config.model, batch, config.precision)
    gathered = stored * backbone if config.shard else 0.0  # to be copied, between steps
    return word * state + max(word * step + computed, word * gathered)


def _batch_gb(spec: ModelSpec, batch: Batch, precision: Precision) -> float:
    """Return what a training step holds for the atoms, edges and triplets of its batch, GB."""
    config, conservative, word = _config(spec), spec.forces == "gradient", _BYTES[precision]
    counts = (batch.atoms, batch.edges, batch.triplets)
    words = sum(n * each for n, each in zip(counts, config.step_words(spec.elements, conservative=conservative), strict=False))
    if spec.readout == "atom":
        words += (5.4 if conservative else 3.0) * sum(spec.widths) * batch.atoms
    if not conservative:
        words += 3.9 * spec.head_hidden * batch.edges
    return (word * words + batch.edges * (16 + 3 * word) + batch.atoms * (16 + 6 * word)) / 1e9


def step_gflop(spec: ModelSpec, batch: Batch) -> float:
    """Return the arithmetic of one training step in matrix products, GFLOP (10⁹); a multiply-add counts twice.

    Every product of the forward pass has two gradients, and where forces are a gradient as many again for each of these. What
    is no matrix product, as sums over neighbours, is not in it: it costs bandwidth.

    Args:
        spec: Architecture.
        batch: The device's part of a batch.

    Raises:
        CampaignError: The backbone is unknown, or its options are wrong.
    """
    config, conservative = _config(spec), spec.forces == "gradient"
    counts = (batch.atoms, batch.edges, batch.triplets)
    total = sum(n * each for n, each in zip(counts, config.multiply_adds(spec.elements), strict=False))
    if spec.readout == "atom":
        total += batch.atoms * _head_products(spec, config.hidden)
    if not conservative:
        total += spec.head_hidden * (2 * config.hidden * batch.atoms + (_FORCE_RADIAL + 2) * batch.edges)
    return 2e-9 * (6 if conservative else 3) * total


def large_structure_gflop(spec: ModelSpec) -> float:
    """Return the arithmetic of training on one structure of `LARGE` atoms, GFLOP.

    Raises:
        CampaignError: The backbone is unknown, or its options are wrong.
    """
    return step_gflop(spec, Batch.even(LARGE, math.ceil(LARGE * neighbors(spec, LARGE))))


def large_structure_gb(spec: ModelSpec) -> float:
    """Estimate the memory that training on one structure of `LARGE` atoms takes in FP32, in GB.

    Raises:
        CampaignError: The backbone is unknown, or its options are wrong.
    """
    return peak_memory_gb(spec, 1, Batch.even(LARGE, math.ceil(LARGE * neighbors(spec, LARGE))))


def _config(spec: ModelSpec) -> BackboneConfig:
    return cast(BackboneConfig, registry.backbone_options(spec.backbone))


def _head_products(spec: ModelSpec, width: int) -> int:
    widths = [width, *spec.widths, 1]
    return sum(first * second for first, second in zip(widths[:-1], widths[1:], strict=True))


def _embedding(spec: ModelSpec, hidden: int) -> int:
    narrow = 1 if spec.elements == "number" else hidden
    rows = _NUM_ELEMENTS if spec.elements == "embedding" else 0
    return narrow * (rows + (3 * _LARGEST_CHARGE + 4 if spec.charge_spin else 0))


def _head(spec: ModelSpec, width: int) -> int:
    widths = [width, *spec.widths, 1]
    total = sum((first + 1) * second for first, second in zip(widths[:-1], widths[1:], strict=True))
    if spec.forces == "head":
        total += (width + 1) * 2 * spec.head_hidden + (_FORCE_RADIAL + 1) * spec.head_hidden + spec.head_hidden
    return total
