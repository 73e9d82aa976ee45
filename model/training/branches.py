"""The data of a training: each branch's splits in memory, its scales, and what all ranks know of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.config import FinetuneConfig, TrainConfig
from model.data import references as reference_energies
from model.data import targets as scalars_and_classes
from model.data.block import Block, concatenate, pack
from model.data.groups import Group, join, replicas
from model.data.loader import build_edges
from model.data.part import Part
from model.data.references import Moments, References
from model.data.store import Store
from model.data.targets import Target
from model.data.window import Window
from model.draws import Portion, parts
from model.layout import ATOM_COST, Layout, branch_parallel, data_parallel
from model.outcome import CampaignError
from model.parallel import Ranks
from model.specs import BranchSpec, Division, ModelSpec, Splits
from model.training.holding import hold, require_room
from model.training.metrics import Scales
from model.training.survey import Survey

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
    """A branch that this rank holds, together with others.

    Attributes:
        train: Training split, neighbour lists built; this rank's share is its own memory.
        validation: Validation split, likewise.
        summary: See `Summary`.
    """

    train: Window
    validation: Window
    summary: Summary


@dataclass(frozen=True)
class Data:
    """All branches of a training, as this rank sees them.

    Attributes:
        names: All branches, in the order of the configuration.
        layout: Which rank holds which.
        own: Data of the branches that this rank holds, by index into `names`.
        summaries: Of all branches, in the order of `names`.
        groups: The ranks that this one holds branches together with.
    """

    names: tuple[str, ...]
    layout: Layout
    own: dict[int, BranchData]
    summaries: tuple[Summary, ...]
    groups: tuple[Group, ...] = ()

    @property
    def targets(self) -> dict[str, Target]:
        """Return what those branches predict that predict no energy."""
        pairs = zip(self.names, self.summaries, strict=True)
        return {name: summary.target for name, summary in pairs if summary.target is not None}

    def close(self) -> None:
        """Stop serving other ranks, when all ranks do."""
        for branch in self.own.values():
            branch.train.close()
            branch.validation.close()
        for group in self.groups:
            group.close()


def load(config: TrainConfig, ranks: Ranks, near: Sequence[References] = ()) -> Data:
    """Read this rank's shares of its branches and exchange the summaries.

    Args:
        config: The training.
        ranks: All ranks.
        near: References of the model that it starts from: they settle what its own data leave open.

    Raises:
        CampaignError: A store is missing or damaged, or a branch has nothing to train on, or no energies to pre-train on, or
            the data do not fit into the nodes' memory.
    """
    names = tuple(config.branches)
    layout = _layout(config, ranks)
    mine = layout.branches_of(ranks.rank)
    stores = {b: _store(config, config.branches[names[b]]) for b in mine}
    chosen = {b: next(g for g in replicas(layout.holders[b], ranks.hosts, config.width) if ranks.rank in g) for b in mine}
    require_room(config, {names[b]: (chosen[b].index(ranks.rank), len(chosen[b])) for b in mine}, ranks)
    groups = {members: join(ranks, members) for members in dict.fromkeys(chosen.values())}
    division = config.division if isinstance(config, FinetuneConfig) else None
    own = {b: load_branch(stores[b], config.model, config.splits, near, groups[chosen[b]], division) for b in mine}
    shared = ranks.allgather({b: data.summary for b, data in own.items() if layout.holders[b][0] == ranks.rank})
    merged = {b: summary for part in shared for b, summary in part.items()}
    own = {b: replace(branch, summary=merged[b]) for b, branch in own.items()}  # replicas may differ in the last bits
    return Data(names, layout, own, tuple(merged[b] for b in range(len(names))), tuple(groups.values()))


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


def load_branch(
    store: Store,
    model: ModelSpec,
    splits: Splits,
    near: Sequence[References] = (),
    group: Group | None = None,
    division: Division | None = None,
) -> BranchData:
    """Read this rank's share of a branch, divide it, and build its neighbour lists; all ranks of the group call.

    Args:
        store: Its store; what that labels settles what is predicted.
        model: The model.
        splits: What is for training, and what for validation.
        near: See `load`.
        group: The ranks that hold it together; None: this one alone.
        division: How it is divided where it does not go by `splits`.

    Raises:
        CampaignError: The training split is empty, or nothing in it has a label.
    """
    group = group or Group()
    train, validation, survey = hold(store, model, splits, group, division)
    if len(train) == 0:
        raise CampaignError("no structure in the training split", str(store.folder), "Convert more data, or change `splits`.")
    target = None
    if store.target is not None and survey.labels is not None:
        target = scalars_and_classes.fit(survey.labels, store.target, splits, str(store.folder))
    elif survey.moments.count == survey.moments.force_count == 0:
        raise CampaignError("neither energies nor forces in the training split", str(store.folder), "Give a branch with labels.")
    fitted = reference_energies.solve(survey.moments, splits, near) if division else None
    known = target or fitted or references_of(store, survey.moments, splits, near)
    return BranchData(train, validation, _summarize(train, validation, survey, known))


def references_of(store: Store, moments: Moments, splits: Splits, near: Sequence[References] = ()) -> References | None:
    """Return the store's references where they were fitted on this very training split, otherwise fit them anew.

    Where the split does not determine them, they are the nearest to `near`.
    """
    known = store.references
    if known is not None and known.splits == splits and (known.is_determined or not near):
        return known
    return reference_energies.solve(moments, splits, near)


def cost_of(num_atoms: NDArray[np.int64], num_edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return what structures cost in a step, in units of an edge."""
    return num_edges + ATOM_COST * num_atoms


