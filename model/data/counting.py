"""Count the edges of each structure of a store within a cutoff, once, and keep the counts beside the store.

`python -m model.data.counting STORE --cutoff 5 [--max-neighbors 20]`, on one process or as MPI ranks, which divide the
shards; a shard that is counted is not counted again. Prints a summary as JSON; `campaign datasets edges` shows it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.data.block import Block
from model.data.shard import file_hash, read_shard
from model.data.store import MANIFEST, Store
from model.neighbors import neighbor_list
from model.outcome import CampaignError, read_json, write_bytes, write_json
from model.parallel import Ranks, discover

COUNTS = "counts.json"
_AT_ONCE = 4096
_QUANTILES = (0.5, 0.9, 0.99)


def main(argv: Sequence[str] | None = None) -> int:
    """Count, and print what came out; the exit code is 1 where there is no store."""
    parser = argparse.ArgumentParser(prog="python -m model.data.counting", description=__doc__)
    parser.add_argument("store", type=Path, help="folder of a store")
    parser.add_argument("--cutoff", type=float, required=True, help="Å")
    parser.add_argument("--max-neighbors", type=int, help="cap on the neighbours of an atom; none without it")
    given = parser.parse_args(argv)
    ranks = discover()
    try:
        store = Store.open(given.store)
        found = summary(store, edge_counts(store, given.cutoff, given.max_neighbors, ranks))
    except CampaignError as error:
        found = {"what": error.what, "where": error.where, "remedy": error.remedy}
    if ranks.is_first:
        sys.stdout.write(json.dumps(found) + "\n")
    return int("what" in found)


def edge_counts(store: Store, cutoff: float, max_neighbors: int | None, ranks: Ranks) -> NDArray[np.uint32]:
    """Return the edges of each structure, in the order of the store, (n,); what was counted before is read.

    Args:
        store: Open.
        cutoff: Å.
        max_neighbors: Cap on the neighbours of an atom, or None.
        ranks: Divide the shards; all of them call this, and all get the counts.

    Raises:
        CampaignError: No cutoff, or a shard that cannot be read.
    """
    if not 0 < cutoff < math.inf:
        raise CampaignError(f"a cutoff of {cutoff:g} Å is no length", "--cutoff", "Give one above zero in Å, such as 5.")
    if max_neighbors is not None and max_neighbors < 1:
        what = f"a cap of {max_neighbors} leaves no neighbour"
        raise CampaignError(what, "--max-neighbors", "Give one above zero, or leave it out.")
    folder = counts_folder(store, cutoff, max_neighbors)
    shards = store.manifest["shards"]
    for number in range(ranks.rank, len(shards), ranks.size):
        path = _part(folder, shards[number])
        if not path.is_file() or path.stat().st_size != 4 * shards[number]["structures"]:
            folder.mkdir(parents=True, exist_ok=True)
            write_bytes(path, _count(store.folder / shards[number]["folder"], shards[number], cutoff, max_neighbors).tobytes())
    ranks.barrier()
    if ranks.is_first and "edges" not in (read_json(folder / COUNTS) or {}):  # earlier releases did not say how they vary
        _describe(store, folder, cutoff, max_neighbors)
    ranks.barrier()
    parts = [np.fromfile(_part(folder, shard), "<u4") for shard in shards]
    return np.concatenate([np.zeros(0, np.uint32), *parts]).astype(np.uint32, copy=False)


def counts_folder(store: Store, cutoff: float, max_neighbors: int | None) -> Path:
    """Return where counts stand: beside the store, under a key made of its manifest's hash, cutoff and cap."""
    cap = "none" if max_neighbors is None else str(max_neighbors)
    key = f"{store_hash(store)} {float(cutoff)!r} {cap}"
    beside = store.folder.absolute()
    return beside.with_name(f"{beside.name}.edges") / hashlib.sha256(key.encode()).hexdigest()[:16]


def store_hash(store: Store) -> str:
    """Return the SHA-256 of the manifest, which holds the hashes of all that is in the store."""
    return file_hash(store.folder / MANIFEST)


def summary(store: Store, counts: NDArray[np.uint32]) -> dict[str, Any]:
    """Return what a batch's budget is chosen by: edges in all, per structure on average, at quantiles and at most."""
    several = {f"{100 * q:g} %": int(np.quantile(counts, q, method="higher")) for q in _QUANTILES} if len(counts) else {}
    about = {"structures": len(counts), "atoms": store.num_atoms, "edges": int(counts.sum(dtype=np.int64))}
    return {"name": store.name, **about, "quantiles": several, "largest": int(counts.max(initial=0))}


def _count(shard: Path, about: dict[str, Any], cutoff: float, cap: int | None) -> NDArray[np.uint32]:
    starts = range(0, about["structures"], _AT_ONCE)
    blocks = (read_shard(shard, start, min(start + _AT_ONCE, about["structures"])) for start in starts)
    return np.concatenate([_of_block(block, cutoff, cap) for block in blocks])


def _of_block(block: Block, cutoff: float, cap: int | None) -> NDArray[np.uint32]:
    pairs, _ = neighbor_list(block.positions, block.offsets, block.cell, block.pbc, cutoff, cap)
    return np.diff(np.searchsorted(pairs[1], block.offsets)).astype("<u4")  # edges are sorted by receiver


def _describe(store: Store, folder: Path, cutoff: float, cap: int | None) -> None:
    names = {shard["folder"]: _part(folder, shard) for shard in store.manifest["shards"]}
    files = [{"shard": shard, "name": path.name, "sha256": file_hash(path)} for shard, path in names.items()]
    about = {"store_sha256": store_hash(store), "cutoff_angstrom": float(cutoff), "max_neighbors": cap}
    counts = np.concatenate([np.zeros(0, "<u4"), *(np.fromfile(path, "<u4") for path in names.values())]).astype(np.float64)
    spread = {"mean": float(counts.mean()), "deviation": float(counts.std()), "largest": int(counts.max())} if len(counts) else {}
    write_json(folder / COUNTS, {**about, "structures": store.num_structures, "edges": spread, "files": files})


def _part(folder: Path, shard: dict[str, Any]) -> Path:
    return folder / f"{Path(shard['folder']).stem}.u32"


if __name__ == "__main__":
    sys.exit(main())
