"""The model: one backbone that all branches share, and a head for each branch."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from model import registry
from model.backbones import base
from model.data.targets import Target
from model.graph import AtomGraph
from model.layers.head import Head, TargetHead, split_by_branch
from model.layers.initial import initialize
from model.layers.radial import soft_lengths
from model.outcome import CampaignError
from model.prediction import Blend, Prediction, Statistics
from model.specs import ModelSpec

SHARED = "shared"
"""Name of the one head of a model with `heads: shared`."""
_ENERGY, _SCALAR, _CLASS = range(3)


@dataclass(frozen=True)
class Encoded:
    """A batch after its one pass through the backbone."""

    graph: AtomGraph
    vectors: Tensor
    lengths: Tensor
    features: Tensor


class MultiTaskModel(nn.Module):
    """A shared backbone with one head for each branch.

    Args:
        spec: Architecture.
        branches: Names; `AtomGraph.branch` counts in this order.
        statistics: Scales, from the training split.
        seed: Seed of the first weights.

    Raises:
        CampaignError: The backbone is unknown or its options are wrong, or a branch name cannot name a module; or a branch
            predicts a target, and one head shall serve all.
    """

    def __init__(self, spec: ModelSpec, branches: tuple[str, ...], statistics: Statistics, *, seed: int = 0) -> None:
        super().__init__()
        self.spec, self.seed = spec, seed
        self.branches: tuple[str, ...] = ()
        self._scale, self._targets = 1.0, statistics.targets
        self.backbone = make_backbone(spec, base.Neighborhood(statistics.average_neighbors, statistics.neighbor_means))
        self.heads = nn.ModuleDict()
        if spec.heads == "shared":
            self.heads[SHARED] = Head(spec, self.backbone.width)
        self.energy_scale: Tensor
        self.force_scale: Tensor
        self.kind: Tensor
        self.register_buffer("energy_scale", torch.ones(0, dtype=torch.float64))
        self.register_buffer("force_scale", torch.tensor(statistics.force_scale, dtype=torch.float64))
        self.register_buffer("kind", torch.zeros(0, dtype=torch.int64), persistent=False)
        for name, scale in zip(branches, statistics.energy_scale, strict=True):
            self._append(name, scale)
        initialize(self, seed)

    def add_branch(self, name: str, energy_scale: float) -> None:
        """Append a branch with a fresh head; with `heads: shared` the one head serves it too.

        Args:
            name: Name of the branch.
            energy_scale: eV/atom that its head's unit stands for.

        Raises:
            CampaignError: The name is taken or cannot name a module, or the scale differs under a shared head.
        """
        self._append(name, energy_scale)
        if self.spec.heads == "branch":
            like = next(self.backbone.parameters())
            initialize(self.heads[name], self.seed, f"heads.{name}.")
            self.heads[name].to(like.device, like.dtype)

    def parameter_groups(self) -> dict[str, list[tuple[str, nn.Parameter]]]:
        """Return the named parameters of `backbone` and of each `head:<branch>` (`head:shared` for one head)."""
        groups = {"backbone": [(f"backbone.{name}", value) for name, value in self.backbone.named_parameters()]}
        for head, module in self.heads.items():
            groups[f"head:{head}"] = [(f"heads.{head}.{name}", value) for name, value in module.named_parameters()]
        return groups

    @property
    def targets(self) -> dict[str, Target]:
        """Return what those branches predict that predict no energy."""
        return {name: self._targets[name] for name in self.branches if name in self._targets}

    def predict(self, graph: AtomGraph, *, training: bool, forces: bool = True) -> Prediction:
        """Return what each structure's own branch predicts.

        Args:
            graph: The batch.
            training: Keep the result differentiable in the parameters, forces included.
            forces: Whether forces are wanted: without, they are NaN, and their gradient is not taken.
        """
        forces = forces and len(self.targets) < len(self.branches)
        by_gradient = forces and self.spec.forces == "gradient"
        with torch.set_grad_enabled(training or by_gradient):
            encoded = self._encode(_at_leaf(graph) if by_gradient else graph)
            energy = self._own_energy(encoded)
            if by_gradient:
                found = _forces(energy, encoded.graph.positions, training)
            else:
                found = self._head_forces(encoded) if forces else torch.full_like(graph.positions, torch.nan)
            prediction = Prediction(energy if training else energy.detach(), found)
            return self._with_targets(prediction, encoded) if self.targets else prediction

    def all_branches(self, graph: AtomGraph) -> Tensor:
        """Return the energy of every structure by every branch, eV, (num_branches, num_graphs), by one backbone pass.

        Raises:
            CampaignError: A branch predicts no energy.
        """
        return self._all_energies(self._encode(graph))

    def blend(self, graph: AtomGraph, weights: Tensor) -> Blend:
        """Return every branch's energy, and energy and forces of their weighted mean, by one backbone pass and one gradient.

        The weights must not depend on the positions (composition is fine): then the gradient is exact.

        Args:
            graph: The batch.
            weights: w_b of each structure, (num_graphs, num_branches).

        Raises:
            CampaignError: The model's forces come from heads, which have no common energy, or a branch predicts no energy.
        """
        if self.spec.forces == "head":
            raise CampaignError("blended forces need `forces: gradient`", "model.forces", "Train with gradient forces to screen.")
        with torch.enable_grad():
            encoded = self._encode(_at_leaf(graph))
            branches = self._all_energies(encoded)
            energy = (weights.t().to(branches.dtype) * branches).sum(0)
            forces = _forces(energy, encoded.graph.positions, training=False)
        return Blend(branches.detach(), energy.detach(), forces)

    def _encode(self, graph: AtomGraph) -> Encoded:
        vectors = graph.edge_vectors()
        lengths = soft_lengths(vectors)
        return Encoded(graph, vectors, lengths, self.backbone(graph, vectors, lengths))

    def _readout_rows(self, encoded: Encoded) -> tuple[Tensor, Tensor]:
        """Return what heads read, (rows, width), and the structure of each row; rows are atoms, or pooled structures."""
        graph, features = encoded.graph, encoded.features
        if self.spec.readout == "atom":
            return features, graph.graph
        pooled = base.gather_sum(features, graph.graph, graph.num_graphs)
        return pooled, torch.arange(graph.num_graphs, device=features.device)

    def _own_energy(self, encoded: Encoded) -> Tensor:
        rows, owner = self._readout_rows(encoded)
        graph = encoded.graph
        energy = rows.new_zeros(graph.num_graphs)
        for name, index in self._by_head(graph.branch[owner], self._energy_heads):
            energy = energy.index_add(0, owner[index], self._head(name).energy(rows[index]).squeeze(-1))
        return energy * self.energy_scale[graph.branch]

    def _with_targets(self, prediction: Prediction, encoded: Encoded) -> Prediction:
        """Return a prediction with the targets of the branches that have one, and without energies and forces of theirs."""
        graph, kind = encoded.graph, self.kind[encoded.graph.branch]
        pooled = base.gather_sum(encoded.features, graph.graph, graph.num_graphs) / graph.num_atoms.unsqueeze(1)
        target, owner = pooled.new_zeros(graph.num_graphs), torch.arange(graph.num_graphs, device=pooled.device)
        for name, index in self._by_head(graph.branch, set(self.targets)):
            target = target.index_add(0, owner[index], cast(TargetHead, self.heads[name])(pooled[index]))
        is_target = kind != _ENERGY
        return Prediction(
            energy=torch.where(is_target, torch.nan, prediction.energy),
            forces=torch.where(is_target[graph.graph].unsqueeze(1), torch.nan, prediction.forces),
            target=torch.where(is_target, target, torch.nan),
            is_class=kind == _CLASS,
        )

    def _all_energies(self, encoded: Encoded) -> Tensor:
        if self.targets:
            what = f"branches that predict no energy: {', '.join(self.targets)}"
            raise CampaignError(what, "branches", "Take a model whose branches all predict energies.")
        rows, owner = self._readout_rows(encoded)
        heads = [SHARED] if self.spec.heads == "shared" else list(self.branches)
        raw = torch.cat([self._head(name).energy(rows) for name in heads], -1)
        energy = base.gather_sum(raw, owner, encoded.graph.num_graphs).t()
        return energy * self.energy_scale.unsqueeze(-1)

    def _head_forces(self, encoded: Encoded) -> Tensor:
        graph, features = encoded.graph, encoded.features
        receiver = graph.edge_index[1]
        forces = features.new_zeros(features.shape[0], 3)
        for name, index in self._by_head(graph.branch[graph.graph[receiver]], self._energy_heads):
            edges = graph.edge_index[:, index]
            head = self._head(name).forces
            if head is not None:
                forces = forces.index_add(0, edges[1], head(features, edges, encoded.vectors[index], encoded.lengths[index]))
        return forces * self.force_scale

    def _head(self, name: str) -> Head:
        return cast(Head, self.heads[name])

    @property
    def _energy_heads(self) -> set[str]:
        return set(self.heads) - set(self._targets)

    def _by_head(self, branch: Tensor, wanted: set[str]) -> list[tuple[str, Tensor | slice]]:
        if self.spec.heads == "shared":
            return [(SHARED, slice(None))]
        rows = [(self.branches[index], rows) for index, rows in split_by_branch(branch, len(self.branches))]
        return [(name, index) for name, index in rows if name in wanted]

    def _append(self, name: str, energy_scale: float) -> None:
        if name in self.branches:
            raise CampaignError(f"branch '{name}' is there already", "branches", "Give the new branch another name.")
        shared = self.spec.heads == "shared"
        if shared and name == SHARED:
            raise CampaignError(f"'{name}' is the name of the one head", "branches", "Give the branch another name.")
        if shared and name in self._targets:
            raise CampaignError(f"'{name}' predicts no energy", "model.heads", "Give each branch a head of its own.")
        if shared and self.branches and energy_scale != self._scale:
            raise CampaignError("one head for all branches needs one energy scale", "model.heads", "Give every branch the same.")
        if not shared:
            self._add_head(name)
        self.branches, self._scale = (*self.branches, name), energy_scale
        self.energy_scale = torch.cat([self.energy_scale, self.energy_scale.new_tensor([energy_scale])])
        target = self._targets.get(name)
        kind = _ENERGY if target is None else _CLASS if target.kind == "class" else _SCALAR
        self.kind = torch.cat([self.kind, self.kind.new_tensor([kind])])

    def _add_head(self, name: str) -> None:
        try:
            self.heads[name] = (TargetHead if name in self._targets else Head)(self.spec, self.backbone.width)
        except (KeyError, TypeError) as error:
            raise CampaignError(f"a branch cannot be called '{name}'", "branches", "Use letters, digits and '_'.") from error


def make_backbone(spec: ModelSpec, neighborhood: base.Neighborhood) -> base.Backbone:
    """Build the backbone that `spec` names.

    Raises:
        CampaignError: No such backbone, or its options are wrong.
    """
    checked = registry.backbone_options(spec.backbone).model_dump()
    module = importlib.import_module(f"model.backbones.{checked['name']}")
    backbone: base.Backbone = module.Backbone(module.Config.model_validate(checked), spec, neighborhood)
    return backbone


def neighbor_statistics(spec: ModelSpec) -> Mapping[str, base.NeighborStatistic]:
    """Return what the backbone that `spec` names wants to know of the training split, by name.

    Raises:
        CampaignError: No such backbone, or its options are wrong.
    """
    name = registry.backbone_options(spec.backbone).model_dump()["name"]
    kind: type[base.Backbone] = importlib.import_module(f"model.backbones.{name}").Backbone
    return kind.neighbor_statistics


def unit_statistics(spec: ModelSpec, num_branches: int, average_neighbors: float = 1.0) -> Statistics:
    """Return statistics of no data, every mean and scale 1: for a model that is built to be looked at."""
    means = dict.fromkeys(neighbor_statistics(spec), 1.0)
    return Statistics(average_neighbors, (1.0,) * num_branches, neighbor_means=means)


def _at_leaf(graph: AtomGraph) -> AtomGraph:
    return graph.with_(positions=graph.positions.detach().requires_grad_(True))


def _forces(energy: Tensor, positions: Tensor, training: bool) -> Tensor:
    """Return −dΣE/dx, (num_atoms, 3); each structure's energy depends on its own atoms only."""
    (gradient,) = torch.autograd.grad(energy.sum(), positions, create_graph=training)
    return -gradient
