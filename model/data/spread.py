"""What references do to a branch: energies an atom before and after them, and forces, as histograms of a sample of its store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from model.data.block import Block, concatenate, pack
from model.data.references import References
from model.data.shard import read_shard

if TYPE_CHECKING:
    from model.data.store import Store

MOST_STRUCTURES, MOST_SHARDS = 20_000, 64
BINS = 48
_ENDS = (0.005, 0.995)
"""Quantiles between which a histogram lies; what is outside is counted in its outermost bins."""


def spreads(store: Store, fitted: References | None) -> dict[str, Any]:
    """Return histograms with mean and standard deviation, of all splits; without a label, without its histogram.

    Args:
        store: Its shards; neither its manifest's counts nor its references are asked.
        fitted: Its references.

    Returns:
        `structures` looked at, and any of `energy_ev_per_atom`, `residual_ev_per_atom` and `force_ev_per_angstrom` (the
        length of each atom's force), each with `count`, `mean`, `std`, `low`, `high` and `counts` of equal bins between them.
    """
    block = _sample(store)
    energy = block.energy / block.num_atoms
    reference = np.full(len(block), np.nan) if fitted is None else fitted.of(block.numbers, block.offsets)
    quantities = {
        "energy_ev_per_atom": energy,
        "residual_ev_per_atom": (block.energy - reference) / block.num_atoms,
        "force_ev_per_angstrom": np.sqrt((block.forces**2).sum(axis=1)),
    }
    known = {name: values[np.isfinite(values)] for name, values in quantities.items()}
    return {"structures": len(block), **{name: _histogram(values) for name, values in known.items() if len(values)}}


def _sample(store: Store) -> Block:
    """Return the first structures of some shards, spread evenly over the store."""
    shards = store.manifest["shards"]
    chosen = np.unique(np.linspace(0, len(shards) - 1, min(len(shards), MOST_SHARDS)).round().astype(int)).tolist()
    each = -(-MOST_STRUCTURES // max(1, len(chosen)))
    parts = [read_shard(store.folder / shards[k]["folder"], 0, min(each, shards[k]["structures"])) for k in chosen]
    return concatenate([pack([]), *parts])


def _histogram(values: NDArray[np.float64]) -> dict[str, Any]:
    low, high = (float(each) for each in np.quantile(values, _ENDS))
    if not high > low:
        low, high = low - 0.5, high + 0.5
    counts, _ = np.histogram(np.clip(values, low, high), BINS, (low, high))
    about = {"count": len(values), "mean": float(values.mean()), "std": float(values.std())}
    return {**about, "low": low, "high": high, "counts": counts.tolist()}
