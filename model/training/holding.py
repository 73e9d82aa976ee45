"""Read a rank's share of a branch into the windows of a group, one pass, block by block."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from model.config import TrainConfig
from model.data import splits as splitting
from model.data.block import pack
from model.data.division import divide
from model.data.groups import Group
from model.data.loader import build_edges, with_edges
from model.data.part import outlines
from model.data.share import Share
from model.data.store import Store
from model.data.window import MOST_EDGES, Form, Rows, Window
from model.outcome import CampaignError
from model.parallel import Ranks
from model.specs import Division, ModelSpec, Splits
from model.training.survey import Survey

_SPLITS = (splitting.TRAIN, splitting.VALIDATION)
_DENSEST = 2.0
"""Atoms in a cubic Å, ten times as dense as matter: room for neighbour lists is reserved by it, which costs no memory."""
_SAMPLE = 16
_FOR_DATA = 0.8
"""Share of a node's memory that data may take; the rest is for the ranks themselves."""


Places = NDArray[np.uint8]


def hold(
    store: Store, model: ModelSpec, splits: Splits, group: Group, division: Division | None = None
) -> tuple[Window, Window, Survey]:
    """Read this rank's share of a store; return training and validation split and what was found out, the same on all ranks.

    The share is read once, some thousand structures at a time, straight into its place: no rank ever has more than a block
    beside it. A task that is divided by rules of its own is read before, without its atoms: folds are of all structures.

    Raises:
        CampaignError: A shard cannot be read, or there is not enough memory.
    """
    share = Share.of(store, group.rank, group.size)
    atoms, width = share.extent()
    places = None if division is None else divide(outlines(store), splits, division)
    width = max(1, *group.allgather(width))
    edges = min(atoms * _most_neighbors(model), MOST_EDGES // len(group.neighbors))
    room = Rows(len(share), atoms, edges)
    for wide in (False, True):
        form = Form(width, model.cutoff, model.max_neighbors, wide)
        windows = {split: Window(group, form, room) for split in _SPLITS}
        survey = _fill(windows, share, model, splits, places)
        if all(group.allgather(survey is not None)):
            break
    for window in windows.values():
        window.seal()
    assert survey is not None  # wide rows hold any lists
    return windows[_SPLITS[0]], windows[_SPLITS[1]], group.combine(survey, lambda a, b: Survey.sum([a, b]))


def require_room(config: TrainConfig, parts: Mapping[str, tuple[int, int]], ranks: Ranks) -> None:
    """Refuse data that the nodes cannot hold, before any of them is read; all ranks call and agree.

    Args:
        config: The training.
        parts: This rank's place among the ranks that share each of its branches, and their number.
        ranks: All ranks.

    Raises:
        CampaignError: Names the node that would hold most.
    """
    needed: Counter[str] = Counter()
    for host, size in ranks.allgather((ranks.hosts[ranks.rank], _bytes(config, parts))):
        needed[host] += size
    host, most = needed.most_common(1)[0]
    memory = min(ranks.allgather(_memory_gb(config))) * 1e9
    if most > _FOR_DATA * memory:
        what = f"{most / 1e9:.3g} GB of data on {host}, of whose {memory / 1e9:.3g} GB they may take {_FOR_DATA:.0%}"
        remedy = "Use more nodes, a larger `width`, a smaller cutoff, or `max_neighbors`."
        raise CampaignError(what, "branches", remedy)


def _fill(windows: Mapping[int, Window], share: Share, model: ModelSpec, splits: Splits, places: Places | None) -> Survey | None:
    """Write a share into windows; None where their rows are too narrow for its neighbour lists."""
    has_target = share.store.target is not None
    surveys = []
    for first, block in share.blocks():
        known = None if places is None else places[first : first + len(block)]
        place = splitting.split(block.identity, splits) if known is None else known
        parts = {s: with_edges(block.take(place == s), model.cutoff, model.max_neighbors) for s in _SPLITS}
        if not all(windows[s].form.holds(part.edges) for s, part in parts.items()):
            return None
        for split, part in parts.items():
            windows[split].append(part)
        surveys.append(Survey.of(first, block, parts[splitting.TRAIN], model, has_target=has_target))
    if not surveys:  # fewer structures than ranks
        nothing = with_edges(pack([]), model.cutoff, model.max_neighbors)
        surveys.append(Survey.of(share.start, nothing, nothing, model, has_target=has_target))
    return Survey.sum(surveys)


def _most_neighbors(model: ModelSpec) -> int:
    sphere = math.ceil(4 / 3 * math.pi * model.cutoff**3 * _DENSEST)
    return sphere if model.max_neighbors is None else model.max_neighbors


def _bytes(config: TrainConfig, parts: Mapping[str, tuple[int, int]]) -> int:
    """Estimate what this rank's shares take: counts by the manifests, edges an atom by a few structures of each share."""
    total = 0
    for name, (rank, size) in parts.items():
        share = Share.of(Store.open(config.branches[name].store), rank, size)
        if len(share):
            block = share.store.read(share.start, min(share.start + _SAMPLE, share.stop))
            edges = len(build_edges(block, config.model.cutoff, config.model.max_neighbors).sender) / max(len(block.numbers), 1)
            atoms = share.store.num_atoms / size
            form = Form(block.raw_ids.dtype.itemsize)
            index = 16 * share.store.num_structures
            total += int(atoms * (49 + edges * form.edge.itemsize) + len(share) * form.structure.itemsize + index)
    return total


def _memory_gb(config: TrainConfig) -> float:
    if config.node_memory_gb is not None:
        return config.node_memory_gb
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
