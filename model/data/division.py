"""Divide one task's structures by rules of its own: cross-validation folds, or the parts that its source was published in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.data.block import Block
from model.data.splits import NAMES, TEST, TRAIN, VALIDATION, split, uniform
from model.outcome import CampaignError
from model.specs import Division, Splits

PARTS = {"train": TRAIN, "val": VALIDATION, "test": TEST}
"""Names of published parts as ids have them: `HEA/val/17`."""


def divide(block: Block, splits: Splits, division: Division | None) -> NDArray[np.uint8]:
    """Return the split of each structure of a whole store, in its order: 0 train, 1 validation, 2 test.

    Of what a fold leaves, identities validate whose hash falls below the splits' share: copies of one molecule never stand on
    both sides of the choice of an epoch, whatever the fold does.

    Args:
        block: The store, whole.
        splits: The campaign's; all there is where the task has no rules of its own.
        division: The task's rules, or None.

    Raises:
        CampaignError: There are fewer structures than folds, or an id names no published part.
    """
    if division is None:
        return split(block.identity, splits)
    if division.by == "part":
        return _published(block)
    validates = uniform(block.identity, splits.seed) < splits.validation
    found = np.where(validates, VALIDATION, TRAIN).astype(np.uint8)
    found[folds(block, division) == division.fold] = TEST
    return found


def each_fold(division: Division | None) -> list[Division | None]:
    """Return a division once for each fold that can be tested; what has no folds once."""
    if division is None or division.by == "part":
        return [division]
    return [division.model_copy(update={"fold": fold}) for fold in range(division.folds)]


def folds(block: Block, division: Division) -> NDArray[np.int64]:
    """Return the fold of each structure, (n,).

    By row they are scikit-learn's `KFold`, or `StratifiedKFold` over the classes, with `shuffle=True`: those of Matbench
    v0.1 (Dunn et al., npj Comput. Mater. 6, 138, 2020) for `seed` 18012019, as long as no row is missing. By identity all
    structures of one identity fall into one.

    Raises:
        CampaignError: There are fewer structures (or identities) than folds.
    """
    if division.by == "row":
        return _stratified(block.target, division) if division.stratified else _shuffled(len(block), division)
    values, place = np.unique(block.identity, return_inverse=True)
    return _shuffled(len(values), division)[place]


def _shuffled(count: int, division: Division) -> NDArray[np.int64]:
    _require_enough(count, division)
    order = np.arange(count)
    np.random.RandomState(division.seed).shuffle(order)
    found = np.empty(count, np.int64)
    for fold, rows in enumerate(np.array_split(order, division.folds)):
        found[rows] = fold
    return found


def _stratified(classes: NDArray[np.float64], division: Division) -> NDArray[np.int64]:
    """Return folds that have equal shares of each class; classes count in the order in which they come first."""
    _require_enough(len(classes), division)
    _, first, inverse = np.unique(classes, return_index=True, return_inverse=True)
    encoded = np.argsort(np.argsort(first))[inverse]
    ordered, random = np.sort(encoded), np.random.RandomState(division.seed)
    shares = [np.bincount(ordered[fold :: division.folds], minlength=len(first)) for fold in range(division.folds)]
    found = np.empty(len(classes), np.int64)
    for each in range(len(first)):
        mine = np.repeat(np.arange(division.folds), [share[each] for share in shares])
        random.shuffle(mine)
        found[encoded == each] = mine
    return found


def _published(block: Block) -> NDArray[np.uint8]:
    found = np.full(len(block), len(NAMES), np.uint8)
    for name, place in PARTS.items():
        found[np.char.find(block.raw_ids, f"/{name}/".encode()) >= 0] = place
    if (found == len(NAMES)).any():
        example = block.ids[np.flatnonzero(found == len(NAMES))[0]]
        raise CampaignError(f"'{example}' names no published part", "division.by", "Divide by row, by identity, or not at all.")
    return found


def _require_enough(count: int, division: Division) -> None:
    if count < division.folds:
        raise CampaignError(f"{count} to divide into {division.folds} folds", "division.folds", "Take fewer folds, or more data.")
