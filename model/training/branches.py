"""The data of a training: each branch's splits in memory, its scales, and what all ranks know of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.config import BranchSpec, FinetuneConfig, ModelSpec, Splits, TrainConfig
from model.data import references as reference_energies
from model.data import splits as splitting
from model.data import targets as scalars_and_classes
from model.data.block import ATOM_FIELDS, STRUCTURE_FIELDS, Block
from model.data.loader import with_edges
from model.data.references import Moments, References
from model.data.store import Store
from model.data.targets import Target
from model.outcome import CampaignError
from model.parallel import Ranks
from model.training.layout import Layout, branch_parallel, data_parallel
from model.training.metrics import Scales
from model.training.neighborhood import neighbor_sums

_ATOM_COST = 5
"""Cost of an atom over that of an edge in a training step; 3 to 9 by backbone and width, measured on one core."""
_SAMPLES, _SAMPLE = 4, 16
_SMALLEST_SPREAD = 1e-6
"""eV/atom; below it the references fit every energy to rounding, as one structure's, and no error can be measured by it."""


@dataclass(frozen=True)
class Summary:
    """What every rank knows of a branch, whether it holds it or not.

    Attributes:
        num_train: Structures of the training split.
        num_validation: Structures of the validation split.
        num_atoms: Atoms of the training split.
        num_edges: Edges of the training split within the cutoff.
        neighbor_sums: Sums over the training split's atoms of what the backbone wants to know of their neighbours.
        references: Per-element energies fitted on the training split; None without energies.
        scales: Spreads of its labels on the training split.
        fingerprint: Hash of the whole branch's physics.
        target: What it predicts instead of energies and forces, as its training split knows it; None for energies.
    """

    num_train: int
    num_validation: int
    num_atoms: int
    num_edges: int
    neighbor_sums: dict[str, float]
    references: References | None
    scales: Scales
    fingerprint: str
    target: Target | None = None

    @property
    def labelled_by(self) -> References | Target | None:
        """Return what labels are counted from: references of energies, or a target's mean and spread."""
        return self.references if self.target is None else self.target


@dataclass(frozen=True)
class BranchData:
    """A branch that this rank holds.

    Attributes:
        train: Training split, neighbour lists built.
        validation: Validation split, neighbour lists built.
        summary: See `Summary`.
    """

    train: Block
    validation: Block
    summary: Summary


@dataclass(frozen=True)
class Data:
    """All branches of a training, as this rank sees them.

    Attributes:
        names: All branches, in the order of the configuration.
        layout: Which rank holds which.
        own: Data of the branches that this rank holds, by index into `names`.
        summaries: Of all branches, in the order of `names`.
    """

    names: tuple[str, ...]
    layout: Layout
    own: dict[int, BranchData]
    summaries: tuple[Summary, ...]

    @property
    def targets(self) -> dict[str, Target]:
        """Return what those branches predict that predict no energy."""
        pairs = zip(self.names, self.summaries, strict=True)
        return {name: summary.target for name, summary in pairs if summary.target is not None}


def load(config: TrainConfig, ranks: Ranks, near: Sequence[References] = ()) -> Data:
    """Read this rank's branches and exchange the summaries.

    Args:
        config: The training.
        ranks: All ranks.
        near: References of the model that it starts from: they settle what its own data leave open.

    Raises:
        CampaignError: A store is missing or damaged, or a branch has nothing to train on, or no energies to pre-train on.
    """
    names = tuple(config.branches)
    layout = _layout(config, ranks)
    mine = layout.branches_of(ranks.rank)
    if not isinstance(config, FinetuneConfig):
        _require_energies(config.branches[names[b]] for b in mine)
    own = {b: load_branch(config.branches[names[b]], config.model, config.splits, near) for b in mine}
    shared = ranks.allgather({b: data.summary for b, data in own.items() if layout.holders[b][0] == ranks.rank})
    merged = {b: summary for part in shared for b, summary in part.items()}
    return Data(names, layout, own, tuple(merged[b] for b in range(len(names))))


def as_settled(
    data: Data,
    references: Mapping[str, References | None],
    targets: Mapping[str, Target],
    scales: Mapping[str, Mapping[str, Any]],
) -> Data:
    """Return the data with the references, targets and scales that a checkpoint has for each branch it knows."""
    summaries = tuple(
        replace(summary, references=references[name], target=targets.get(name), scales=Scales(**scales[name]))
        if name in references
        else summary
        for name, summary in zip(data.names, data.summaries, strict=True)
    )
    own = {b: replace(branch, summary=summaries[b]) for b, branch in data.own.items()}
    return replace(data, summaries=summaries, own=own)