def read_split(folder: Path, splits: Splits, split: str, division: Division | None = None) -> Block:
    """Read one split of a store into memory."""
    part = Part.of(Store.open(folder), splits, split, Ranks(), division)
    return concatenate([pack([]), *(block for _, block in part.blocks())])


def num_labelled(folder: Path, splits: Splits, split: str, division: Division | None = None) -> int:
    """Return how many structures of a split have what their store labels: an energy or forces, or a target."""
    store = Store.open(folder)
    part = Part.of(store, splits, split, Ranks(), division)
    if store.target is not None:
        return sum(int(np.isfinite(block.target).sum()) for _, block in part.blocks())
    return sum(int((np.isfinite(b.energy) | np.isfinite(b.forces[b.offsets[:-1]]).any(1)).sum()) for _, b in part.blocks())


def _store(config: TrainConfig, spec: BranchSpec) -> Store:
    """Return a branch's store: to fine-tune on what it labels, or to pre-train on its energies, whatever else it labels.

    Raises:
        CampaignError: It is to be pre-trained on and has no energies.
    """
    store = Store.open(spec.store)
    if isinstance(config, FinetuneConfig) or store.target is None:
        return store
    if not store.has_energies:
        remedy = "Fine-tune on it; a model that is pre-trained predicts energies."
        raise CampaignError(f"labelled by a {store.target[0]}, not by energies", str(spec.store), remedy)
    return store.for_energies()


def _layout(config: TrainConfig, ranks: Ranks) -> Layout:
    if config.layout == "data":
        return data_parallel(len(config.branches), ranks.size)
    specs = list(config.branches.values())
    mine = {b: _size_and_cost(specs[b], config.model) for b in range(ranks.rank, len(specs), ranks.size)}
    known = {b: each for part in ranks.allgather(mine) for b, each in part.items()}
    return branch_parallel(_loads(specs, [known[b] for b in range(len(specs))], config.temperature), ranks.size)


def _loads(specs: Sequence[BranchSpec], known: Sequence[tuple[int, float]], temperature: float = 1.0) -> list[float]:
    """Return p_b × mean cost from each branch's structures and mean cost; p_b as the sampler draws."""
    drawn = parts({b: Portion(known[b][0], s.share, s.draws) for b, s in enumerate(specs)}, temperature=temperature)
    return [drawn[b] * cost for b, (_, cost) in enumerate(known)]


def _size_and_cost(spec: BranchSpec, model: ModelSpec) -> tuple[int, float]:
    """Return a store's structures, and their mean cost, estimated from some spread evenly over it."""
    store = Store.open(spec.store)
    starts = np.linspace(0, max(store.num_structures - _SAMPLE, 0), _SAMPLES).astype(int).tolist()
    blocks = [store.read(start, min(start + _SAMPLE, store.num_structures)) for start in starts]
    costs = [cost_of(b.num_atoms, np.diff(build_edges(b, model.cutoff, model.max_neighbors).offsets)) for b in blocks]
    return store.num_structures, float(np.concatenate(costs).mean())


def _spread(references: References | None) -> float | None:
    """Return the spread of residual energies, eV/atom; None without energies, or where they leave nothing to spread."""
    return references.sigma_energy if references and references.sigma_energy > _SMALLEST_SPREAD else None


def _scales(moments: Moments, known: References | Target | None) -> Scales:
    if isinstance(known, Target):
        return Scales(None, None, known.spread if known.kind == "scalar" else None)
    rms = (moments.force_sum / moments.force_count) ** 0.5 if moments.force_count else None
    return Scales(_spread(known), rms)


def _summarize(train: Window, validation: Window, survey: Survey, known: References | Target | None) -> Summary:
    return Summary(
        num_train=len(train),
        num_validation=len(validation),
        num_atoms=train.total_atoms(),
        num_edges=train.total_edges(),
        neighbor_sums=survey.neighbor_sums,
        references=known if isinstance(known, References) else None,
        scales=_scales(survey.moments, known),
        fingerprint=f"{survey.fingerprint:032x}",
        target=known if isinstance(known, Target) else None,
    )
