"""What a backbone wants to know of the training split's neighbours, summed over atoms."""

from __future__ import annotations

import math

import numpy as np
import torch

from model.data.block import Block
from model.data.loader import collate
from model.layers.radial import soft_lengths
from model.multitask import neighbor_statistics
from model.specs import ModelSpec

_STRUCTURES_AT_ONCE = 1024


def neighbor_sums(block: Block, spec: ModelSpec) -> dict[str, float]:
    """Return the sums over a block's atoms of the backbone's `neighbor_statistics`, by name.

    Each part's sum is rounded once (`math.fsum`), so that neither threads nor processors change a bit of it.

    Args:
        block: Structures, neighbour lists built.
        spec: The model.
    """
    wanted = neighbor_statistics(spec)
    if not wanted:
        return {}
    parts: dict[str, list[float]] = {name: [] for name in wanted}
    for start in range(0, len(block), _STRUCTURES_AT_ONCE):
        part = block.take(np.arange(start, min(start + _STRUCTURES_AT_ONCE, len(block))))
        graph = collate([(0, part)], spec.cutoff, spec.max_neighbors, [None], torch.float64)
        lengths = soft_lengths(graph.edge_vectors())
        for name, function in wanted.items():
            values = function(lengths, graph.edge_index[1], len(graph.numbers), spec.cutoff)
            parts[name].append(math.fsum(values.tolist()))
    return {name: math.fsum(sums) for name, sums in parts.items()}