def load_branch(spec: BranchSpec, model: ModelSpec, splits: Splits, near: Sequence[References] = ()) -> BranchData:
    """Read one branch, divide it, and build its neighbour lists.

    Raises:
        CampaignError: The training split is empty, or nothing in it has a label.
    """
    store = Store.open(spec.store)
    block = store.load()
    place = splitting.split(block.identity, splits)
    train, validation = (
        with_edges(block.take(place == which), model.cutoff, model.max_neighbors)
        for which in (splitting.TRAIN, splitting.VALIDATION)
    )
    if len(train) == 0:
        raise CampaignError("no structure in the training split", str(spec.store), "Convert more data, or change `splits`.")
    target = None if store.target is None else scalars_and_classes.fit(train, store.target, splits, str(spec.store))
    if target is None and not (np.isfinite(train.energy).any() or np.isfinite(train.forces).any()):
        raise CampaignError("neither energies nor forces in the training split", str(spec.store), "Give a branch with labels.")
    summary = _summarize(train, len(validation), target or references_of(store, block, splits, near))
    summary = replace(summary, neighbor_sums=neighbor_sums(train, model), fingerprint=fingerprint(block))
    return BranchData(train, validation, summary)


def references_of(store: Store, block: Block, splits: Splits, near: Sequence[References] = ()) -> References | None:
    """Return the store's references where they were fitted on this very training split, otherwise fit them anew.

    Where the split does not determine them, they are the nearest to `near`.
    """
    known = store.references
    if known is not None and known.splits == splits and (known.is_determined or not near):
        return known
    return reference_energies.fit(block, splits, near)


def fingerprint(block: Block) -> str:
    """Hash the physics of a block, in its order: all that a training sees of it."""
    digest = hashlib.blake2b(digest_size=16)
    for name in ("offsets", *ATOM_FIELDS, *STRUCTURE_FIELDS):
        if name != "raw_ids":
            digest.update(np.ascontiguousarray(getattr(block, name)).tobytes())
    return digest.hexdigest()


def cost_of(block: Block) -> NDArray[np.int64]:
    """Return what each structure costs in a step, in units of an edge; the block has its neighbour lists."""
    if block.edges is None:
        raise ValueError("costs need neighbour lists")
    return np.diff(block.edges.offsets) + _ATOM_COST * block.num_atoms


def read_split(folder: Path, splits: Splits, split: str) -> Block:
    """Read one split of a store; for evaluation."""
    block = Store.open(folder).load()
    return block.take(splitting.split(block.identity, splits) == splitting.NAMES.index(split))


def num_labelled(folder: Path, splits: Splits, split: str) -> int:
    """Return how many structures of a split have what their store labels: an energy or forces, or a target."""
    block = read_split(folder, splits, split)
    if Store.open(folder).target is not None:
        return int(np.isfinite(block.target).sum())
    has_forces = np.isfinite(block.forces[block.offsets[:-1]]).any(1)
    return int((np.isfinite(block.energy) | has_forces).sum())


def _require_energies(specs: Iterable[BranchSpec]) -> None:
    for spec in specs:
        if (target := Store.open(spec.store).target) is not None:
            remedy = "Fine-tune on it; a model that is pre-trained predicts energies."
            raise CampaignError(f"labelled by a {target[0]}, not by energies", str(spec.store), remedy)


def _layout(config: TrainConfig, ranks: Ranks) -> Layout:
    if config.layout == "data":
        return data_parallel(len(config.branches), ranks.size)
    specs = list(config.branches.values())
    mine = {b: _size_and_cost(specs[b], config.model) for b in range(ranks.rank, len(specs), ranks.size)}
    known = {b: each for part in ranks.allgather(mine) for b, each in part.items()}
    return branch_parallel(_loads(specs, [known[b] for b in range(len(specs))]), ranks.size)


def _loads(specs: Sequence[BranchSpec], known: Sequence[tuple[int, float]]) -> list[float]:
    """Return p_b × mean cost from each branch's structures and mean cost; where no share is given, p_b is that of structures."""
    whole = sum(size for size, _ in known)
    return [(size / whole if spec.share is None else spec.share) * cost for spec, (size, cost) in zip(specs, known, strict=True)]


def _size_and_cost(spec: BranchSpec, model: ModelSpec) -> tuple[int, float]:
    """Return a store's structures, and their mean cost, estimated from some spread evenly over it."""
    store = Store.open(spec.store)
    starts = np.linspace(0, max(store.num_structures - _SAMPLE, 0), _SAMPLES).astype(int).tolist()
    blocks = [store.read(start, min(start + _SAMPLE, store.num_structures)) for start in starts]
    costs = [cost_of(with_edges(block, model.cutoff, model.max_neighbors)) for block in blocks]
    return store.num_structures, float(np.concatenate(costs).mean())


def _spread(references: References | None) -> float | None:
    """Return the spread of residual energies, eV/atom; None without energies, or where they leave nothing to spread."""
    return references.sigma_energy if references and references.sigma_energy > _SMALLEST_SPREAD else None


def _scales(train: Block, known: References | Target | None) -> Scales:
    if isinstance(known, Target):
        return Scales(None, None, known.spread if known.kind == "scalar" else None)
    moments = Moments.of(train)
    rms = (moments.force_sum / moments.force_count) ** 0.5 if moments.force_count else None
    return Scales(_spread(known), rms)


def _summarize(train: Block, num_validation: int, known: References | Target | None) -> Summary:
    return Summary(
        num_train=len(train),
        num_validation=num_validation,
        num_atoms=len(train.numbers),
        num_edges=int(train.edges.offsets[-1]) if train.edges else 0,
        neighbor_sums={},
        references=known if isinstance(known, References) else None,
        scales=_scales(train, known),
        fingerprint="",
        target=known if isinstance(known, Target) else None,
    )
