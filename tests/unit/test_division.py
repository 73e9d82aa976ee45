"""Folds are scikit-learn's, published parts those that ids name; neither divides an identity between training and validation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.model_selection import KFold, StratifiedKFold
from structures import random_block

from model.data.block import Block
from model.data.division import divide, folds
from model.data.splits import TEST, TRAIN, VALIDATION
from model.outcome import CampaignError
from model.specs import Division, Splits

SPLITS = Splits(seed=3, validation=0.3, test=0.2)


def block_of(count: int, identities: int | None = None) -> Block:
    rng = np.random.default_rng(1)
    block = random_block(count)
    identity = rng.integers(1 << 60, size=identities or count, dtype=np.uint64)
    target = (rng.random(count) < 0.37).astype(float)
    return replace(block, identity=identity[rng.permutation(count) % len(identity)], target=target)


@pytest.mark.parametrize("count", [17, 40])
@pytest.mark.parametrize("number", [2, 5])
def test_folds_by_row_are_those_of_scikit_learn(count: int, number: int) -> None:
    block = block_of(count)
    plain = KFold(number, shuffle=True, random_state=18012019).split(np.zeros(count))
    even = StratifiedKFold(number, shuffle=True, random_state=18012019).split(np.zeros(count), block.target)
    for stratified, expected in ((False, plain), (True, even)):
        for fold, (_, test) in enumerate(expected):
            found = divide(block, SPLITS, Division(folds=number, fold=fold, stratified=stratified))
            assert np.flatnonzero(found == TEST).tolist() == test.tolist()


@pytest.mark.parametrize("by", ["row", "identity"])
def test_every_structure_is_tested_once_and_validation_shares_no_identity_with_training(by: str) -> None:
    block = block_of(60, identities=20)
    every = [divide(block, SPLITS, Division(by=by, fold=fold)) for fold in range(5)]
    assert (sum(found == TEST for found in every) == 1).all()
    for found in every:
        parts = [set(block.identity[found == part]) for part in (TRAIN, VALIDATION, TEST)]
        assert all(parts)
        assert not parts[0] & parts[1]
        assert bool(parts[2] & (parts[0] | parts[1])) == (by == "row")


def test_published_parts_are_read_from_the_ids() -> None:
    names = [f"HEA/{part}/{k}" for k in range(3) for part in ("train", "val", "test")]
    block = replace(block_of(9), raw_ids=np.array([name.encode() for name in names]))
    assert divide(block, SPLITS, Division(by="part")).tolist() == [TRAIN, VALIDATION, TEST] * 3
    with pytest.raises(CampaignError, match="'0' names no published part"):
        divide(block_of(9), SPLITS, Division(by="part"))


def test_what_cannot_be_divided_is_refused() -> None:
    with pytest.raises(CampaignError, match="4 to divide into 5 folds"):
        folds(block_of(4), Division())
    with pytest.raises(ValidationError, match="there is no fold 5"):
        Division(fold=5)
    with pytest.raises(ValidationError, match="`by: row` only"):
        Division(by="identity", stratified=True)
