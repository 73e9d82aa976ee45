"""How much of a task stands in what a model was trained on: `python -m model leakage`.

Branches are divided by the campaign's splits, a task by rules of its own where it has some: published parts, or folds over rows,
put into the test split what branches have trained on. Where the task too goes by the splits, no identity of its test split is a
training identity of a branch, and the table shows that it is so. Where identities are finer than molecules (frames of one,
conformers) that says little: so the same is counted by composition, which over-counts, since isomers and phases share one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.config import LeakageConfig
from model.data import splits as splitting
from model.data.division import divide, each_fold
from model.data.part import outlines
from model.data.shard import Names, read_names
from model.data.store import Store
from model.outcome import Outcome, Status
from model.parallel import Ranks
from model.progress import Progress
from model.specs import Division, Splits

_AT_ONCE = 8192
_ELEMENTS = 119
_KEYS = splitting.mix(np.arange(_ELEMENTS, dtype=np.uint64))
KINDS = ("identity", "composition")


def run(config: LeakageConfig, folder: Path, ranks: Ranks) -> Outcome:
    """Compare a task with branches, the ranks dividing the shards of each.

    Raises:
        CampaignError: A store is missing or cannot be read.
    """
    progress = Progress(folder, writes=ranks.is_first, every_s=config.progress_every_s, owner=config.owner)
    stores = {name: Store.open(path) for name, path in config.against.items()}
    found = leakage(Store.open(config.task), stores, config.splits, ranks, progress, config.division)
    return Outcome(Status.DONE, result=found)


def leakage(
    task: Store,
    against: dict[str, Store],
    splits: Splits,
    ranks: Ranks,
    progress: Progress | None = None,
    division: Division | None = None,
) -> dict[str, Any]:
    """Return how many structures of each split of a task stand in the training split of each branch.

    Args:
        task: Store of the task.
        against: Stores of branches.
        splits: What the branches are divided by.
        ranks: Divide the shards.
        progress: Told after each shard.
        division: How the task is divided; None: by `splits` too.

    Returns:
        `divisions`: one for each fold of the task, one in all where it has none. Each has the `structures` of each split of
        the task, and `branches`: for each, by `identity` and by `composition`, structures of each split of the task that its
        training split holds too; under `itself`, what the task's own training split holds. `unseen`: by branch, what of it no
        count by identity shows.

    Raises:
        CampaignError: A store cannot be read, or not be divided so.
    """
    mine = [part for shard in task.manifest["shards"] for part in _parts(task, shard)]
    own = {kind: np.concatenate([np.zeros(0, np.uint64), *(_keys(part)[kind] for part in mine)]) for kind in KINDS}
    held = {name: _held(store, own, splits, ranks, progress) for name, store in against.items()}
    if division is None:
        divided = [splitting.split(own["identity"], splits)]
    else:
        outline = outlines(task)
        divided = [divide(outline, splits, each) for each in each_fold(division)]
    unseen = {name: told for name, store in against.items() if (told := store.manifest["source"].get("unseen"))}
    return {"task": task.name, "divisions": [_counted(own, part_of, held) for part_of in divided], "unseen": unseen}


def _counted(
    own: dict[str, NDArray[np.uint64]], part_of: NDArray[np.uint8], held: dict[str, dict[str, NDArray[np.uint64]]]
) -> dict[str, Any]:
    """Return what each branch's training split, and the task's own, hold of the task's splits in one division.

    Args:
        own: Keys of the task's structures by kind, each (n,).
        part_of: Their splits, (n,).
        held: For each branch and kind, which of the keys its training split holds.
    """
    itself = {kind: keys[part_of == splitting.TRAIN] for kind, keys in own.items()}
    table = {
        name: {kind: _counts(np.isin(own[kind], keys[kind]), part_of) for kind in KINDS}
        for name, keys in {**held, "itself": itself}.items()
    }
    return {"structures": _named(np.bincount(part_of, minlength=3)), "branches": table}


def _held(
    store: Store, wanted: dict[str, NDArray[np.uint64]], splits: Splits, ranks: Ranks, progress: Progress | None
) -> dict[str, NDArray[np.uint64]]:
    """Return which keys of a task the training split of a store holds; memory follows the task, not the store."""
    found: dict[str, list[NDArray[np.uint64]]] = {kind: [np.zeros(0, np.uint64)] for kind in KINDS}
    shards = store.manifest["shards"]
    for number in range(ranks.rank, len(shards), ranks.size):
        for part in _parts(store, shards[number]):
            keys = _keys(part)
            training = splitting.split(keys["identity"], splits) == splitting.TRAIN
            for kind in KINDS:
                found[kind].append(np.intersect1d(keys[kind][training], wanted[kind]))
        if progress is not None:
            progress.update(f"compare with {store.name}", number + 1, len(shards), "shards")
    joined = {kind: np.unique(np.concatenate(parts)) for kind, parts in found.items()}
    shared = ranks.allgather(joined)
    return {kind: np.unique(np.concatenate([each[kind] for each in shared])) for kind in KINDS}


def _parts(store: Store, shard: dict[str, Any]) -> Iterator[Names]:
    for start in range(0, shard["structures"], _AT_ONCE):
        yield read_names(store.folder / shard["folder"], start, min(start + _AT_ONCE, shard["structures"]))


def _keys(names: Names) -> dict[str, NDArray[np.uint64]]:
    return {"identity": names.identity, "composition": compositions(names.numbers, names.offsets)}


def compositions(numbers: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return a 64-bit hash of each structure's reduced formula, (n,).

    Args:
        numbers: Atomic numbers, (num_atoms,).
        offsets: First atom of each structure, (n + 1,), from 0.
    """
    count = len(offsets) - 1
    structure = np.repeat(np.arange(count), np.diff(offsets))
    atoms = np.bincount(structure * _ELEMENTS + numbers, minlength=count * _ELEMENTS).reshape(count, _ELEMENTS)
    reduced = atoms // np.maximum(np.gcd.reduce(atoms, axis=1), 1)[:, None]
    return splitting.mix((splitting.mix(reduced.astype(np.uint64) ^ _KEYS) * (reduced > 0)).sum(axis=1, dtype=np.uint64))


def _counts(mask: NDArray[np.bool_], part_of: NDArray[np.uint8]) -> dict[str, int]:
    return _named(np.bincount(part_of[mask], minlength=3))


def _named(counts: NDArray[np.integer]) -> dict[str, int]:
    return {name: int(n) for name, n in zip(splitting.NAMES, counts, strict=True)}
